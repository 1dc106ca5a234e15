"""Waiting for a state lock that another has."""

import threading
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import ConflictError, StageError
from cipipe.redact import Redactor
from cipipe.tools.terraform.commands import Commands
from cipipe.tools.terraform.log.lock_wait import Waiting


def commands(folder: Path, lines: list[str], timeout: str) -> Commands:
    return Commands(
        root=folder,
        data_dir=folder / "d",
        env={},
        redactor=Redactor(),
        line=lines.append,
        unlock_command="unlock",
        lock_timeout=timeout,
    )


def work(given: list[str], *errors: Exception | None) -> Any:
    waiting = list(errors)

    def run(lock: str, _: object) -> str:
        given.append(lock)
        error = waiting.pop(0)
        if error is not None:
            raise error
        return "done"

    return run


LOCKED = ConflictError("terraform-locked", "the state is locked by eve")


def test_a_free_lock_is_not_waited_for(tmp_path: Path) -> None:
    lines: list[str] = []
    given: list[str] = []
    assert commands(tmp_path, lines, "5m").locking(work(given, None)) == "done"
    assert given == ["-lock-timeout=0s"]
    assert lines == []


def test_a_held_lock_is_named_and_waited_for_once(tmp_path: Path) -> None:
    lines: list[str] = []
    given: list[str] = []
    with pytest.raises(ConflictError):
        commands(tmp_path, lines, "5m").locking(work(given, LOCKED, LOCKED))
    assert given == ["-lock-timeout=0s", "-lock-timeout=5m"]
    assert lines == ["the state is locked by eve; waiting up to 5m for it"]


@pytest.mark.parametrize(
    ("error", "timeout"),
    [
        (LOCKED, "0s"),
        (LOCKED, "0m0s"),
        (ConflictError("terraform-plan-stale", "stale"), "5m"),
        (StageError("terraform-lock-denied", "denied"), "5m"),
    ],
)
def test_nothing_else_is_done_again(error: Exception, timeout: str, tmp_path: Path) -> None:
    given: list[str] = []
    with pytest.raises(type(error)):
        commands(tmp_path, [], timeout).locking(work(given, error))
    assert len(given) == 1


def test_the_wait_is_reported_until_the_lock_is_there() -> None:
    said = threading.Semaphore(0)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        said.release()

    with Waiting(line, "5m", every=0.001) as waiting:
        follow = waiting.following(lambda message: str(message["type"]))
        assert follow({"type": "state_lock_acquire"}) == "state_lock_acquire"
        assert said.acquire(timeout=30)
        assert lines[0].startswith("still waiting for the state lock (0s of 5m")
        follow({"type": "refresh_start"})
        assert waiting.over
