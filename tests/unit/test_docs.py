"""The documentation is held to the code: errors, commands, options, configuration keys, patterns
and links.
"""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from cipipe import ci, config, errors, model, patterns, results
from cipipe.cli import group
from cipipe.stages import KINDS
from cipipe.stages.settings import Reference
from cipipe.stages.terraform import PROTECTED_TYPES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


# --- reading Markdown --------------------------------------------------------------------------------------------------------


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and title of every heading, backticks taken off."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [
        (len(marks), title.replace("`", ""))
        for marks, title in re.findall(r"^(#+) (.+)$", text, re.MULTILINE)
    ]


def slug(title: str) -> str:
    """A heading's anchor, as GitHub and GitLab make it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def section(page: Path, level: int, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    kept: list[str] = []
    inside = fenced = False
    for line in page.read_text().splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) (.+)$", line)
        if heading and len(heading[1]) <= level:
            inside = heading[2].replace("`", "") == title and len(heading[1]) == level
        elif inside:
            kept.append(line)
    assert kept, f"{page.name} has no section {title!r}"
    return "\n".join(kept)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table; `\\|` within a cell stands for a bar."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


def block(text: str, language: str) -> str:
    """The first fenced block in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no {language} block"
    return found[1]


# --- errors ------------------------------------------------------------------------------------------------------------------


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
    """Whether a class is made with an id and a message, in this order: errors, problems, findings."""
    body = classes()[name].body
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
    if names:
        return names[0] in {"id", "name", "slug"} and "message" in names
    return init is None and any(carries_id(base) for base in bases(name))


def literals(node: ast.expr) -> list[str]:
    """The strings that an expression may be: a literal, or a choice between literals."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def given_id(call: ast.Call) -> ast.expr | None:
    """The argument of a call that is the id: its first one, or the one called `id`."""
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == "id"), None)


def with_ids(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every place that gives an id: class name, and the argument that is the id."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            argument = given_id(node)
            if argument and node.func.id in classes() and carries_id(node.func.id):
                yield node.func.id, argument
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
    """Every id, with the exit statuses that it is raised with (none for those that travel as data).

    Where a module passes an id on that is not a literal at the call, every string of that module
    counts that looks like an id of a known family (`oidc-…`): ids in tables, in tuples and in
    arguments.
    """
    found: dict[str, set[int]] = {}
    indirect = []
    for tree in sources():
        for name, argument in with_ids(tree):
            status = status_of(name)
            for text in literals(argument):
                found.setdefault(text, set()).update(set() if status is None else {status})
            if not literals(argument):
                indirect.append(tree)
    families = {name.partition("-")[0] for name in found if "-" in name}
    for tree in indirect:
        for node in ast.walk(tree):
            for text in literals(node) if isinstance(node, ast.Constant) else ():
                if "-" in text and SLUG.fullmatch(text) and text.partition("-")[0] in families:
                    found.setdefault(text, set())
    return {name: frozenset(statuses) for name, statuses in found.items()}


def documented_errors() -> list[tuple[str, int]]:
    """The sections of docs/errors.md, each with the exit status that it stands under."""
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
    assert len(ids_in_source()) > 100, "the ids are not found any more"
    assert set(ids_in_source()) - set(names) == set(), "not documented"
    assert set(names) - set(ids_in_source()) == set(), "documented, and not in the source"
    assert len(names) == len(set(names))


def test_every_error_stands_under_its_exit_status() -> None:
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
    assert len(body.split()) >= 12
    assert "Do" in body or "please report" in body


# --- commands ----------------------------------------------------------------------------------------------------------------


@cache
def commands() -> dict[str, click.Command]:
    """Every command that does something, by its full name."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield name, command
            return
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from walk(f"{name} {word}", below)

    return dict(walk("cipipe", group))


def options(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }


def common_options() -> set[str]:
    return set.intersection(*(options(command) for command in commands().values()))


def rows_of_options(text: str) -> set[str]:
    """The options that the tables of a section describe: `--x` and `-x` in the first column."""
    first = " ".join(row[0] for row in rows(text))
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", first))


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    titles = [
        title
        for level, title in headings(DOCS / "commands.md")
        if level == 2 and title.startswith("cipipe ")
    ]
    assert sorted(titles) == sorted(commands())


def test_the_common_options_are_described() -> None:
    described = rows_of_options(section(DOCS / "commands.md", 2, "Common options"))
    assert described == common_options() | {"-h", "--help"}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_of_a_command_is_described(name: str) -> None:
    body = section(DOCS / "commands.md", 2, name)
    assert rows_of_options(body) == options(commands()[name]) - common_options()


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_argument_and_format_of_a_command_is_named(name: str) -> None:
    body = section(DOCS / "commands.md", 2, name)
    for parameter in commands()[name].params:
        if isinstance(parameter, click.Argument):
            word = (parameter.name or "").upper()
            usage = (
                f"{name} [{word.removesuffix('S')}…]" if parameter.nargs == -1 else f"{name} {word}"
            )
            assert f"`{usage}`" in body
        elif "--format" in parameter.opts:
            assert isinstance(parameter.type, click.Choice)
            formats = re.search(r"Formats: (.*?)\.(\s|$)", body)
            assert formats, "the section has a line `Formats: …`"
            assert re.findall(r"`([a-z]+)`", formats[1]) == list(parameter.type.choices)


DOCUMENTS: dict[str, dict[str, Any]] = {
    "The plan document": {"": model.Plan, "stages": model.StagePlan, "baseline": model.Baseline},
    "The run document": {"": results.Report, "stages": results.StageReport},
    "The doctor document": {"checks": results.Check},
    "The status document": {
        "environments": results.EnvironmentStatus,
        "environments.stages": results.StageStatus,
    },
}


@pytest.mark.parametrize("title", DOCUMENTS)
def test_every_key_of_a_document_is_in_its_example(title: str) -> None:
    example = json.loads(block(section(DOCS / "commands.md", 2, title), "json"))
    assert example["schema"] == model.SCHEMA
    for place, struct in DOCUMENTS[title].items():
        shown: Any = example
        for key in filter(None, place.split(".")):
            shown = shown[key]
            shown = shown[0] if isinstance(shown, list) else shown
        extra = {"schema", "failed", "error"} if not place else set()
        assert set(shown) - extra == {field.encode_name for field in msgspec.structs.fields(struct)}


def test_the_words_of_a_plan_are_explained() -> None:
    body = section(DOCS / "commands.md", 2, "The plan document")
    for word in [*model.Status, *model.Reason]:
        assert f"`{word}`" in body
    body = section(DOCS / "commands.md", 2, "The doctor document")
    for word in results.Verdict:
        assert f"`{word}`" in body
    body = section(DOCS / "commands.md", 2, "The run document")
    for word in results.Result:
        assert f"`{word}`" in body


# --- configuration -----------------------------------------------------------------------------------------------------------

TABLES: dict[str, type[msgspec.Struct]] = {
    "[project]": config.ProjectSettings,
    "[ledger]": config.LedgerSettings,
    "[oidc]": config.OidcSettings,
    "[bootstrap]": config.Bootstrap,
    "[environments.NAME]": model.Environment,
    "deploy_from": model.DeployFrom,
    "[stages.NAME]": config.StageTable,
    "References": Reference,
    **{f"kind = {name}": kind.Settings for name, kind in KINDS.items()},
}


def default_of(field: Any) -> str:
    """A default as the tables have it."""
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
    if field.required:
        return "required"
    if value is msgspec.NODEFAULT or value is None:
        return "–"
    if isinstance(value, msgspec.Struct) or value is dict or value == {}:
        return "`{}`"
    if isinstance(value, tuple) and len(value) > 1:
        return "see below"
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize("title", TABLES)
def test_every_key_is_described_with_its_default(title: str) -> None:
    level = 2 if title.startswith("[") or title == "References" else 3
    found = {
        name[1]: row[2]
        for row in rows(section(DOCS / "configuration.md", level, title).partition("\n### ")[0])
        if (name := re.fullmatch(r"`(\w+)`", row[0]))
    }
    assert found == {
        field.encode_name: default_of(field) for field in msgspec.structs.fields(TABLES[title])
    }


def test_every_top_level_table_is_described() -> None:
    titles = {
        re.split(r"[\[\].]", title)[1]
        for _, title in headings(DOCS / "configuration.md")
        if title[0] == "["
    }
    assert titles == {field.encode_name for field in msgspec.structs.fields(config.ConfigFile)}


def test_providers_and_placeholders_are_named() -> None:
    text = (DOCS / "configuration.md").read_text()
    for name in [name for name, provider in ci.PROVIDERS.items() if provider.IDENTITY is not None]:
        assert f"`{name}`" in section(DOCS / "configuration.md", 2, "[oidc]")
    for name in config.PLACEHOLDERS:
        assert f"`{{{name}}}`" in text


def test_the_protected_types_are_all_there() -> None:
    body = section(DOCS / "configuration.md", 3, "kind = terraform")
    listed = set(re.findall(r"`(aws_\w+)`", body))
    assert listed == set(PROTECTED_TYPES)


def test_the_example_is_valid() -> None:
    text = block((DOCS / "configuration.md").read_text(), "toml")
    found = config.load(text.encode())
    used = {stage.kind for stage in found.stages.values()}
    assert used == set(KINDS)


def test_all_examples_are_toml() -> None:
    examples = re.findall(r"```toml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)
    assert len(examples) >= 4
    for example in examples:
        tomllib.loads(example)


# --- patterns ----------------------------------------------------------------------------------------------------------------


def pattern_table() -> list[tuple[tuple[str, ...], bytes, bool, str]]:
    """Patterns, path, whether it is a submodule, and whether it matches. `\\n`, `\\xff`, `\\\\` are
    escapes.
    """
    found = []
    for row in rows(section(DOCS / "configuration.md", 2, "Path patterns")):
        given = tuple(re.findall(r"`([^`]+)`", row[0]))
        path = re.match(r"`([^`]+)`( \(submodule\))?$", row[1]) if len(row) == 3 else None
        if given and path and row[2] in {"yes", "no"}:
            raw = re.sub(rb"\\(n|\\|x[0-9a-f]{2})", _unescaped, path[1].encode())
            found.append((given, raw, bool(path[2]), row[2]))
    return found


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return {b"n": b"\n", b"\\": b"\\"}.get(code) or bytes.fromhex(code[1:].decode())


def test_the_table_is_long_enough_and_every_row_is_read() -> None:
    body = section(DOCS / "configuration.md", 2, "Path patterns")
    assert len(pattern_table()) >= 40
    header_and_rule = 2
    assert len(pattern_table()) == len(rows(body)) - header_and_rule
    assert {answer for *_, answer in pattern_table()} == {"yes", "no"}


@pytest.mark.parametrize(("given", "path", "submodule", "answer"), pattern_table())
def test_a_row_of_the_table(
    given: tuple[str, ...], path: bytes, submodule: bool, answer: str
) -> None:
    assert [patterns.complaint(pattern) for pattern in given] == [None] * len(given)
    chosen = patterns.Patterns(given)
    found = chosen.matches_link(path) if submodule else chosen.matches(path)
    assert found == (answer == "yes")


@pytest.mark.parametrize(("given", "path", "submodule", "answer"), pattern_table())
def test_shortcuts_agree_with_the_table(
    given: tuple[str, ...], path: bytes, submodule: bool, answer: str
) -> None:
    """What is looked up in git has to hold every match; a folder that counts whole may hold nothing
    else.
    """
    chosen = patterns.Patterns(given)
    looked_at = (*chosen.folders, *chosen.prefixes)
    if answer == "yes":
        assert any(
            not place or path == place or path.startswith(place + b"/") for place in looked_at
        )
    elif not submodule:
        assert not any(path.startswith(folder + b"/") for folder in chosen.folders)


@pytest.mark.parametrize(
    "pattern", re.findall(r"^- `([^`]*)`: ", (DOCS / "configuration.md").read_text(), re.MULTILINE)
)
def test_refused_patterns_are_refused(pattern: str) -> None:
    assert patterns.complaint(pattern) is not None


# --- links -------------------------------------------------------------------------------------------------------------------


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (
            anchor and anchor not in {slug(title) for _, title in headings(file)}
        ):
            broken.append(target)
    assert broken == []


def test_architecture_lists_every_decision() -> None:
    listed = re.findall(
        r"\]\((decisions/[^)]+)\)", section(DOCS / "architecture.md", 2, "Decisions")
    )
    assert listed == [f"decisions/{page.name}" for page in sorted(DOCS.glob("decisions/*.md"))]


def test_all_documents_are_found() -> None:
    names = {page.name for page in pages()}
    assert {
        "errors.md",
        "configuration.md",
        "commands.md",
        "architecture.md",
        "CONTRIBUTING.md",
    } <= names
