"""Sessions that follow each other, by a clock that is set by hand."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from cipipe.errors import IdentityError
from cipipe.oidc.renewal import Renewed
from cipipe.tools.aws.credentials import Credentials

START = datetime(2026, 1, 1, tzinfo=UTC)


class Job:
    """A job that mints a token for each session of `length` seconds, unless it `fails`."""

    def __init__(self, length: int) -> None:
        self.now = START
        self.length = timedelta(seconds=length)
        self.tokens = 0
        self.fails = False
        self.tried = 0
        self.meanwhile: Callable[[], None] = lambda: None
        self.renewed = Renewed(self.start, lambda: self.now)

    def start(self) -> Credentials:
        self.tried += 1
        self.meanwhile()
        if self.fails:
            raise IdentityError("oidc-request-failed", "no token")
        self.tokens += 1
        return Credentials(f"ASIA{self.tokens}", "secret", "token", self.now + self.length)

    def at(self, seconds: float) -> str:
        self.now = START + timedelta(seconds=seconds)
        return self.renewed.current().access_key_id


def test_the_second_refresh_of_a_600_second_job_mints_a_new_token() -> None:
    job = Job(900)  # the shortest session that AWS gives
    assert job.at(0) == "ASIA1"
    assert job.at(300) == "ASIA1"
    assert job.at(600) == "ASIA2"
    assert job.tokens == 2


def test_a_session_is_renewed_fifteen_minutes_early() -> None:
    job = Job(3600)
    assert [job.at(seconds) for seconds in (0, 2699, 2701, 5000)] == [
        "ASIA1",
        "ASIA1",
        "ASIA2",
        "ASIA2",
    ]


def test_a_failed_renewal_falls_back_to_the_old_session() -> None:
    job = Job(900)
    job.at(0)
    job.fails = True
    assert job.at(899) == "ASIA1"
    with pytest.raises(IdentityError):
        job.at(900)
    job.fails = False
    assert job.at(901) == "ASIA2"


def test_a_failed_first_session_raises() -> None:
    job = Job(900)
    job.fails = True
    with pytest.raises(IdentityError):
        job.at(0)


def test_concurrent_callers_share_one_session() -> None:
    job = Job(900)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(job.renewed.current().access_key_id))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ASIA1"] * 16


def test_a_failed_renewal_is_not_repeated_for_each_caller() -> None:
    job = Job(900)
    job.at(0)
    job.fails = True
    assert [job.at(seconds) for seconds in (450, 451, 509, 511, 570)] == ["ASIA1"] * 5
    assert job.tried == 3, "at first, and once a minute"


def test_a_running_renewal_does_not_block_callers() -> None:
    job = Job(900)
    job.at(0)
    job.now = START + timedelta(seconds=600)
    met: list[str] = []
    job.meanwhile = lambda: met.append(asked_in_a_thread(job))
    assert job.renewed.current().access_key_id == "ASIA2"
    assert met == ["ASIA1"]


def asked_in_a_thread(job: Job) -> str:
    """What another thread gets, without waiting for this one."""
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(job.renewed.current().access_key_id), daemon=True
    )
    thread.start()
    thread.join(5)
    return "".join(found) or "nothing: it waits"
