"""For all tests: an interrupt is one, even in the background of a shell; nothing printed is secret.

With pytest-xdist each file stays on one worker, and all of tests/e2e/pipeline on one: they share a
clone.
"""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from support import servers
from support.leaks import leaks

# How long an example takes says more about the machine than about the code.
settings.register_profile("cipipe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cipipe")


class LeakScan:
    """Searches what each test printed and logged, fixtures included, for tokens and session tokens.

    Reports of all workers reach the controller, so the scan sees every test in a parallel run too.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        printed = "\n".join(text for _, text in report.sections)
        self.found += [f"{report.nodeid}: {leak}" for leak in leaks(printed)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for leak in dict.fromkeys(self.found):
            terminalreporter.write_line(f"SECRET {leak}", red=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeakScan())
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Work for a worker is a file; tests/e2e/pipeline is a single piece of work."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder == "tests/e2e/pipeline" else file


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    with servers.moto() as url:
        yield url


@pytest.fixture
def endpoint(moto_server: str) -> str:
    """An AWS of moto's that is empty."""
    import requests

    requests.post(f"{moto_server}/moto-api/reset", timeout=10)
    return moto_server
