"""Unit tests start no process and open no connection: whatever tries fails, and says so."""

import os
import socket
import subprocess
from typing import Any, NoReturn

import pytest


class EffectInUnitTest(BaseException):
    """Not an Exception, so that no `except Exception` between the effect and the test hides it."""


@pytest.fixture(autouse=True)
def _no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: str) -> Any:
        def refused(*arguments: Any, **_: Any) -> NoReturn:
            message = (
                f"a unit test tried to {what}: {arguments[1:] or arguments}; "
                "such a test belongs in tests/integration"
            )
            raise EffectInUnitTest(message)

        return refused

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse("start a process"))
    for name in ("system", "fork", "posix_spawn", "posix_spawnp"):
        monkeypatch.setattr(os, name, refuse("start a process"))
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse("open a connection"))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse("look up a host"))
