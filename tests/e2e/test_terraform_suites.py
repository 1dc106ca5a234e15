"""Terraform's own tests of the two roots in this repository, and its formatting."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.tools import ROOT, require

ROOTS = ("cipipe/bootstrap", "terraform")


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TF_VAR_"))
    }
    argv = [str(require("terraform", "its own tests")), *arguments]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("root", ROOTS)
def test_terraform_test_passes(root: str, tmp_path: Path) -> None:
    """The suites use mock providers: nothing is created, and AWS is not asked."""
    folder = tmp_path / "root"
    shutil.copytree(ROOT / root, folder, ignore=shutil.ignore_patterns(".terraform", "__pycache__"))
    initialised = terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    assert initialised.returncode == 0, initialised.stderr

    done = terraform(folder, "test", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed." in done.stdout
    assert "Success! 0 passed" not in done.stdout


@pytest.mark.parametrize("root", ROOTS)
def test_files_are_formatted(root: str) -> None:
    done = terraform(ROOT / root, "fmt", "-check", "-recursive", "-diff", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("root", ROOTS)
def test_the_lock_file_is_used_as_it_is(root: str, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    shutil.copytree(ROOT / root, folder, ignore=shutil.ignore_patterns(".terraform", "__pycache__"))
    before = (folder / ".terraform.lock.hcl").read_text()

    done = terraform(
        folder, "init", "-backend=false", "-input=false", "-no-color", "-lockfile=readonly"
    )

    assert done.returncode == 0, done.stderr
    assert (folder / ".terraform.lock.hcl").read_text() == before
    # A provider of this version is published for 14 platforms; `zh:` also covers its manifest.
    assert (before.count('"h1:'), before.count('"zh:')) == (14, 15)


def test_both_roots_lock_the_same_provider() -> None:
    first, second = ((ROOT / root / ".terraform.lock.hcl").read_text() for root in ROOTS)
    assert first == second
