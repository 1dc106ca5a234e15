"""Closed and full standard streams: the exit status is still that of the command."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.configurations import HEAD
from support.git import ENV, Repo

CONFIG = (
    HEAD
    + """\
deploy_from = { branches = ["main"] }
[stages.one]
kind = "command"
paths = ["*"]
run = [["true"]]
"""
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({"cipipe.toml": CONFIG})
    return made


@pytest.mark.parametrize(
    "closed", [">&-", "2>&-", "<&-", ">&- 2>&-", ">/dev/full 2>&-", "2>/dev/full", ""]
)
@pytest.mark.parametrize(
    ("arguments", "status"), [("check", 0), ("plan --offline", 0), ("check --config no.toml", 2)]
)
def test_closed_streams(repo: Repo, arguments: str, status: int, closed: str) -> None:
    """An answer that cannot be written is an error of its own (2); what nobody wants to hear is
    none.
    """
    line = f'"$0" -m cipipe {arguments} {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        check=False,
        cwd=repo.root,
        env=ENV,
        capture_output=True,
        timeout=60,
    )
    full = ">/dev/full 2" in closed and status == 0
    assert done.returncode == (2 if full else status), done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_gone(repo: Repo) -> None:
    line = '"$0" -m cipipe plan --offline | true; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable],
        check=False,
        cwd=repo.root,
        env=ENV,
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ""])
def test_closed_streams_of_what_click_answers(repo: Repo, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m cipipe --version {closed}', sys.executable], check=False, timeout=60
    )
    assert done.returncode == 0
