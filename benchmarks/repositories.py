"""The repositories that plan.py measures in: many files in few stages, and many stages.

Made by `git fast-import`, once per folder.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ACCOUNT = "123456789012"
REGION = "eu-central-1"
BUCKET = "ledger"

COMMITS = 201
FOLDERS = ("terraform", "dbt", "dags", "docs")

# Configurations beside cipipe.toml: every file counts by itself; stages that a run can record.
PER_FILE = "per-file.toml"
RECORDED = "recorded.toml"

FILES_PER_STAGE = 10

HEAD = f"""\
[project]
name = "benchmark"
default_environment = "dev"
[ledger]
bucket = "{BUCKET}"
[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
deploy_from = {{ branches = ["main"] }}
"""
STAGES = {
    "terraform": """\
kind = "terraform"
root = "terraform"
backend = { bucket = "state", key = "{project}.tfstate" }""",
    "dbt": """\
kind = "image"
context = "dbt"
repository = { output = "url" }
needs = ["terraform"]""",
    "dags": """\
kind = "dags"
source = "dags"
bucket = { output = "bucket" }
needs = ["terraform", "dbt"]""",
}
COMMAND = 'kind = "command"\nrun = [["true"]]'
TEAM = """\
[stages.{name}]
kind = "dags"
source = "dags/{name}"
paths = ["dags/{name}/**"]
bucket = {{ output = "bucket" }}
prefix = "{{environment}}/{name}/"
needs = ["terraform"]
"""
ROOT = """\
output "bucket" {
  value = "dags"
}
terraform {
  backend "s3" {}
}
"""
ENV = {
    **{
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "AWS_", "CI_", "GITHUB_"))
    },
    "PYTHONDONTWRITEBYTECODE": "",  # an installed package has its bytecode
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "HOME": "/nonexistent",
}


def with_files(work: Path, files: int) -> Path:
    """A repository of that many files in three stages, and 201 commits, each but the first changing
    one file.
    """
    return _imported(work / f"{files}-files", lambda: _file_history(files))


def with_stages(work: Path, stages: int) -> Path:
    """A repository of that many `dags` stages of ten files. HEAD changes one file; HEAD~2 has no
    configuration yet.
    """
    return _imported(work / f"{stages}-stages", lambda: _stage_history(stages))


def git(cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=ENV, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def _imported(root: Path, history: Callable[[], Iterable[bytes]]) -> Path:
    if root.exists():
        return root
    root.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    feeder = subprocess.Popen(
        ["git", "fast-import", "--quiet", "--done"],
        cwd=root,
        env=ENV,
        stdin=subprocess.PIPE,
        bufsize=1 << 20,
    )
    assert feeder.stdin is not None
    for line in history():
        feeder.stdin.write(line)
    feeder.stdin.close()
    if feeder.wait() != 0:
        sys.exit("git fast-import failed")
    git(root, "repack", "-adq")
    git(root, "reset", "--quiet", "--hard")
    return root


def _file_history(files: int) -> Iterator[bytes]:
    for number in range(COMMITS):
        yield _commit(number)
        if number == 0:
            yield _file("cipipe.toml", _configuration())
            yield _file(PER_FILE, _configuration(', "!{}/**/*.md"'))
            yield _file(RECORDED, _configuration(command=True))
            yield _file("terraform/main.tf", ROOT)
            yield _file("dbt/Dockerfile", "FROM scratch\n")
            for file in range(files):
                yield _file(_path_of(file), f"select {file}")
        else:
            # Ten commits on one group of files, then ten on another.
            place = number // 10 * (files // 20) + number % 10 * 4
            yield _file(_path_of(place % files), f"select -{number}")
    yield b"done\n"


def _stage_history(stages: int) -> Iterator[bytes]:
    names = [f"team_{number:04}" for number in range(stages)]
    terraform = f'[stages.terraform]\npaths = ["terraform/**"]\n{STAGES["terraform"]}\n'

    yield _commit(0)
    yield _file("terraform/main.tf", ROOT)
    yield _commit(1)
    yield _file("cipipe.toml", HEAD + terraform + "".join(TEAM.format(name=n) for n in names))
    for name in names:
        for number in range(FILES_PER_STAGE):
            yield _file(f"dags/{name}/dag_{number}.py", f"{name.upper()} = {number}\n")
    yield _commit(2)
    yield _file(f"dags/{names[0]}/dag_0.py", "CHANGED = True\n")
    yield b"done\n"


def _path_of(number: int) -> str:
    """Four folders at the top, below them 100 files to a folder, every twentieth file a page of
    documentation.
    """
    top = FOLDERS[number % 4]
    rest = number // 4
    suffix = "md" if rest % 20 == 0 else "sql"
    return f"{top}/area_{rest // 2000:03}/group_{rest // 100:05}/model_{rest:06}.{suffix}"


def _configuration(taken: str = "", *, command: bool = False) -> str:
    """Three stages, each of a whole folder, or of its files without what `taken` takes away."""
    tables = []
    for name, settings in STAGES.items():
        paths = f'paths = ["{name}/**"{taken.format(name)}]'
        tables.append(f"[stages.{name}]\n{paths}\n{COMMAND if command else settings}\n")
    return HEAD + "".join(tables)


def _commit(number: int) -> bytes:
    time = 1_700_000_000 + number
    who = b"committer x <x@example.org> %d +0000" % time
    return b"commit refs/heads/main\n%b\ndata 1\nx\n" % who


def _file(path: str, text: str) -> bytes:
    return b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(text), text.encode())
