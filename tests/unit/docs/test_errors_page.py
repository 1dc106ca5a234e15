"""docs/errors.md has a section for every error id, under its exit status."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from cipipe import errors
from support.markdown import DOCS, ROOT, headings, rows, section

SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@cache
def sources() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text()) for path in sorted((ROOT / "cipipe").rglob("*.py")))


@cache
def classes() -> dict[str, ast.ClassDef]:
    return {
        node.name: node
        for tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def bases(name: str) -> list[str]:
    return [
        base.id
        for base in classes()[name].bases
        if isinstance(base, ast.Name) and base.id in classes()
    ]


def status_of(name: str) -> int | None:
    """The exit status of an error class; None for any other class."""
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, errors.CipipeError):
        return known.exit_status
    return next((status for base in bases(name) if (status := status_of(base)) is not None), None)


def carries_id(name: str) -> bool:
    """Whether a class takes an id and then a message: errors, problems, findings."""
    body = classes()[name].body

    # The parameters of __init__, or else the fields of a struct or dataclass.
    init = next(
        (item for item in body if isinstance(item, ast.FunctionDef) and item.name == "__init__"),
        None,
    )
    if init is not None:
        names = [argument.arg for argument in init.args.args[1:]]
    else:
        names = [
            item.target.id
            for item in body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        ]

    # `slug` and `name` are what findings and checks call their id.
    if names:
        return names[0] in {"id", "name", "slug"} and "message" in names
    return init is None and any(carries_id(base) for base in bases(name))


def literals(node: ast.expr) -> list[str]:
    """The strings that an expression may be: a literal, or a choice between literals."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def given_id(call: ast.Call) -> ast.expr | None:
    """The argument of a call that is the id: the first one, or the one called `id`."""
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == "id"), None)


def with_ids(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every call that sets an id: the class, and the argument that is the id."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            argument = given_id(node)
            if argument and node.func.id in classes() and carries_id(node.func.id):
                yield node.func.id, argument
        # An error class with a fixed id passes it to its base class.
        elif isinstance(node, ast.ClassDef) and status_of(node.name) is not None:
            for call in ast.walk(node):
                if (
                    isinstance(call, ast.Call)
                    and call.args
                    and ast.unparse(call.func) == "super().__init__"
                ):
                    yield node.name, call.args[0]


@cache
def ids_in_source() -> dict[str, frozenset[int]]:
    """Every id, with the exit statuses that it is raised with (none if it is only data).

    If a module passes an id that is not a literal, all its strings count that look like an id of a
    known family (`oidc-…`): such ids are in tables, tuples and arguments.
    """
    found: dict[str, set[int]] = {}
    indirect = []

    # First the ids that are literals, which also tell the families.
    for tree in sources():
        for name, argument in with_ids(tree):
            status = status_of(name)
            for text in literals(argument):
                found.setdefault(text, set()).update(set() if status is None else {status})
            if not literals(argument):
                indirect.append(tree)

    # Then the ids in modules that pass them on.
    families = {name.partition("-")[0] for name in found if "-" in name}
    for tree in indirect:
        for node in ast.walk(tree):
            for text in literals(node) if isinstance(node, ast.Constant) else ():
                if "-" in text and SLUG.fullmatch(text) and text.partition("-")[0] in families:
                    found.setdefault(text, set())

    return {name: frozenset(statuses) for name, statuses in found.items()}


def documented_errors() -> list[tuple[str, int]]:
    """The sections of docs/errors.md, each with the exit status it is under."""
    found = []
    status = 0
    for level, title in headings(DOCS / "errors.md"):
        if level == 1 and (match := re.match(r"Exit status (\d+)", title)):
            status = int(match[1])
        elif level == 2:
            found.append((title, status))
    return found


def test_every_error_has_exactly_one_section() -> None:
    names = [name for name, _ in documented_errors()]
    assert len(ids_in_source()) > 100, "the search for ids no longer finds them"
    assert set(ids_in_source()) - set(names) == set(), "not documented"
    assert set(names) - set(ids_in_source()) == set(), "documented, but not in the source"
    assert len(names) == len(set(names))


def test_every_error_is_under_its_exit_status() -> None:
    # Ids of findings and warnings have no exit status of their own.
    raised = {name: statuses for name, statuses in ids_in_source().items() if statuses}
    wrong = [
        (name, status)
        for name, status in documented_errors()
        if name in raised and {status} != raised[name]
    ]
    assert wrong == []


def test_every_id_is_a_slug() -> None:
    assert [name for name in ids_in_source() if not SLUG.fullmatch(name)] == []


def test_every_exit_status_is_in_the_table() -> None:
    found = {int(row[0]) for row in rows((DOCS / "errors.md").read_text()) if row[0].isdigit()}
    assert found == {0} | {status for name in classes() if (status := status_of(name)) is not None}


@pytest.mark.parametrize("name", [name for name, _ in documented_errors()])
def test_every_section_says_what_to_do(name: str) -> None:
    body = section(DOCS / "errors.md", 2, name)
    # Fewer words cannot say what happened, why, and what to do.
    assert len(body.split()) >= 12
    assert "Do" in body or "please report" in body
