"""What a child of cipipe finds of the secrets that cipipe was started with: in its own environment,
and in its parent's.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import signals
from support.configurations import HEAD
from support.git import ENV, Repo

CONFIG = (
    HEAD
    + """\
deploy_from = { branches = ["main"] }
[oidc]
gitlab = { token_variable = "MY_OWN_TOKEN" }
[stages.one]
kind = "command"
paths = ["*"]
run = [["true"]]
"""
)
JOB_TOKEN = "glcbt-abcdefgh12345678"
SECRETS = {
    "CI_JOB_TOKEN": JOB_TOKEN,
    "CI_REPOSITORY_URL": f"https://gitlab-ci-token:{JOB_TOKEN}@gitlab.example.com/group/shop.git",
    "MY_OWN_TOKEN": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key-of-another-step",
    "AWS_SESSION_TOKEN": "a-session-token-of-another-step",
}
HIDDEN = [value for name, value in SECRETS.items() if name != "AWS_ACCESS_KEY_ID"]
JOB = {"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "main", "HARMLESS": "stays-visible", **SECRETS}

# Stands in for git, which every command starts: it looks at its parent, and then is git.
SPY = """\
#!{python}
import os, sys
parent = os.getppid()
with open({found!r}, "ab") as found:
    for name in ("environ", "cmdline"):
        try:
            found.write(open(f"/proc/{{parent}}/{{name}}", "rb").read() + b"\\0")
        except OSError as error:
            found.write(f"{{name}}: {{error.strerror}}\\0".encode())
    found.write("\\0".join(f"{{key}}={{value}}" for key, value in os.environ.items()).encode())
    try:
        memory = open(f"/proc/{{parent}}/mem", "rb", 0)
        for line in open(f"/proc/{{parent}}/maps"):
            start, _, end = line.split()[0].partition("-")
            try:
                memory.seek(int(start, 16))
                memory.read(1)
                found.write(b"\\0memory was read")
                break
            except (OSError, OverflowError):
                pass
    except OSError:
        found.write(b"\\0memory is closed")
os.execv({git!r}, [{git!r}, *sys.argv[1:]])
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit({"cipipe.toml": CONFIG})
    return made


@pytest.fixture
def spy(tmp_path: Path) -> Path:
    """A folder with a `git` in it. What it found is in the file `found` beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "git"
    program.write_text(
        SPY.format(python=sys.executable, found=str(tmp_path / "found"), git=shutil.which("git"))
    )
    program.chmod(0o755)
    return folder


def unprivileged() -> None:
    """Root may look into every process, unless it lacks this capability, as in a container of a CI
    service.
    """
    # PR_CAPBSET_DROP, CAP_SYS_PTRACE. Only root has it to drop.
    ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)


def started(repo: Repo, arguments: list[str], **env: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cipipe", *arguments],
        cwd=repo.root,
        env={**ENV, **JOB, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=unprivileged if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
    )


@linux
def test_a_child_finds_no_secret(repo: Repo, spy: Path, tmp_path: Path) -> None:
    child = started(repo, ["plan", "--offline", "--format", "json"], PATH=f"{spy}:{ENV['PATH']}")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["provider"] == "gitlab", "the job is known anyway"
    found = (tmp_path / "found").read_bytes().decode(errors="replace")
    for secret in HIDDEN:
        assert secret not in found
    assert "HARMLESS=stays-visible" in found, "the spy has looked"
    assert "memory is closed" in found
    assert "memory was read" not in found


@linux
def test_root_does_not_find_them_in_the_environment_either(
    repo: Repo, spy: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cipipe", "check"],
        cwd=repo.root,
        env={**ENV, **JOB, "PATH": f"{spy}:{ENV['PATH']}"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "found").read_bytes().decode(errors="replace")
    assert not [secret for secret in HIDDEN if secret in found]


def test_cipipe_itself_still_has_them(repo: Repo) -> None:
    """The token is exchanged, or at least looked at: it is the one in the variable that the
    configuration names.
    """
    child = started(repo, ["oidc", "token", "--format", "json"])
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["claims"] == {"sub": "x"}
    assert SECRETS["MY_OWN_TOKEN"] not in (out + err).decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_it(repo: Repo, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/waits\nexec cat >/dev/null\n")
    (folder / "git").chmod(0o755)
    with signals.heard():
        child = started(repo, ["plan", "--offline"], PATH=f"{folder}:{ENV['PATH']}")
    deadline = time.monotonic() + 30
    while not (tmp_path / "waits").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130, err


def test_options_of_python_survive(repo: Repo) -> None:
    env = {**ENV, **JOB, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(repo.root.parent)}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-m", "cipipe", "--version"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cipipe ")


@linux
def test_hiding_leaves_the_rest_of_the_environment() -> None:
    code = (
        "import os\nfrom cipipe import shield\n"
        "shield.hide(os.environ, frozenset({'SECRET', 'EMPTY'}))\n"
        "names = ('SECRET', 'EMPTY', 'BEFORE', 'BEHIND')\n"
        "print(sorted(name for name in os.environ if name in names), flush=True)\n"
        "os.environ['LATER'] = 'x'\n"
        "os.execv('/usr/bin/env', ['env'])\n"
    )
    env = {
        "BEFORE": "1",
        "SECRET": "hunter22",
        "EMPTY": "",
        "BEHIND": "SECRET=2",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, *rest = done.stdout.splitlines()
    assert first == "['BEFORE', 'BEHIND']"
    left = [line for line in rest if not line.startswith("LC_CTYPE=")]
    assert sorted(left) == sorted(["BEFORE=1", "BEHIND=SECRET=2", f"PATH={env['PATH']}", "LATER=x"])


def test_without_secrets_nothing_happens() -> None:
    code = (
        "import os, sys\nfrom cipipe import ci, shield\n"
        "shield.hide(os.environ, ci.secret_variables(os.environ))\n"
        "print('ctypes' in sys.modules)"
    )
    clean = {
        name: value
        for name, value in ENV.items()
        if not name.startswith(("AWS_", "GITHUB_", "CI_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"False\n", "it costs nothing"
