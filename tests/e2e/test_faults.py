"""Faults of the surroundings: whatever happens to a run, nothing is lost, it says what is wrong,
and running again finishes.

A project of its own, with nothing but `cipipe.toml`: real Terraform, DAGs and a command, no Docker.
"""

import contextlib
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe.pipeline.bootstrap.root import SHIPPED
from cipipe.sandbox import client
from cipipe.sandbox.client import Sandbox
from support import signals
from support.clone import Aws, Outcome
from support.environment import shell_environment
from support.fault_project import (
    BUCKET,
    CONFIG,
    ROOT,
    Project,
    assert_finished,
    error_id,
    finish,
)
from support.flaky import FlakyProxy
from support.tools import require

SEED = int(os.environ.get("FAULTS_SEED", "20261125"))

MOUNTS = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    require("terraform", "the infrastructure")
    folder = tmp_path_factory.mktemp("faults") / "repository"
    for name in ("infra", "dags", "note"):
        (folder / name).mkdir(parents=True)
    (folder / "cipipe.toml").write_text(CONFIG)
    (folder / "infra/main.tf").write_text(ROOT)
    env = shell_environment()
    made = Project(folder, env | {"CIPIPE_SANDBOX_DOCKER": "off"})
    made.git("init", "--quiet", "--initial-branch=main")
    made.change()
    up = made.cipipe("sandbox", "up")
    assert up.status == 0, up.err
    try:
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture(scope="module")
def sandbox(project: Project) -> Sandbox:
    return project.sandbox()


@pytest.fixture(scope="module")
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox)


def test_a_project_that_has_only_a_configuration(project: Project, aws: Aws) -> None:
    """Bootstrapped from the root that is part of cipipe, in which Terraform left nothing."""
    done = project.run()
    assert done.results() == {"iac": "done", "dags": "done", "note": "done"}
    assert_finished(project, aws)
    assert {path.name for path in SHIPPED.iterdir()} >= {"roles.tf", ".terraform.lock.hcl"}
    assert not (SHIPPED / ".terraform").exists()
    assert not (project.folder / "terraform").exists()


# --- limits of a process -----------------------------------------------------------------


def test_no_home(project: Project, aws: Aws) -> None:
    project.change()
    done = project.shell('unset HOME XDG_CONFIG_HOME XDG_CACHE_HOME; exec "$@"')
    assert done.status == 0, done.text
    assert_finished(project, aws)


def test_64_open_files(project: Project, aws: Aws) -> None:
    project.change()
    done = project.limited(limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    assert done.status == 0, done.text
    assert_finished(project, aws)


def test_too_few_open_files(project: Project, aws: Aws) -> None:
    project.change()
    done = project.limited(limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14)))
    assert error_id(done) == "machine-exhausted"
    finish(project, aws)


def test_a_limit_on_the_size_of_files(project: Project, aws: Aws) -> None:
    """Terraform's `init` is cut short in the middle of a file of its own."""
    project.change()
    done = project.limited(limits=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)))
    assert error_id(done) in {"disk-full", "terraform-failed"}
    finish(project, aws)


# --- disks ---------------------------------------------------------------------------------------


@MOUNTS
@pytest.mark.parametrize("place", [".cipipe/run", ".cipipe/terraform/dev/iac", "TMPDIR"])
def test_a_full_disk(project: Project, aws: Aws, place: str, tmp_path: Path) -> None:
    project.change()
    folder = tmp_path if place == "TMPDIR" else project.folder / place
    full = (
        f"mount -t tmpfs -o size=16k none {shlex.quote(str(folder))} "
        f"&& ! cat /dev/zero > {folder}/filler"
    )
    command = f'{full}; TMPDIR={shlex.quote(str(tmp_path))} exec "$@"'
    done = project.shell(f'exec unshare --mount bash -c {shlex.quote(command)} bash "$@"')
    if place == "TMPDIR" and done.status == 0:  # another folder for temporary files was found
        assert_finished(project, aws)
        return
    assert error_id(done) in {"disk-full", "terraform-failed", "no-temporary-folder", "tool-failed"}
    finish(project, aws)


@MOUNTS
@pytest.mark.parametrize("fresh", [False, True])
def test_a_read_only_work_tree(project: Project, aws: Aws, fresh: bool, tmp_path: Path) -> None:
    project.change()
    own = project.folder / ".cipipe"
    where = {"CIPIPE_SANDBOX_DIR": str(own / "sandbox")}
    if fresh:  # a work tree that cipipe has never worked in
        where = {"CIPIPE_SANDBOX_DIR": str(tmp_path / "sandbox")}
        (own / "sandbox").rename(tmp_path / "sandbox")
        own.rename(tmp_path / "own")
    try:
        mount = (
            'mount --bind "$PWD" "$PWD" && mount -o remount,ro,bind '
            '"$PWD" && cd "$PWD" && exec "$@"'
        )
        done = project.shell(
            f'exec unshare --mount bash -c {shlex.quote(mount)} bash "$@"', **where
        )
    finally:
        if fresh:
            (tmp_path / "own").rename(own)
            (tmp_path / "sandbox").rename(own / "sandbox")
    assert error_id(done) == ("folder-unwritable" if fresh else "file-refused")
    finish(project, aws)


# --- readers of the output ---------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        'exec "$@" 2> /dev/full',
        'exec "$@" > /dev/full 2>&1',
        '"$@" 2>&1 | head -n 3 > /dev/null; exit "${PIPESTATUS[0]}"',
        'exec "$@" <&- >&- 2>&-',
    ],
)
def test_nobody_reads(project: Project, aws: Aws, script: str) -> None:
    project.change()
    done = project.shell(script)
    assert done.status == 0, done.text
    assert "Traceback" not in done.text
    assert_finished(project, aws)


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["Creating...", "uploaded dags/"])
def test_the_terminal_hangs_up(project: Project, aws: Aws, words: str) -> None:
    project.change()
    with signals.heard():
        done = project.interrupted_at(words, signal.SIGHUP)
    assert (done.status, error_id(done)) == (130, "interrupted")
    finish(project, aws)


def test_twenty_kills(project: Project, aws: Aws) -> None:
    """Half of them kill cipipe alone, half also what it started, as a power cut does."""
    die = random.Random(SEED)
    print("seed", SEED)
    project.change()
    started = time.monotonic()
    assert project.run().status == 0
    usual = time.monotonic() - started
    remedies = 0
    for kill in range(20):
        project.change()
        child = project.start("run", "--sandbox", "--env", "dev")
        out, err = _killed(child, after=die.uniform(0.1, usual), everything=kill % 2 == 0)
        assert "Traceback" not in out + err, f"kill {kill}: {err}"
        remedies += _unlock(project, Outcome(child.returncode, out, err), {})
    _wait_for_orphans(project)
    done = _until_done(
        project, lambda: project.cipipe("run", "--sandbox", "--env", "dev"), {}, attempts=3
    )
    assert done.status == 0, done.text
    assert_finished(project, aws)


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "rate"), [(1, 0.1), (2, 0.2), (3, 0.3)])
def test_a_network_that_fails_at_random(
    project: Project, aws: Aws, sandbox: Sandbox, number: int, rate: float
) -> None:
    print("seed", SEED + number)
    project.change()
    calm = _job(sandbox, sandbox.state.aws_url, project.number)
    with FlakyProxy(sandbox.state.aws_url, seed=SEED + number, rate=rate) as proxy:
        done = _until_done(
            project,
            lambda: project.cipipe("run", **_job(sandbox, proxy.url, project.number)),
            calm,
            attempts=8,
        )
        print(proxy.met)
        assert proxy.met
    if done.status != 0:
        done = _until_done(project, lambda: project.cipipe("run", **calm), calm, attempts=2)
    assert done.status == 0, done.text
    assert_finished(project, aws)


def _job(sandbox: Sandbox, url: str, number: int) -> dict[str, str]:
    """A push to main in GitLab, to an AWS at `url`."""
    token = sandbox.mint(
        project="group/faults", ref="main", ref_type="branch", audience="https://gitlab.com"
    )
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_PROTECTED": "true",
        "CI_DEFAULT_BRANCH": "main",
        "CI_PIPELINE_IID": str(number),
        "CI_PROJECT_PATH": "group/faults",
        "AWS_ID_TOKEN": token,
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "TF_VAR_sandbox": "true",
    }


def _until_done(
    project: Project, run: Callable[[], Outcome], calm: dict[str, str], *, attempts: int
) -> Outcome:
    """Run until it is done, doing what a person would who reads the errors."""
    for _ in range(attempts):
        done = run()
        if done.status == 0:
            break
        error_id(done)
        _unlock(project, done, calm)
    return done


def _unlock(project: Project, done: Outcome, env: dict[str, str]) -> int:
    """Release a lock of somebody who is gone by the command that the error prints; how many there
    were.
    """
    found = re.search(r"cipipe (iac unlock [^\n`]*[0-9a-f]{8}-[0-9a-f-]{27})", done.err)
    if found is None:
        return 0
    _wait_for_orphans(project)
    if not [key for key in _locks(project) if key]:
        return 0
    unlocked = project.cipipe(*shlex.split(found[1]), **env)
    assert unlocked.status == 0, f"{found[1]}: {unlocked.text}"
    return 1


def _locks(project: Project) -> list[str]:
    found = client.find(project.folder / ".cipipe/sandbox")
    assert found is not None
    return [key for key in Aws(found).keys(BUCKET) if key.endswith(".tflock")]


def _killed(child: "subprocess.Popen[str]", *, after: float, everything: bool) -> tuple[str, str]:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.communicate(timeout=after)
    victims = _family(child.pid) if everything else [child.pid]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return child.communicate(timeout=60)


def _family(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _wait_for_orphans(project: Project) -> None:
    """Until no Terraform of a killed run works in the project any more."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        working: list[Any] = []
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if entry.readlink() == project.folder / "infra":
                    working.append(entry)
        if not working:
            return
        time.sleep(0.1)
    pytest.fail("a Terraform of a killed run does not end")
