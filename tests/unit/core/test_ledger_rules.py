"""The ledger's own rules, against a bucket in memory: who wins, what is damaged, what a store has
to honour.
"""

from typing import Any

import msgspec
import pytest

from cipipe.errors import CipipeError, ConflictError, StageError
from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import Output, Record, State
from cipipe.tools.aws.s3 import Written
from support.fakes import FakeBucket


def record(state: State = State.DEPLOYING, stage: str = "iac", **changes: object) -> Record:
    made = Record(
        schema=1,
        stage=stage,
        fingerprint="f" * 64,
        effective=None,
        state=state,
        commit="c" * 40,
        ref="main",
        provider="gitlab",
        sequence=7,
        pipeline_url="https://ci/7",
        started_at="2026-01-02T03:04:05+00:00",
        finished_at=None,
    )
    return msgspec.structs.replace(made, **changes)


def test_what_is_written_is_read_again() -> None:
    ledger = Ledger(FakeBucket(), "p/")
    assert ledger.read(["iac", "dags"]) == {"iac": None, "dags": None}
    first = ledger.write(record(), None)
    second = ledger.write(record(State.DEPLOYED, data={"x": [1]}), first)
    assert ledger.read(["iac"]) == {"iac": second}
    assert second.record.data == {"x": [1]}


@pytest.mark.parametrize("previous", ["none", "stale"])
def test_the_one_who_comes_later_loses_and_learns_who_was_first(previous: str) -> None:
    bucket = FakeBucket()
    ours = Ledger(bucket, "p/")
    before = ours.write(record(State.DEPLOYED), None) if previous == "stale" else None
    Ledger(bucket, "p/").write(record(provider="github", pipeline_url=None), before)
    with pytest.raises(ConflictError) as caught:
        ours.write(record(), before)
    assert (caught.value.id, caught.value.exit_status) == ("ledger-conflict", 6)
    assert (
        caught.value.message
        == "stage iac was changed by github (deploying since 2026-01-02 03:04:05 UTC)"
    )
    assert caught.value.where == "s3://ledger/p/iac.json"


def test_a_record_that_was_deleted_meanwhile_is_a_conflict() -> None:
    bucket = FakeBucket()
    ledger = Ledger(bucket, "p/")
    stored = ledger.write(record(), None)
    bucket.delete("p/iac.json")
    with pytest.raises(ConflictError, match="somebody else"):
        ledger.write(record(State.DEPLOYED), stored)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        msgspec.json.encode(record(stage="dags")),
        msgspec.json.encode(record(schema=2)),
        msgspec.json.encode({**msgspec.to_builtins(record()), "state": "sleeping"}),
        msgspec.json.encode({**msgspec.to_builtins(record()), "sequence": "7"}),
    ],
)
def test_a_damaged_record_is_an_error_and_never_means_not_due(body: bytes) -> None:
    bucket = FakeBucket()
    bucket.objects["p/iac.json"] = body
    with pytest.raises(StageError) as caught:
        Ledger(bucket, "p/").read(["dags", "iac"])
    assert (caught.value.id, caught.value.exit_status) == ("ledger-damaged", 4)
    assert caught.value.where == "s3://ledger/p/iac.json"


def test_a_record_of_a_later_version_may_have_more_keys() -> None:
    bucket = FakeBucket()
    bucket.objects["p/iac.json"] = msgspec.json.encode(
        {**msgspec.to_builtins(record()), "later": 1}
    )
    found = Ledger(bucket, "p/").read(["iac"])["iac"]
    assert isinstance(found, StoredRecord)
    assert found.record == record()


def test_a_store_that_ignores_conditions_is_refused_before_the_first_record() -> None:
    bucket = FakeBucket(conditional=False)
    with pytest.raises(StageError) as caught:
        Ledger(bucket, "p/").write(record(), None)
    assert caught.value.id == "ledger-store-unconditional"
    assert list(bucket.objects) == ["p/.probe"]


def test_the_store_is_probed_once_and_the_probe_is_written_once() -> None:
    bucket = FakeBucket()
    probes: list[str] = []
    bucket.before_put = lambda key: probes.append(key) if "probe" in key else None
    ledger = Ledger(bucket, "p/")
    ledger.read(["iac"])
    assert probes == []
    ledger.write(record(State.DEPLOYED), ledger.write(record(), None))
    assert probes == ["p/.probe"] * 3
    assert list(bucket.objects) == ["p/.probe", "p/iac.json"]
    body = bucket.objects["p/.probe"]
    Ledger(bucket, "p/").write(record(stage="dags"), None)
    assert probes == ["p/.probe"] * 5
    assert bucket.objects["p/.probe"] == body


def test_outputs_lose_their_secrets() -> None:
    bucket = FakeBucket()
    ledger = Ledger(bucket, "p/")
    assert ledger.read_outputs("iac") is None
    ledger.write_outputs(
        "iac",
        {
            "b": Output("string", "s3cret", sensitive=True),
            "a": Output("string", None),
            "c": Output(),
        },
    )
    assert b"s3cret" not in bucket.objects["p/iac.outputs.json"]
    assert ledger.read_outputs("iac") == {
        "a": Output("string", None),
        "b": Output("string", sensitive=True),
        "c": Output(),
    }
    bucket.objects["p/iac.outputs.json"] = b"{"
    with pytest.raises(CipipeError) as caught:
        ledger.read_outputs("iac")
    assert caught.value.id == "ledger-damaged"


def test_a_write_whose_answer_was_lost_is_our_own() -> None:
    bucket = FakeBucket()
    ledger = Ledger(bucket, "p/")
    first = ledger.write(record(), None)
    wanted = record(State.DEPLOYED)
    put = bucket.put

    def answer_lost(key: str, body: bytes, **conditions: Any) -> Written | None:
        put(key, body, **conditions)
        return put(key, body, **conditions)  # botocore sends it again, and finds its own

    bucket.put = answer_lost  # type: ignore[method-assign]
    assert ledger.write(wanted, first).record == wanted
    with pytest.raises(ConflictError):
        ledger.write(record(State.FAILED), first)
