"""Every class of error has its own exit status, the one in the table of docs/errors.md."""

import pytest

from cipipe import errors
from cipipe.errors import CipipeError, Problem, ProblemsError
from cipipe.pipeline.identity import access
from cipipe.tools import http, process
from cipipe.tools.aws import errors as aws_errors

STATUS = {
    errors.CipipeError: 1,
    errors.UsageError: 2,
    errors.ProblemsError: 2,
    errors.IdentityError: 3,
    errors.StageError: 4,
    errors.RefusedError: 5,
    errors.BlockedError: 5,
    errors.ConflictError: 6,
    errors.InterruptedRun: 130,
}
DOORS = (access, aws_errors, http, process)


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
def test_exit_status(kind: type[CipipeError], status: int) -> None:
    assert kind.exit_status == status


def test_no_class_is_left_out() -> None:
    assert {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, CipipeError)
    } == set(STATUS)


def test_a_subclass_elsewhere_keeps_the_status_of_its_base() -> None:
    assert DOORS
    waiting, seen = [CipipeError], []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        seen.append(kind)
        assert kind.exit_status in STATUS.values()
        if kind not in STATUS:
            assert "exit_status" not in vars(kind), f"{kind} has a status of its own"
    assert len(seen) > len(STATUS)


def test_a_single_problem_says_where() -> None:
    one = Problem("a", "b", "file:1")
    assert ProblemsError("x", "y", (one,)).where == "file:1"
    assert ProblemsError("x", "y", (one, one)).where is None


def test_an_error_is_its_message() -> None:
    error = errors.StageError("id", "message", hint="hint", where="where")
    assert (str(error), error.id, error.message, error.hint, error.where) == (
        "message",
        "id",
        "message",
        "hint",
        "where",
    )
