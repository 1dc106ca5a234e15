"""A stage with `binary = "tofu"`. OpenTofu itself is not installed here: under its name, the tests
run Terraform, which has the same commands and the same log.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apply_project import CONFIG, ApplyProject, addresses, error
from support.clone import Aws
from support.recorded import Recorded
from support.tools import require

RESOURCE = 'resource "terraform_data" "it" {}\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplyProject]:
    require("terraform", "the infrastructure")
    config = CONFIG.replace('kind = "terraform"', 'kind = "terraform"\nbinary = "tofu"')
    made = ApplyProject.made(tmp_path_factory.mktemp("tofu") / "repository", config)
    up = made.cipipe("sandbox", "up")
    assert up.status == 0, up.err
    try:
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture
def tofu(tmp_path: Path) -> Recorded:
    return Recorded.around("tofu", tmp_path / "tofu", real=shutil.which("terraform"))


@pytest.fixture
def terraform(tmp_path: Path) -> Recorded:
    return Recorded.around("terraform", tmp_path / "terraform")


@pytest.mark.skipif(
    shutil.which("tofu") is not None, reason="OpenTofu is installed: nothing is missing"
)
def test_without_opentofu_nothing_is_started(project: ApplyProject) -> None:
    project.run()  # bootstraps the account
    refused = project.deploy(project.sandbox())
    assert (refused.status, error(refused)["id"]) == (4, "tool-missing")
    assert "opentofu.org" in error(refused)["hint"]
    doctor = project.cipipe("doctor", "--offline")
    assert "tofu" in doctor.out
    assert "✗ tofu" in doctor.out


def test_the_stage_runs_nothing_but_opentofu(
    project: ApplyProject, tofu: Recorded, terraform: Recorded
) -> None:
    folders = [str(tofu.folder), str(terraform.folder), os.environ["PATH"]]
    path = {"PATH": os.pathsep.join(folders)}
    project.change(RESOURCE)
    assert project.run(**path).status == 0
    terraform.clear()
    tofu.clear()
    project.change(RESOURCE + RESOURCE.replace('"it"', '"more"'))
    done = project.cipipe("run", "--format", "json", **{**project.job(project.sandbox()), **path})
    assert done.status == 0, done.text
    verbs = [words[0] for words in tofu.calls()]
    assert verbs.count("init") == 1
    assert verbs.index("plan") < verbs.index("apply") < verbs.index("output")
    assert terraform.calls() == []
    assert "tofu plan in infra/" in done.err
    assert addresses(Aws(project.sandbox())) == {"it", "more"}

    doctor = project.cipipe("doctor", "--offline", **path)
    assert "✓ tofu" in doctor.out
