"""Why a smoke test failed, at a daemon that is scripted. A real one is in
tests/e2e/test_image_failures.py.
"""

from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.docker.smoke import Smoke, smoke


class Client:
    """The SDK's, with one container that fails."""

    def __init__(self, *, killed: bool = False, status: int = 137, prints: bytes = b"") -> None:
        self.api = self.containers = self
        self.given: dict[str, Any] = {}
        self.removed = False
        self.attrs = {"State": {"OOMKilled": killed}}
        self._status = status
        self._prints = prints

    def list(self, **_: Any) -> list[Any]:
        return []

    def inspect_image(self, _: str) -> dict[str, Any]:
        return {}

    def info(self) -> dict[str, int]:
        return {"MemTotal": 2000 << 20}

    def create(self, *_: Any, **given: Any) -> "Client":
        self.given = given
        return self

    def start(self) -> None: ...

    def reload(self) -> None: ...

    def logs(self, **_: Any) -> tuple[bytes, ...]:
        return (self._prints,)

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self._status}

    def remove(self, **_: Any) -> None:
        self.removed = True


def failure(client: Client, memory: int | None = None) -> StageError:
    wanted = Smoke(image="i:1", argv=["dbt", "parse"], timeout=60, memory=memory)
    with pytest.raises(StageError) as caught:
        smoke(client, wanted, redactor=Redactor(), line=lambda _: None, interrupt=Interrupt())
    assert caught.value.id == "docker-smoke-failed"
    assert client.removed
    return caught.value


def test_without_a_limit_the_daemons_memory_is_named() -> None:
    client = Client(killed=True)
    error = failure(client)
    assert "it ran out of memory: Docker's machine has 2000 MiB. The image" in error.message
    assert "mem_limit" not in client.given


def test_a_limit_is_that_of_memory_and_swap_together() -> None:
    client = Client(killed=True)
    assert "of which it may use 64 MiB" in failure(client, memory=64).message
    assert (client.given["mem_limit"], client.given["memswap_limit"]) == ("64m", "64m")


def test_a_daemon_that_does_not_say_how_much_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(killed=True)
    monkeypatch.delattr(Client, "info")
    assert "it ran out of memory. The image" in failure(client).message


def test_a_command_that_somebody_killed_did_not_run_out_of_memory() -> None:
    error = failure(Client())
    assert "exited with status 137: it was killed." in error.message


@pytest.mark.parametrize(
    ("prints", "limited"),
    [
        (b"/bin/sh: 1: Cannot fork\n", True),
        (b"sh: fork: retry: Resource temporarily unavailable\n", True),
        (b"RuntimeError: can't start new thread\n", True),
        # Of a socket, for example.
        (b"BlockingIOError: [Errno 11] Resource temporarily unavailable\n", False),
    ],
)
def test_a_command_that_may_start_no_more_processes(prints: bytes, limited: bool) -> None:
    error = failure(Client(status=1, prints=prints))
    assert ("it may have 1024 processes at most" in error.message) is limited
