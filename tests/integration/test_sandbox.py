"""A sandbox's life: up, found again, down, and stopped when its parent dies."""

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from cipipe.errors import StageError
from cipipe.sandbox import Sandbox, SandboxOptions, attached, down, find, missing, up
from cipipe.sandbox import state as states
from cipipe.sandbox.images import dockerd
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws

ACCOUNT = "111111111111"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

PARENT = """
import json, os, sys, time
from pathlib import Path
from typing import Any
from cipipe.sandbox import SandboxOptions, up
options = SandboxOptions(
    directory=Path(sys.argv[1]), account_id="111111111111", docker=sys.argv[2] == "docker"
)
found = up(options, env=dict(os.environ), say=lambda text: None)
print(found.state.pid, flush=True)
time.sleep(600)
"""


def start(directory: Path, env: Mapping[str, str] | None = None, **changes: Any) -> Sandbox:
    options = SandboxOptions(directory=directory, account_id=ACCOUNT, attached=False, docker=False)
    changed = msgspec.structs.replace(options, **changes)
    return up(changed, env=dict(os.environ) if env is None else env, say=print)


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, queue = set(), [pid]
    while queue:
        found.add(current := queue.pop())
        queue += children.get(current, [])
    return found


def alive(pids: set[int]) -> set[int]:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {
                "Z",
                "X",
            }
        except OSError:
            return False

    return {pid for pid in pids if lives(pid)}


def gone(pids: set[int], within: float = 40) -> bool:
    ends = time.monotonic() + within
    while alive(pids) and time.monotonic() < ends:
        time.sleep(0.05)
    return not alive(pids)


def listening(sandbox: Sandbox) -> list[str]:
    """The sandbox's ports on which somebody listens."""
    places = [
        urlsplit(sandbox.state.aws_url).netloc,
        urlsplit(sandbox.state.issuer_url).netloc,
        sandbox.state.registry,
    ]
    found = []
    for place in filter(None, places):
        host, _, port = place.partition(":")
        with socket.socket() as client:
            if client.connect_ex((host, int(port))) == 0:
                found.append(place)
    return found


def silent(sandbox: Sandbox) -> bool:
    """Whether all its ports close; the kernel closes those of an ended process a moment after its
    main thread.
    """
    ends = time.monotonic() + 5
    while listening(sandbox) and time.monotonic() < ends:
        time.sleep(0.02)
    return not listening(sandbox)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "sandbox"
    down(tmp_path / "sandbox")


@LINUX
def test_up_is_found_again_and_down_leaves_nothing(directory: Path) -> None:
    sandbox = start(directory)
    pids = family(sandbox.state.pid)
    assert len(listening(sandbox)) == 2 + (sandbox.state.registry is not None)
    assert stat.S_IMODE((directory / states.NAME).stat().st_mode) == 0o600
    assert json.loads((directory / states.NAME).read_text())["schema"] == 1
    assert find(directory) == sandbox
    assert start(directory) == sandbox
    assert down(directory)
    assert gone(pids, within=1)
    assert silent(sandbox)
    assert find(directory) is None
    assert not down(directory)


def test_starts_quickly(directory: Path) -> None:
    began = time.monotonic()
    start(directory)
    assert time.monotonic() - began < 6


def test_an_attached_one_stops_with_its_block_even_after_an_error(directory: Path) -> None:
    said: list[str] = []
    met: list[Sandbox | None] = []

    def interrupted() -> None:
        options = SandboxOptions(directory=directory, account_id=ACCOUNT, docker=False)
        with attached(options, env=dict(os.environ), say=said.append):
            met.append(find(directory))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (sandbox,) = met
    assert sandbox is not None
    assert find(directory) is None
    assert silent(sandbox)
    assert said


def test_a_block_leaves_a_sandbox_running_that_it_did_not_start(directory: Path) -> None:
    kept = start(directory)
    options = SandboxOptions(directory=directory, account_id=ACCOUNT, docker=False)
    with attached(options, env=dict(os.environ), say=print) as sandbox:
        assert sandbox == kept
    assert find(directory) == kept


@LINUX
@pytest.mark.parametrize("docker", ["docker", "plain"])
def test_stops_when_its_parent_is_killed(directory: Path, docker: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, directory, docker], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        sandbox = find(directory)
        assert sandbox is not None
        pids = family(pid)
        assert alive(pids) == pids
        parent.kill()
    assert gone(pids)
    assert silent(sandbox)
    assert not (directory / states.NAME).exists()
    if sandbox.state.docker_host:
        assert not Path(sandbox.state.docker_host.removeprefix("unix://")).parent.exists()


@LINUX
@pytest.mark.parametrize("docker", [True, False])
def test_nothing_outlives_a_supervisor_that_is_killed(directory: Path, docker: bool) -> None:
    sandbox = start(directory, docker=docker)
    pids = family(sandbox.state.pid)
    os.kill(sandbox.state.pid, signal.SIGKILL)
    assert gone(pids)
    assert find(directory) is None
    assert not (directory / states.NAME).exists()
    if sandbox.state.docker_host:
        assert not Path(sandbox.state.docker_host.removeprefix("unix://")).parent.exists()


@LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_a_signal(directory: Path, number: signal.Signals) -> None:
    sandbox = start(directory)
    pids = family(sandbox.state.pid)
    os.kill(sandbox.state.pid, number)
    assert gone(pids)
    assert not (directory / states.NAME).exists()


def test_a_state_file_of_somebody_else_is_not_believed(directory: Path) -> None:
    sandbox = start(directory)
    path = directory / states.NAME
    document = path.read_text()
    path.write_text(document.replace(sandbox.state.identity, "0" * 32))
    assert find(directory) is None
    path.write_text(document)
    assert find(directory) == sandbox


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_a_damaged_state_file_is_no_sandbox(tmp_path: Path, text: str) -> None:
    (tmp_path / states.NAME).write_text(text)
    assert find(tmp_path) is None


@LINUX
def test_a_service_that_does_not_start_takes_the_rest_down(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "docker-registry"
    broken.write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
    broken.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    with pytest.raises(StageError, match="the disk is full") as caught:
        start(directory, env=env)
    assert caught.value.id == "sandbox-not-started"
    assert find(directory) is None


def test_one_sandbox_holds_every_account(directory: Path) -> None:
    sandbox = start(directory)
    endpoint = sandbox.endpoint("eu-central-1")
    assert Aws(endpoint, sandbox.admin).account_id() == ACCOUNT
    assert Aws(endpoint, sandbox.admin_of("222222222222")).account_id() == "222222222222"


def test_large_and_conditional_objects_pass(directory: Path) -> None:
    sandbox = start(directory)
    aws = Aws(sandbox.endpoint("eu-central-1"), sandbox.admin)
    aws.call(
        "s3",
        "create_bucket",
        Bucket="bucket",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
    )
    bucket = aws.bucket("bucket")
    body = os.urandom(1 << 20) * 100
    assert bucket.put("large", body, if_none_match=True)
    assert bucket.put("large", b"", if_none_match=True) is None
    found = bucket.get("large")
    assert found is not None
    assert found.body == body
    head = bucket.head("large")
    assert head is not None
    assert head.sha256 == hashlib.sha256(body).hexdigest()
    answer = http.request("HEAD", f"{sandbox.state.aws_url}/bucket/none")
    assert (answer.status, answer.body) == (403, b"")
    assert bucket.head("none") is None


def test_child_env_points_tools_at_the_sandbox_and_holds_no_credentials(directory: Path) -> None:
    sandbox = start(directory)
    env = sandbox.child_env()
    assert env["AWS_ENDPOINT_URL"] == env["AWS_ENDPOINT_URL_STS"] == sandbox.state.aws_url
    assert env["TF_VAR_sandbox"] == "true"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DOCKER_HOST"} & set(env)


def test_missing_tools_are_reported_with_how_to_install_them() -> None:
    found = missing({"PATH": "/nonexistent", "DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    assert set(found) >= {"terraform", "registry"}
    assert "apt install docker-registry" in found["registry"]


def test_two_sandboxes_share_no_docker_data(tmp_path: Path) -> None:
    if not dockerd.program(os.environ) or dockerd.answers(os.environ):
        if os.environ.get("CI"):
            pytest.fail("this machine has no dockerd to start, or a daemon already")
        pytest.skip("this machine has no dockerd to start, or a daemon already")
    data = tmp_path / "data"
    try:
        one = start(tmp_path / "one", docker=True, docker_data=data)
        other = start(tmp_path / "other", docker=True, docker_data=data)
        assert one.state.docker_host != other.state.docker_host
        assert all(dockerd.answers({"DOCKER_HOST": str(s.state.docker_host)}) for s in (one, other))
        assert (data / "image").is_dir()
        assert (tmp_path / "other" / "docker" / "image").is_dir()
    finally:
        down(tmp_path / "one")
        down(tmp_path / "other")
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
