"""`check` and roots whose state nobody would keep; Terraform is not started."""

from pathlib import Path

import pytest

from cipipe.errors import ProblemsError
from cipipe.pipeline.checks.state_blocks import refuse_lost_states
from cipipe.pipeline.project import load
from cipipe.tools import process
from support.configurations import HEAD, LIVE_ELSEWHERE

CONFIG = (
    HEAD
    + LIVE_ELSEWHERE
    + """
[stages.net]
kind = "terraform"
paths = ["net/**"]
root = "net"
backend = { bucket = "b", key = "net-{environment}" }
[stages.app]
kind = "terraform"
paths = ["app/**"]
root = "app{environment}"
backend = { type = "gcs", bucket = "b", prefix = "app-{environment}" }
"""
)
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def refused(folder: Path, **files: str) -> list[tuple[str, str]]:
    """The ids and places of what is wrong with these files: `net_main` is net/main.tf."""
    process.run(["git", "init", "-q", str(folder)], env=ENV)
    (folder / "cipipe.toml").write_text(CONFIG)
    for name, text in files.items():
        root, _, file = name.partition("_")
        (folder / root).mkdir(exist_ok=True)
        (folder / root / f"{file}.tf").write_text(text)
    try:
        refuse_lost_states(load(folder, ENV))
    except ProblemsError as error:
        return [(problem.id, problem.where) for problem in error.problems]
    return []


S3 = 'terraform {\n  backend "s3" {}\n}\n'
GCS = S3.replace("s3", "gcs")


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({"net_main": S3, "appdev_main": GCS, "applive_main": GCS}, []),
        ({}, []),
        (
            {"net_main": "locals {}\n", "appdev_main": GCS},
            [("terraform-state-not-kept", "net/backend.tf")],
        ),
        (
            {"net_main": S3, "appdev_versions": S3},
            [("terraform-backend-mismatch", "appdev/versions.tf:2")],
        ),
        (
            {
                "net_main": S3,
                "net_local_override": S3.replace("s3", "local"),
                "applive_main": "#" + S3,
            },
            [
                ("terraform-state-not-kept", "net/local_override.tf:2"),
                ("terraform-state-not-kept", "applive/backend.tf"),
            ],
        ),
    ],
)
def test_check_finds_them_all(
    files: dict[str, str], problems: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert refused(tmp_path, **files) == problems
