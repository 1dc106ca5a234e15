"""A container that gives a file back, at a daemon that is scripted."""

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cipipe.interrupt import Interrupt
from cipipe.tools.docker.probe import Probe, ProbeResult, probe


class Missing(Exception):
    pass


class Container:
    """Runs until it is stopped, or at once to its end."""

    def __init__(self, *, endless: bool = False, broken: bool = False) -> None:
        self.attrs: dict[str, Any] = {}
        self.calls: list[str] = []
        self.broken = broken
        self.ended = threading.Event()
        if not endless:
            self.ended.set()

    def start(self) -> None:
        if self.broken:
            message = "no space left"
            raise OSError(message)

    def put_archive(self, path: str, body: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            self.calls += [f"put {path}{name}" for name in archive.getnames()]

    def logs(self, *, stream: bool = False, follow: bool = False) -> Any:
        assert stream == follow
        return self._streamed() if stream else b"one\ntw\xc3\xb6\n"

    def _streamed(self) -> Iterator[bytes]:
        yield b"one\ntw\xc3"
        self.ended.wait(10)
        yield b"\xb6\n"

    def wait(self) -> dict[str, int]:
        self.ended.wait(10)
        return {"StatusCode": 137 if "kill" in self.calls else 0}

    def kill(self) -> None:
        self.calls.append("kill")
        self.ended.set()

    def stop(self, *, timeout: int) -> None:
        self.calls.append(f"stop {timeout}")
        self.ended.set()

    def get_archive(self, path: str) -> Any:
        raise Missing(path)

    def remove(self, *, force: bool, v: bool) -> None:
        self.calls.append(f"remove {force} {v}")


class Client:
    """The SDK's."""

    def __init__(self, container: Container, left: Container | None = None) -> None:
        self.containers = self
        self.container = container
        self.left = [left] if left else []
        self.given: dict[str, Any] = {}

    def list(self, **_: Any) -> list[Container]:
        return self.left

    def create(self, *_: Any, **given: Any) -> Container:
        self.given = given
        return self.container


def run(container: Container, *, left: Container | None = None, **given: Any) -> ProbeResult:
    wanted = Probe(image="i", argv=["dbt"], **given)
    return probe(Client(container, left), wanted, Interrupt(), missing=Missing)


def test_it_has_no_network_unless_that_is_asked_for() -> None:
    closed = Probe(image="i", argv=["dbt"])
    for wanted, network in ((closed, "none"), (msgspec.structs.replace(closed, network="n"), "n")):
        client = Client(Container())
        probe(client, wanted, Interrupt(), missing=Missing)
        assert client.given["network_mode"] == network
        assert client.given["cap_drop"] == ["ALL"]


def test_the_container_is_removed_with_its_volumes_whatever_happens() -> None:
    done = Container()
    assert run(done, files={"/a/b": b"1"}, result="/c") == ProbeResult(0, "one\ntwö\n", None)
    assert done.calls == ["put /a/b", "remove True True"]
    broken = Container(broken=True)
    with pytest.raises(OSError, match="no space"):
        run(broken)
    assert broken.calls == ["remove True True"]


def test_output_is_shown_while_it_runs() -> None:
    shown: list[str] = []

    def lines(chunks: Iterator[str]) -> Iterator[str]:
        for chunk in chunks:
            shown.append(chunk)
            yield chunk.strip()

    wanted = Probe(image="i", argv=["dbt"])
    done = probe(Client(Container()), wanted, Interrupt(), missing=Missing, lines=lines)
    assert shown == ["one\ntw", "ö\n"]
    assert done.printed == "one\ntw\nö"


@pytest.mark.parametrize(("grace", "call"), [(0, "kill"), (15, "stop 15")])
def test_one_that_takes_too_long_is_stopped(grace: int, call: str) -> None:
    container = Container(endless=True)
    done = run(container, timeout=0, grace=grace)
    assert done.timed_out
    assert container.calls == [call, "remove True True"]


def test_an_interrupt_stops_it() -> None:
    container = Container(endless=True)
    interrupt = Interrupt()
    threading.Timer(0.1, interrupt.trigger).start()
    wanted = Probe(image="i", argv=["dbt"], grace=15)
    with pytest.raises(KeyboardInterrupt):
        probe(Client(container), wanted, interrupt, missing=Missing)
    assert container.calls == ["stop 15", "remove True True"]


@pytest.mark.parametrize(("age", "calls"), [(-60, []), (60, ["remove True True"])])
def test_what_a_crash_left_is_removed_when_it_is_nobodys(age: int, calls: list[str]) -> None:
    left = Container()
    left.attrs = {"Labels": {"io.cipipe.expires": str(int(time.time()) - age)}}
    run(Container(), left=left)
    assert left.calls == calls


def test_each_container_says_when_it_is_nobodys() -> None:
    client = Client(Container())
    probe(client, Probe(image="i", argv=["dbt"], timeout=60), Interrupt(), missing=Missing)
    expires = int(client.given["labels"]["io.cipipe.expires"])
    assert 60 < expires - time.time() < 600
