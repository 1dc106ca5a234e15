"""What `make lint` must refuse: each check is given a small project that breaks its rule."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import ROOT, require

# What the two calls of deptry in the Makefile have in common: the settings in pyproject.toml.
SETTINGS = (ROOT / "pyproject.toml").read_text().partition("[tool.deptry]")[2]
DEPTRY = "[tool.deptry]" + SETTINGS.partition("[tool.importlinter]")[0]


def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)


def deptry(folder: Path, *, dependencies: list[str], source: str) -> str:
    project = f'[project]\nname = "x"\nversion = "1"\ndependencies = {dependencies}\n'
    (folder / "pyproject.toml").write_text(project + DEPTRY)
    package = folder / "cipipe"
    package.mkdir()
    (package / "__init__.py").write_text(source)

    done = run(Path(sys.executable).with_name("deptry"), "cipipe", cwd=folder)

    assert (done.returncode == 0) is ("No dependency issues" in done.stderr), done.stderr
    return done.stderr


def test_make_lint_runs_every_check() -> None:
    recipe = run("make", "--dry-run", "lint").stdout
    for command in (
        "ruff check",
        "ruff format --check",
        "mypy",
        "lint-imports",
        "deptry cipipe",
        "shellcheck",
        "scripts/check_references.py",
        "scripts/lock --check",
        "scripts/lint_terraform",
    ):
        assert command in recipe


def test_a_dependency_that_is_imported_and_declared_passes(tmp_path: Path) -> None:
    assert "No dependency issues" in deptry(tmp_path, dependencies=["click"], source="import click")


def test_a_dependency_that_nothing_imports_is_refused(tmp_path: Path) -> None:
    said = deptry(tmp_path, dependencies=["click", "requests"], source="import click")
    assert "DEP002" in said
    assert "'requests'" in said


@pytest.mark.parametrize(
    ("module", "rule"),
    [("urllib3", "DEP003"), ("surely_not_installed", "DEP001")],
)
def test_an_import_that_is_not_declared_is_refused(module: str, rule: str, tmp_path: Path) -> None:
    said = deptry(tmp_path, dependencies=["requests"], source=f"import requests, {module}")
    assert rule in said
    assert f"'{module}'" in said


def test_unformatted_terraform_is_refused(tmp_path: Path) -> None:
    require("terraform", "its formatter")
    root = tmp_path / "root"
    root.mkdir()
    (root / "main.tf").write_text('output "a" {\nvalue = 1\n}\n')

    refused = run("scripts/lint_terraform", root)
    assert refused.returncode != 0
    assert "+  value = 1" in refused.stdout

    (root / "main.tf").write_text('output "a" {\n  value = 1\n}\n')
    assert run("scripts/lint_terraform", root).returncode == 0


def test_terraform_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    require("terraform", "its validation")
    (tmp_path / "main.tf").write_text('output "a" {\n  value = local.b\n}\n')

    refused = run("scripts/lint_terraform", tmp_path)

    assert refused.returncode != 0
    assert "Reference to undeclared local value" in refused.stderr


def test_a_comment_that_names_a_missing_page_is_refused(tmp_path: Path) -> None:
    """The script looks at the repository that it lies in."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    script = scripts / "check_references.py"
    script.write_bytes((ROOT / "scripts/check_references.py").read_bytes())
    source = tmp_path / "a.py"
    assert run("git", "init", "-q", cwd=tmp_path).returncode == 0

    source.write_text('"""As docs/missing.md says."""\n')
    refused = run(sys.executable, script)
    assert refused.returncode == 1
    assert refused.stderr == "a.py:1: names 'docs/missing.md', which does not exist\n"

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/missing.md").touch()
    assert run(sys.executable, script).returncode == 0
