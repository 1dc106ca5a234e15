"""The commands of docs/moving-state.md, with real Terraform: what was applied before is not
created again.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clone import Clone
from support.configurations import SHOP
from support.environment import shell_environment
from support.tools import ROOT, require

STAGE = """
[stages.NAME]
kind = "terraform"
paths = ["NAME/**"]
root = "NAME"
backend = { bucket = "cipipe-{account_id}-{region}", key = "NAME/dev.tfstate" }
"""
BUCKET, REGION = "cipipe-111111111111-eu-central-1", "eu-central-1"
# Where the sandbox's S3 is no host of AWS, a backend needs this as well.
PATH_STYLE = "-backend-config=use_path_style=true"

RESOURCE = 'resource "terraform_data" "kept" {}\noutput "id" { value = terraform_data.kept.id }\n'
S3 = 'terraform {\n  backend "s3" {}\n}\n'
OLD_KEY = f"""\
terraform {{
  backend "s3" {{
    bucket         = "{BUCKET}"
    key            = "old.tfstate"
    region         = "{REGION}"
    use_path_style = true
  }}
}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    require("terraform", "moving states")
    folder = tmp_path_factory.mktemp("moving") / "shop"
    folder.mkdir()
    made = Clone(folder, {**shell_environment(), "CIPIPE_SANDBOX_DOCKER": "off"})
    stages = "".join(STAGE.replace("NAME", name) for name in ("local", "elsewhere"))
    (folder / "cipipe.toml").write_text(SHOP + stages)
    (folder / ".gitignore").write_text(".cipipe/\n.terraform/\n*.tfstate*\n")
    made.git("init", "--quiet", "--initial-branch", "main")
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    try:
        yield made
    finally:
        made.cipipe("sandbox", "down")


def documented(key: str) -> list[str]:
    """The command of the page, for this bucket and key."""
    page = (ROOT / "docs/moving-state.md").read_text()
    (line,) = re.findall(r"^\$ (terraform init .*)$", page, re.MULTILINE)
    for name, value in {"BUCKET": BUCKET, "KEY": key, "REGION": REGION}.items():
        line = line.replace(f"={name}", f"={value}")
    return [*shlex.split(line), PATH_STYLE, "-force-copy"]


def terraform(shop: Clone, folder: Path, *argv: str) -> str:
    sandbox = shop.cipipe("sandbox", "env", "--format", "json").document["environment"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**shop.env, **sandbox},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def applied(shop: Clone, root: Path, backend: str) -> str:
    """The id of the resource, which was created by hand."""
    root.mkdir()
    (root / "main.tf").write_text(RESOURCE + backend)
    terraform(shop, root, "terraform", "init", "-input=false")
    terraform(shop, root, "terraform", "apply", "-auto-approve", "-input=false")
    shown: dict[str, Any] = json.loads(terraform(shop, root, "terraform", "output", "-json"))
    return str(shown["id"]["value"])


@pytest.mark.parametrize(("name", "backend"), [("local", ""), ("elsewhere", OLD_KEY)])
def test_a_state_is_moved(shop: Clone, name: str, backend: str) -> None:
    root = shop.folder / name
    before = applied(shop, root, backend)
    (root / "main.tf").write_text(RESOURCE + S3)
    terraform(shop, root, *documented(f"{name}/dev.tfstate"))

    shop.git("add", "--all")
    shop.git("commit", "--quiet", "-m", f"Move the state of {name}")
    done = shop.run(name)
    assert done.status == 0, done.text
    assert done.results()[name] == "done"
    (made,) = [one["made"] for one in done.document["stages"] if one["name"] == name]
    assert made == "no resource changes"
    assert terraform(shop, root, "terraform", "output", "-raw", "id") == before
