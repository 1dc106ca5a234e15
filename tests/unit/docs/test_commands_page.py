"""docs/commands.md describes every command, option, argument, format and JSON document."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
import msgspec
import pytest

from cipipe import model, results
from cipipe.cli import group
from support.markdown import DOCS, block, headings, rows, section


@cache
def commands() -> dict[str, click.Command]:
    """Every command, by its full name; groups of commands are left out."""

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
    # Not the hyphens inside a word, such as those of a value.
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
        # The page names formats in the order of --help.
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
        "environments.stages.last_failure": model.FailedAttempt,
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
