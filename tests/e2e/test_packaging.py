"""The wheel: what is in it, that it is reproducible, and that it works outside any checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import cipipe
from support.configurations import SHOP
from support.environment import shell_environment
from support.tools import ROOT, require

PYTHONS = ("3.11", "3.12", "3.13")

CONFIG = f"""\
{SHOP}
[stages.hello]
kind = "command"
paths = ["hello.txt"]
run = [["cat", "hello.txt"]]
"""


def run(*argv: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**shell_environment(), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def must(*argv: str | Path, cwd: Path, **env: str) -> str:
    done = run(*argv, cwd=cwd, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources(folder: Path) -> Path:
    """The files that git has, as they are on disk, in a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(source: Path, target: str, folder: Path) -> Path:
    must(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=source)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return built(sources(folder / "source"), "wheel", folder / "dist")


def python(version: str) -> str | None:
    """An interpreter of that version: in PATH, or one that pyenv keeps."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    found = shutil.which(f"python{version}")
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [found] if found else []
    candidates += sorted(str(path) for path in kept.glob(f"{version}.*/bin/python"))
    for candidate in candidates:
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def installed(folder: Path, interpreter: str, wheel: Path, locked: str) -> Path:
    """`cipipe` in a new virtual environment, from the file that a release has for that."""
    uv = ROOT / "scripts/uv"
    must(uv, "venv", "-q", "--python", interpreter, folder, cwd=ROOT)
    file = folder / "cipipe-requirements.txt"
    script = ROOT / "scripts/release_requirements.py"
    file.write_text(must(sys.executable, script, wheel, locked, cwd=ROOT))
    pip = (uv, "pip", "install", "-q", "--python", folder / "bin/python")
    must(*pip, "--find-links", wheel.parent, "--require-hashes", "-r", file, cwd=ROOT)
    return folder / "bin/cipipe"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "cipipe.toml").write_text(CONFIG)
    (folder / "hello.txt").write_text("hello from the wheel\n")
    (folder / ".gitignore").write_text(".cipipe/\n")
    author = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    must("git", "init", "-q", "-b", "main", cwd=folder)
    must("git", "add", "-A", cwd=folder)
    must("git", *author, "commit", "-q", "-m", "x", cwd=folder)
    return folder


def test_two_builds_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    source = sources(tmp_path / "elsewhere")
    # Other times of the files, and other permissions but for the executable bit.
    for file in source.rglob("*"):
        if file.is_file():
            os.utime(file, (1, 1))
            file.chmod(0o700 if os.access(file, os.X_OK) else 0o600)
    again = built(source, "wheel", tmp_path / "wheel")
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())

    sdist = built(source, "sdist", tmp_path / "sdist")
    assert (
        sdist.read_bytes() == built(sources(tmp_path / "b"), "sdist", tmp_path / "c").read_bytes()
    )
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert built(unpacked, "wheel", tmp_path / "d").read_bytes() == wheel.read_bytes()


def test_what_is_in_the_wheel(wheel: Path) -> None:
    assert (
        wheel.name
        == f"{cipipe.DISTRIBUTION.replace('-', '_')}-{cipipe.__version__}-py3-none-any.whl"
    )
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = file.read(metadata).decode()
    assert f"Name: {cipipe.DISTRIBUTION}\n" in text
    tracked = {str(path.relative_to(ROOT)) for path in ROOT.glob("cipipe/bootstrap/*.tf")}
    assert tracked
    assert {"cipipe/py.typed", "cipipe/errors.md", *tracked} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    own = re.compile(r"cipipe/|cipipe_deploy-[^/]+\.dist-info/")
    assert [name for name in names if not own.match(name) or "tests/" in name] == []


@pytest.mark.parametrize("version", [v for v in PYTHONS if python(v) is not None])
def test_a_clean_environment(version: str, wheel: Path, project: Path, tmp_path: Path) -> None:
    interpreter = python(version)
    assert interpreter is not None
    program = installed(tmp_path / "venv", interpreter, wheel, "runtime")
    assert must(program, "--version", cwd=project) == f"cipipe {cipipe.__version__}\n"
    must(program, "check", cwd=project)
    assert "hello" in must(program, "plan", "--offline", cwd=project)
    refused = run(program, "run", "--sandbox", cwd=project)
    assert refused.returncode == 2, refused.stderr
    assert f"pip install '{cipipe.DISTRIBUTION}[sandbox]'" in refused.stderr


MAIN_TF = """\
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100" }
  }
  backend "s3" {
    bucket = "states-of-shop"
    key    = "infra.tfstate"
    region = "eu-west-1"
  }
}
provider "aws" {
  region = "eu-central-1"
}
resource "aws_s3_bucket" "dags" {
  bucket = "shop-dags"
}
output "dags_bucket" {
  value = aws_s3_bucket.dags.bucket
}
"""
DAG = """\
from airflow import DAG

BUCKET = "local"  # cipipe: dags_bucket

with DAG(dag_id="daily", schedule=None):
    pass
"""


def test_from_an_existing_repository_to_a_deployment(wheel: Path, tmp_path: Path) -> None:
    """`init`, `check` and a run in the sandbox, outside any checkout of cipipe. The state is in a
    bucket that the sandbox does not have.
    """
    require("terraform", "the infrastructure")
    program = installed(tmp_path / "venv", sys.executable, wheel, "sandbox")
    folder = tmp_path / "shop"
    files = {"infra/main.tf": MAIN_TF, "airflow/daily.py": DAG}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    author = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    must("git", "init", "-q", "-b", "main", cwd=folder)
    must("git", "remote", "add", "origin", "git@gitlab.com:group/shop.git", cwd=folder)
    must("git", "add", "-A", cwd=folder)
    must("git", *author, "commit", "-q", "-m", "x", cwd=folder)

    must(program, "init", "--yes", "--account", "111111111111", cwd=folder)
    must(program, "check", cwd=folder)
    must("git", "add", "-A", cwd=folder)
    must("git", *author, "commit", "-q", "-m", "y", cwd=folder)
    run_in_sandbox = (program, "run", "--sandbox", "--format", "json")
    off = {"CIPIPE_SANDBOX_DOCKER": "off"}
    must(program, "sandbox", "up", cwd=folder, **off)
    try:
        first = json.loads(must(*run_in_sandbox, cwd=folder, **off))
        second = json.loads(must(*run_in_sandbox, cwd=folder, **off))
    finally:
        must(program, "sandbox", "down", cwd=folder)
    results = [{one["name"]: one["result"] for one in done["stages"]} for done in (first, second)]
    assert results == [
        {"iac": "done", "dags": "done"},
        {"iac": "unchanged", "dags": "unchanged"},
    ]
