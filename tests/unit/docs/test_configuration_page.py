"""docs/configuration.md describes every key with its default, and its examples are valid."""

import json
import re
import tomllib
from typing import Any

import msgspec
import pytest

from cipipe import ci, config, model
from cipipe.stages import KINDS
from cipipe.stages.settings import Reference
from cipipe.stages.terraform import PROTECTED_TYPES
from support.markdown import DOCS, block, headings, rows, section

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
