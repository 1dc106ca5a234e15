"""The guard of the unit tests: effects fail, and `except Exception` does not catch that."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest

from cipipe.tools import process


def unwanted() -> list[Callable[[], object]]:
    return [
        lambda: subprocess.run([sys.executable, "-c", "pass"], check=False),
        lambda: process.run(["git", "version"], env={}),
        lambda: process.stream(["git", "version"], env={}, line=print),
        lambda: os.system("true"),
        lambda: socket.create_connection(("127.0.0.1", 9)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: urllib.request.urlopen("http://127.0.0.1:9/"),
    ]


@pytest.mark.parametrize("number", range(len(unwanted())))
def test_an_effect_fails(number: int) -> None:
    with pytest.raises(BaseException, match="a unit test tried to") as caught:
        unwanted()[number]()
    assert not isinstance(caught.value, Exception)


def test_a_socket_cannot_connect() -> None:
    with socket.socket() as made, pytest.raises(BaseException, match="open a connection"):
        made.connect(("127.0.0.1", 9))
