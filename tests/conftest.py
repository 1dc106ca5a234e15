"""For all tests: an interrupt is one, even where the tests themselves run in the background of a shell; an S3."""

import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def endpoint(moto_server: str) -> str:
    """AWS as moto has it, empty. A server, because its in-process mock is not made for threads."""
    import requests

    requests.post(f"{moto_server}/moto-api/reset", timeout=10)
    return moto_server
