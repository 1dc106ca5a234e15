"""Versions that documents and pipelines name: the Terraform that cipipe installs, and cipipe."""

import re

import pytest

import cipipe
from cipipe.tools.terraform.setup import installing
from support.tools import ROOT

# What people read or copy. The changelog and the benchmarks say what was once.
FOLDERS = (".github", "container", "docs", "templates")
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".gitlab-ci.yml")),
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()),
]

TERRAFORM = re.compile(r"\bterraform(?:_version:)?[ =_\"'v]+(\d+\.\d+\.\d+)", re.IGNORECASE)
CIPIPE = re.compile(r"\bcipipe(?:[-_/]deploy)?[ =@:_\"'v-]+(\d+\.\d+\.\d+)")

# The version of a release that does not exist, in examples.
PLACEHOLDER = "1.2.3"


def named(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """File and version of everything that the pattern finds."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
    return [(name, version) for name, text in texts.items() for version in pattern.findall(text)]


def test_every_terraform_is_the_one_that_is_installed() -> None:
    found = named(TERRAFORM)
    assert len(found) >= 2
    assert {(name, version) for name, version in found if version != installing.VERSION} == set()


def test_every_cipipe_is_this_one_or_a_placeholder() -> None:
    found = named(CIPIPE)
    assert ("CONTRIBUTING.md", PLACEHOLDER) in found
    allowed = {cipipe.__version__, PLACEHOLDER}
    assert {(name, version) for name, version in found if version not in allowed} == set()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (TERRAFORM, "✓ terraform    9.8.7"),
        (TERRAFORM, "installed Terraform 9.8.7 as"),
        (TERRAFORM, "terraform_version: 9.8.7"),
        (TERRAFORM, 'TERRAFORM_VERSION: "9.8.7"'),
        (TERRAFORM, "terraform_9.8.7_linux_amd64.zip"),
        (CIPIPE, "cipipe 9.8.7"),
        (CIPIPE, "cipipe-deploy==9.8.7"),
        (CIPIPE, "ghcr.io/OWNER/cipipe:9.8.7"),
        (CIPIPE, "GROUP/cipipe/deploy@9.8.7"),
        (CIPIPE, "uses: OWNER/cipipe@cipipe-v9.8.7"),
        (CIPIPE, "cipipe_deploy-9.8.7-py3-none-any.whl"),
    ],
)
def test_how_a_version_is_written(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.findall(text) == ["9.8.7"]
