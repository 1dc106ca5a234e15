"""For all tests: an interrupt is one, even where the tests run in the background of a shell; nothing printed is secret."""

import signal
from collections.abc import Generator, Iterator

import pytest
from leaks import leaks

_LEAKED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEAKED] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search what each test printed and logged for tokens and session tokens, its own fixtures' output included."""
    report = yield
    found = leaks("\n".join(text for _, text in report.sections))
    item.config.stash[_LEAKED] += [f"{item.nodeid}: {leak}" for leak in found]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    leaked = config.stash[_LEAKED]
    for leak in dict.fromkeys(leaked):
        terminalreporter.write_line(f"SECRET {leak}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[_LEAKED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
