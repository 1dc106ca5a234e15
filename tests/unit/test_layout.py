"""The shape of the package: sizes, comments, parameters, names and imports.

`ruff` and `import-linter` check what they can; this is the rest, and what they would let pass.
"""

import ast
import io
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import cipipe

PACKAGE = Path(cipipe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 400
MEDIAN_LINES = 150
LONGEST_LINE = 100
MOST_PARAMETERS = 6
COMMENTS_PER_100 = 3


def shown(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def test_modules_are_short() -> None:
    sizes = {shown(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}
    assert statistics.median(sizes.values()) < MEDIAN_LINES


def test_lines_are_short() -> None:
    long = [
        f"{shown(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]
    assert long == []


def test_functions_take_few_parameters() -> None:
    """Below `cli/`, where click makes a parameter of every option."""
    many = [
        f"{shown(path)}:{function.lineno} {function.name}: {count}"
        for path in MODULES
        if PACKAGE / "cli" not in path.parents
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if (count := len(parameters(function))) > MOST_PARAMETERS
    ]
    assert many == []


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [one.arg for one in every if one.arg not in {"self", "cls"}]


def test_public_classes_have_names_of_their_own() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(shown(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_comments_say_why() -> None:
    comments = sum(count_comments(path.read_text()) for path in MODULES)
    code = sum(count_code(path.read_text()) for path in MODULES)
    assert 100 * comments / code >= COMMENTS_PER_100


def count_comments(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def count_code(source: str) -> int:
    """Lines that are neither blank, nor a comment, nor part of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str) and node.end_lineno is not None:
            documented.update(range(node.lineno, node.end_lineno + 1))

    code = 0
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#") and number not in documented:
            code += 1
    return code


def test_no_import_circles_when_modules_load() -> None:
    graph = {name: set(imports(name, deferred=False)) for name in NAMES}
    assert circles(graph) == []


def test_no_import_circles_hidden_in_functions() -> None:
    """An import in a function, or for type checkers only, may be there to hide a circle."""
    graph = {name: set(imports(name, deferred=True)) for name in NAMES}
    assert circles(graph) == []


def imports(name: str, *, deferred: bool) -> Iterator[str]:
    """The modules of the package that a module imports, with those of its functions if asked."""
    for node in statements(ast.parse(NAMES[name].read_text()), deferred=deferred):
        for imported in targets(node):
            if imported != name:
                yield imported


def statements(node: ast.AST, *, deferred: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        postponed = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        if deferred or not postponed:
            yield from statements(child, deferred=deferred)


def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules that a statement names; the package has absolute imports only."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    else:
        assert node.level == 0
        found = []
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            found.append(submodule if submodule in NAMES else str(node.module))
    return (name for name in found if name in NAMES)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """One path for each group of modules that import each other: `a → b → a`."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        for imported in sorted(graph[name]):
            visit(imported, [*path, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b", "a"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, [["b", "c", "b"]]),
    ],
)
def test_circles_are_found(graph: Mapping[str, set[str]], expected: list[list[str]]) -> None:
    assert circles(graph) == expected


def test_comments_and_code_are_counted() -> None:
    source = '"""Two\nlines."""\n\n# why\nx = 1  # unit\n\ndef f() -> None:\n    """Doc."""\n'
    assert (count_comments(source), count_code(source)) == (2, 2)
