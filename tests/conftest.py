"""For all tests: an interrupt is one, even where the tests themselves run in the background of a shell."""

import signal


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
