"""What other users of this machine can do with a sandbox: nothing."""

import contextlib
import http.client
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cipipe.errors import UsageError
from cipipe.sandbox import Sandbox, SandboxOptions, find, needs, peers, up
from support.jobs import ACCOUNT, AUDIENCES
from support.open_sandbox import open_sandbox

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

NOBODY = 65534


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def sandbox(folder: Path) -> Iterator[Sandbox]:
    with open_sandbox(folder) as running:
        yield running


def as_nobody(act: Callable[[], Any]) -> Any:
    """What a function gives, called by another user of this machine."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Never comes back, and executes nothing: that user may not even read the interpreter.
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(act()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def ask(url: str, body: str) -> tuple[int, str]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=20)
    connection.request("POST" if body else "GET", place.path, body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@LINUX
@ROOT
def test_another_user_gets_no_token_and_no_image(sandbox: Sandbox) -> None:
    asked = json.dumps({"project": "group/shop", "ref": "main", "audience": AUDIENCES["gitlab"]})
    places = [
        (f"{sandbox.state.issuer_url}/_cipipe/token", asked),
        (f"{sandbox.state.issuer_url}/_cipipe/github-job", asked),
        (f"{sandbox.state.states_url}/gitlab.com/state/dev", "{}"),
        (f"{sandbox.state.aws_url}/_cipipe/exchanges", ""),
        (f"{sandbox.state.aws_url}/_cipipe/secret-hashes", ""),
        (f"{sandbox.state.aws_url}/_cipipe/longest-session", '{"seconds": 1}'),
    ]
    if sandbox.state.registry:
        places.append((f"http://{sandbox.state.registry}/v2/_catalog", ""))
    answers = as_nobody(lambda: [ask(*place) for place in places])
    assert [status for status, _ in answers] == [403] * len(places)
    assert all("belongs to another user" in text for _, text in answers)
    assert ask(*places[0])[0] == 200


def leave(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as client:
        return int(client.getsockname()[1])


@LINUX
def test_who_is_at_the_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, (_, number) = server.accept()
        assert peers.user_of(number, port) == os.geteuid()
        assert peers.user_of(port, number) == os.geteuid()
        assert peers.user_of(number, port + 1) is None
        client.close()
        assert peers.user_of(number, port) is None, (
            "a socket that its process has left is nobody's, and not root's"
        )
        accepted.close()
        if socket.has_ipv6:
            client = socket.socket(socket.AF_INET6)
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            client.connect(("::ffff:127.0.0.1", port))
            accepted, (_, number) = server.accept()
            assert peers.user_of(number, port) == os.geteuid()
            client.close()
            accepted.close()


@LINUX
@ROOT
def test_a_caller_that_leaves_at_once_does_not_count_as_root() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        number = int(as_nobody(lambda: leave(port)))
        assert peers.user_of(number, port) is None
        server.accept()[0].close()


@LINUX
def test_nothing_of_its_folder_is_for_others(sandbox: Sandbox, folder: Path) -> None:
    assert sandbox.state.account.secret_access_key in (folder / "sandbox.json").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if not path.is_symlink()]
    assert {"sandbox.json", "supervisor.log", "lock"} <= {path.name for path in files}
    open_ones = {
        str(path): oct(path.stat().st_mode) for path in files if path.stat().st_mode & 0o077
    }
    assert open_ones == {}


@LINUX
def test_nothing_but_the_front_issuer_states_and_images_listens(sandbox: Sandbox) -> None:
    """What the supervisor's family listens on: four ports of loopback at most."""
    state = sandbox.state
    ours = {urlsplit(url).port for url in (state.aws_url, state.issuer_url, state.states_url)}
    if needs.registry_program(os.environ):
        assert sandbox.state.registry is not None
        ours.add(int(sandbox.state.registry.rpartition(":")[2]))
    assert listening(family(sandbox.state.pid)) == ours


@ROOT
def test_a_folder_of_another_user_is_not_believed(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(UsageError) as caught:
        find(tmp_path)
    assert caught.value.id == "sandbox-folder-foreign"
    with pytest.raises(UsageError) as caught:
        up(
            SandboxOptions(directory=tmp_path, account_id=ACCOUNT, attached=False, docker=False),
            env={},
            say=print,
        )
    assert caught.value.id == "sandbox-folder-foreign"


def family(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[int]:
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(entry.readlink()).removeprefix("socket:[").rstrip("]"))
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        int(fields[1].rpartition(":")[2], 16)
        for fields in lines
        if fields[3] == "0A" and fields[9] in inodes
    }
