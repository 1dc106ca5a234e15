"""Which manifest a rollback goes back to."""

from typing import Any

import pytest

from cipipe.errors import RefusedError
from cipipe.model import Record, State
from cipipe.stages.dags.rollback import choose


def record(
    commit: str,
    content: str | None,
    state: State = State.DEPLOYED,
    finished: str | None = None,
    **data: Any,
) -> Record:
    manifest = {"dags/a.py": {"sha256": content, "version": "v"}}
    return Record(
        schema=1,
        stage="dags",
        fingerprint="f",
        effective=None,
        state=state,
        commit=commit * 40,
        ref=None,
        provider=None,
        sequence=None,
        pipeline_url=None,
        started_at="",
        finished_at=finished,
        data={"manifest": manifest, **data},
    )


def chosen(*history: Record, to: str | None = None) -> str:
    return (choose(history, to).commit or "")[0]


def test_default_is_the_last_deployment_that_differs() -> None:
    assert chosen(record("c", "3"), record("b", "2"), record("a", "1")) == "b"
    assert chosen(record("c", "2"), record("b", "2"), record("a", "1")) == "a"


def test_another_rollback_goes_further_back_and_never_forward() -> None:
    first = record("a", "1", finished="t1")
    second = record("b", "2", finished="t2")
    bad = record("c", "3", finished="t3")
    back = record("b", "2", finished="t4", restored="t2")
    # The rollback to `second` counts as `second`.
    assert chosen(back, bad, second, first) == "a"
    assert chosen(back, bad, second, first, to="c") == "c"
    broken = record("b", "2", State.FAILED, finished="t4", restored="t2")
    assert chosen(broken, bad, second, first) == "a"
    assert chosen(record("d", "4", finished="t5"), back, bad, second, first) == "b"
    # Before the first one there is nothing.
    with pytest.raises(RefusedError):
        chosen(record("a", "1", finished="t5", restored="t1"), back, bad, second, first)


def test_failed_deployments_are_undone_and_never_restored() -> None:
    assert chosen(record("c", "3"), record("b", "2", State.FAILED), record("a", "1")) == "a"
    assert chosen(record("c", None, State.DEPLOYING), record("b", "2"), record("a", "1")) == "b"
    assert chosen(record("c", None, State.FAILED), record("b", "2"), record("a", "1")) == "b"


def test_a_stopped_rollback_continues() -> None:
    half = record("a", None, State.DEPLOYING, rollback="t1")
    first = record("a", "1", finished="t1")
    again = record("a", "4", finished="t3")
    assert chosen(half, record("c", "3"), record("b", "2"), first) == "a"
    assert choose([half, again, record("b", "2"), first], None) is first, (
        "and not to another one of the same commit"
    )
    assert chosen(half, record("c", "3"), record("b", "2"), first, to="b") == "b"
    assert chosen(record("d", "4", rollback="t1"), record("c", "3"), first) == "c"


def test_the_newest_deployment_of_a_commit() -> None:
    newer = record("a", "1")
    older = record("a", "2")
    assert choose([record("b", "3"), newer, older], "aaaa") is newer


@pytest.mark.parametrize(
    ("history", "to", "hint"),
    [
        ([], None, "Manifests are versions of the stage's record"),
        ([record("a", "1")], None, "Manifests are versions of the stage's record"),
        ([record("b", "1"), record("a", "1")], None, "aaaaaaaaaaaa."),
        ([record("b", "2"), record("a", "1")], "cc", "bbbbbbbbbbbb, aaaaaaaaaaaa."),
        # A destroy deleted the versions from before.
        (
            [record("b", "2"), record("x", "", State.DESTROYED), record("a", "1")],
            "aa",
            "bbbbbbbbbbbb.",
        ),
    ],
)
def test_nothing_to_go_back_to(history: list[Record], to: str | None, hint: str) -> None:
    with pytest.raises(RefusedError) as caught:
        choose(history, to)
    assert caught.value.id == "dags-rollback-unknown"
    assert (caught.value.hint or "").endswith(hint) or hint in (caught.value.hint or "")
