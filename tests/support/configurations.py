"""A small valid configuration to start from, and what is wrong with changed ones."""

from typing import Any

import pytest

from cipipe import config
from cipipe.errors import ProblemsError

ACCOUNT = "111111111111"


def environment(
    name: str, *, account: str = ACCOUNT, region: str = "eu-central-1", more: str = ""
) -> str:
    arn = "aws-cn" if region.startswith("cn-") else "aws"
    return (
        f'\n[environments.{name}]\naccount_id = "{account}"\nregion = "{region}"\n'
        f'role_arn = "arn:{arn}:iam::{account}:role/deploy"\n{more}\n'
    )


def head(account: str = ACCOUNT, *, project: str = "shop") -> str:
    """The project and its environment dev, whose table comes last: keys may follow."""
    table = f'[project]\nname = "{project}"\ndefault_environment = "dev"\n'
    return table + environment("dev", account=account).rstrip("\n") + "\n"


HEAD = head()
# An environment with an account of its own.
LIVE_ELSEWHERE = environment("live", account="222222222222")

# A project at GitLab that a sandbox can bootstrap; its environment comes last.
SHOP = """\
[project]
name = "shop"
default_environment = "dev"
[oidc.gitlab]
project = "group/shop"
[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
deploy_from = { branches = ["main"] }
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


def dags(
    name: str = "dags", *, bucket: str = '"team-dags"', prefix: str = "dags/", more: str = ""
) -> str:
    return (
        f'\n[stages.{name}]\nkind = "dags"\npaths = ["dags/**"]\nsource = "dags"\n'
        f'bucket = {bucket}\nprefix = "{prefix}"\n{more}\n'
    )


def terraform(
    name: str = "iac", *, bucket: str = "state", key: str = "terraform/{environment}.tfstate"
) -> str:
    return (
        f'\n[stages.{name}]\nkind = "terraform"\npaths = ["{name}/**"]\nroot = "{name}"\n'
        f'backend = {{ bucket = "{bucket}", key = "{key}" }}\n'
    )


def elsewhere(backend: str, more: str = "") -> str:
    """A Terraform stage with another backend than S3."""
    head = '\n[stages.iac]\nkind = "terraform"\npaths = ["terraform/**"]\nroot = "terraform"\n'
    return f"{head}backend = {{ {backend} }}\n{more}\n"


def image(repository: str) -> str:
    return (
        '\n[stages.image]\nkind = "image"\npaths = ["dbt/**"]\ncontext = "dbt"\n'
        f'repository = "{repository}"\n'
    )


LIVE = environment("live")
OTHER = environment("live", account="222222222222", region="us-east-1")


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
    """The place of the first line that starts like that."""
    number = next(
        n for n, line in enumerate(text.splitlines(), start=1) if line.lstrip().startswith(start)
    )
    return f"cipipe.toml:{number}"
