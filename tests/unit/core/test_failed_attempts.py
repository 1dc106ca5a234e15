"""What an attempt that fails leaves in the ledger: a note beside the record, which never gets in
anybody's way.
"""

import errno
from typing import Any

import msgspec
import pytest

from cipipe.errors import RefusedError, StageError
from cipipe.ledger import Ledger, StoredFailure
from cipipe.model import FailedAttempt, Mode, State
from cipipe.stages.context import Action, StageContext, StageResult
from cipipe.tools.aws.errors import AwsError
from support.fakes import READ, WRITE, FakeBucket, FakeStages

KEY = "p/failures/a.json"
STATES = [None, *State]


def fails(_: StageContext[Any], __: StageResult) -> None:
    raise StageError("tool-failed", "it broke: hunter22")


def interrupts(_: StageContext[Any], __: StageResult) -> None:
    raise KeyboardInterrupt


def fills_the_disk(_: StageContext[Any], __: StageResult) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def noted(fake: FakeStages) -> FailedAttempt | None:
    body = fake.bucket.objects.get(KEY)
    return msgspec.json.decode(body, type=StoredFailure).failure if body else None


def known(state: State | None) -> dict[str, State | str]:
    # An outdated fingerprint makes a deployed stage due.
    return {} if state is None else {"a": "other" if state is State.DEPLOYED else state}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("step", "error"),
    [(fails, "tool-failed"), (interrupts, "interrupted"), (fills_the_disk, "disk-full")],
)
def test_a_failure_before_the_first_write_leaves_the_record_as_it_was(
    step: Action, error: str, state: State | None
) -> None:
    fake = FakeStages(a="")
    fake.does("a", (READ, step), WRITE)
    runner = fake.runner(**known(state))
    before = fake.bucket.objects.get("p/a.json")
    runner.deploy()
    assert fake.bucket.objects.get("p/a.json") == before
    found = noted(fake)
    assert found is not None
    assert (found.error, found.commit, found.ref) == (error, "c" * 40, "main")
    assert (found.provider, found.sequence, found.pipeline_url) == ("gitlab", 9, "https://ci/9")
    assert b"hunter22" not in fake.bucket.objects[KEY]


@pytest.mark.parametrize("state", STATES)
def test_a_failure_after_the_first_write_is_noted_too(state: State | None) -> None:
    fake = FakeStages(a="")
    fake.does("a", READ, (WRITE, fails))
    fake.deploy(**known(state))
    assert fake.state("a") == "failed"
    found = noted(fake)
    assert found is not None
    assert found.error == "tool-failed"
    assert found.is_newer_than(fake.record("a"))


def test_another_run_that_has_planned_already_still_deploys() -> None:
    """The failure of one of two pipelines at the same time is not a conflict for the other."""
    fake = FakeStages(a="")
    other = fake.runner(a="other")
    fake.does("a", (READ, fails), WRITE)
    fake.runner().deploy()
    assert noted(fake) is not None

    fake.does("a", READ, WRITE)
    other.deploy()
    assert other.error is None
    assert fake.state("a") == "deployed"


def test_it_counts_until_the_next_success() -> None:
    fake = FakeStages(a="")
    fake.does("a", (READ, fails), WRITE)
    fake.deploy(a="other")
    assert fake.ledger.failures({"a": fake.record("a")}) == {"a": noted(fake)}
    assert fake.ledger.failures({"a": None}) == {"a": noted(fake)}
    fake.does("a", READ, WRITE)
    assert fake.deploy()[0] == {"a": "done"}
    assert noted(fake) is not None
    assert fake.ledger.failures({"a": fake.record("a")}) == {"a": None}


def test_it_makes_nothing_due() -> None:
    fake = FakeStages(a="")
    fake.deploy()
    failure = FailedAttempt(
        error="tool-failed",
        at="2999-01-01T00:00:00.000000+00:00",
        commit="c" * 40,
        ref=None,
        provider=None,
        sequence=None,
        pipeline_url=None,
    )
    fake.ledger.note_failure("a", failure)
    assert fake.deploy()[0] == {"a": "unchanged"}


def test_a_run_that_loses_its_stage_says_nothing() -> None:
    fake = FakeStages(a="")

    def taken(_: StageContext[Any], __: StageResult) -> None:
        fake._record("a", State.DEPLOYING)

    fake.does("a", (READ, taken), WRITE)
    _, runner = fake.deploy(a="other")
    assert runner.error is not None
    assert runner.error.id == "ledger-conflict"
    assert noted(fake) is None


def test_a_refusal_is_noted() -> None:
    fake = FakeStages(a="")

    def refuses(_: StageContext[Any], __: StageResult) -> None:
        raise RefusedError("not-in-earlier-environment", "deploy it there first")

    fake.does("a", (READ, refuses), WRITE)
    fake.deploy()
    found = noted(fake)
    assert found is not None
    assert found.error == "not-in-earlier-environment"


def test_a_merge_request_writes_nothing() -> None:
    fake = FakeStages(mode=Mode.VERIFY, a="")
    fake.does("a", (READ, fails))
    assert fake.deploy()[0] == {"a": "failed"}
    assert fake.bucket.objects == {}


def test_a_stage_without_a_record_has_no_note() -> None:
    fake = FakeStages(a="")
    candidate = fake.candidates["a"]
    always = msgspec.structs.replace(candidate.stage, when="always")
    fake.candidates["a"] = msgspec.structs.replace(candidate, stage=always)
    fake.does("a", (READ, fails))
    assert fake.deploy()[0] == {"a": "failed"}
    assert fake.bucket.objects == {}


def test_an_input_that_is_missing_is_a_failed_attempt() -> None:
    fake = FakeStages(a="")
    fake.takes("a", "bucket")
    assert fake.deploy()[0] == {"a": "failed"}
    assert noted(fake) is not None


def test_a_note_that_cannot_be_written_is_a_warning() -> None:
    fake = FakeStages(a="")
    fake.does("a", (READ, fails), WRITE)

    def denied(key: str) -> None:
        raise AwsError("s3:PutObject", "AccessDenied", "no", 403)

    fake.bucket.before_put = denied
    _, runner = fake.deploy()
    assert runner.error is not None
    assert runner.error.id == "tool-failed"
    (warning,) = fake.listener.warnings
    assert warning.startswith("cannot record in the ledger that a failed: AWS refused")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": 1, "stage": "a", "failure": {}}',
        b"[" * 100_000,
    ],
)
def test_a_note_that_cannot_be_read_counts_as_none(body: bytes) -> None:
    bucket = FakeBucket()
    bucket.objects[KEY] = body
    assert Ledger(bucket, "p/").failures({"a": None}) == {"a": None}


@pytest.mark.parametrize("changed", [{"schema": 2}, {"stage": "b"}])
def test_nor_does_one_of_another_version_or_stage(changed: dict[str, Any]) -> None:
    fake = FakeStages(a="")
    fake.does("a", (READ, fails))
    fake.deploy()
    document = {**msgspec.json.decode(fake.bucket.objects[KEY]), **changed}
    fake.bucket.objects[KEY] = msgspec.json.encode(document)
    assert fake.ledger.failures({"a": None}) == {"a": None}


def test_nor_does_one_that_this_role_may_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FakeBucket()

    def denied(*_: Any) -> Any:
        raise AwsError("s3:GetObject", "AccessDenied", "no", 403)

    monkeypatch.setattr(bucket, "get", denied)
    assert Ledger(bucket, "p/").failures({"a": None}) == {"a": None}
