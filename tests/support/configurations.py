"""A small valid configuration to start from, and what is wrong with changed ones."""

from typing import Any

import pytest

from cipipe import config
from cipipe.errors import ProblemsError

HEAD = """\
[project]
name = "shop"
default_environment = "dev"

[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/deploy"
"""

IAC = """
[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform"
backend = { bucket = "b", key = "k" }
"""

IMAGE = """
[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = { output = "url" }
needs = ["iac"]
"""

DAGS = """
[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = { output = "bucket" }
needs = ["iac", "image"]
"""

DEFAULT = """
[stages.default]
kind = "command"
when = "nothing-due"
run = [["true"]]
"""

WHOLE = HEAD + IAC + IMAGE + DAGS + DEFAULT


def command(name: str, **keys: str) -> str:
    """A stage of kind `command`; `keys` are TOML."""
    given = {"kind": '"command"', "paths": f'["{name}/**"]', "run": '[["true"]]'} | keys
    return f"\n[stages.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in given.items())


def load(text: str) -> config.Config:
    return config.load(text.encode())


def problems(text: str) -> dict[str, tuple[str, str, str | None]]:
    """What is wrong, by key path: the line's number and text, the problem's id, and its hint."""
    with pytest.raises(ProblemsError) as caught:
        load(text)
    assert caught.value.id == "config-invalid"
    assert caught.value.exit_status == 2
    found: dict[str, tuple[str, str, str | None]] = {}
    for problem in caught.value.problems:
        place, _, path = problem.where.partition(": ")
        assert path not in found, f"{path} is reported twice"
        found[path] = (place, problem.id, problem.hint)
    return found


def only(text: str) -> tuple[str, Any]:
    """The id and the hint of the only problem."""
    ((_, found, hint),) = problems(text).values()
    return found, hint


def line_of(text: str, start: str) -> str:
    """Where the first line that starts so stands."""
    number = next(
        n for n, line in enumerate(text.splitlines(), start=1) if line.lstrip().startswith(start)
    )
    return f"cipipe.toml:{number}"
