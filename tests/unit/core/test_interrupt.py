"""Ctrl-C, from the signal to whatever blocks in another thread."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from cipipe.interrupt import SIGNALS, Interrupt, attend
from support import signals


@pytest.fixture(autouse=True)
def _signals_are_heard() -> Iterator[None]:
    with signals.heard():
        yield


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_work_that_sleeps(number: signal.Signals) -> None:
    interrupt = Interrupt()
    before = [signal.getsignal(each) for each in SIGNALS]

    def work() -> None:
        os.kill(os.getpid(), number)
        interrupt.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        attend(interrupt, work)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt()
        attend(interrupt, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert not interrupt.happened
    finally:
        signal.signal(signal.SIGHUP, before)


def test_each_signal_calls_what_stops_the_work() -> None:
    interrupt, calls = Interrupt(), threading.Semaphore(0)

    def work() -> None:
        with interrupt.stopping(calls.release):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                assert calls.acquire(timeout=20)

    with pytest.raises(KeyboardInterrupt):
        attend(interrupt, work)


def test_what_the_stop_breaks_is_an_interrupt() -> None:
    interrupt = Interrupt()

    def read() -> NoReturn:
        interrupt.trigger()
        raise ConnectionResetError

    with pytest.raises(KeyboardInterrupt), interrupt.stopping(lambda: None):
        read()
    with pytest.raises(KeyboardInterrupt), interrupt.stopping(lambda: None):
        raise AssertionError


def test_without_an_interrupt_an_error_stays_what_it_is() -> None:
    interrupt = Interrupt()
    with pytest.raises(ConnectionResetError), interrupt.stopping(lambda: None):
        raise ConnectionResetError
    interrupt.check()
    interrupt.sleep(0)


def test_work_ends_with_its_result_or_its_error() -> None:
    assert attend(Interrupt(), lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        attend(Interrupt(), lambda: 1 // 0)


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    made: list[object] = []
    thread = threading.Thread(
        target=lambda: made.append(attend(Interrupt(), lambda: signal.getsignal(signal.SIGINT)))
    )
    thread.start()
    thread.join()
    assert made == [signal.getsignal(signal.SIGINT)]
