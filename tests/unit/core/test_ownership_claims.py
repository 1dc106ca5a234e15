"""Claims on states and repositories: the first stage that uses one owns it, and all others are
refused with the owner's name.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cipipe.errors import CipipeError, RefusedError, StageError
from cipipe.ledger import Ledger
from cipipe.model import Mode, Owner, Record, State
from cipipe.ownership import Claim, OwnedResource, Ownership, key_of
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import StoredObject
from support.fakes import READ, WRITE, FakeBucket, FakeStages

STATE = OwnedResource(
    type="state",
    name="aws:s3/state/terraform/a.tfstate",
    shown="s3://state/terraform/a.tfstate",
    by_stage=True,
)
HOST = "1.dkr.ecr.eu-central-1.amazonaws.com"
REPOSITORY = OwnedResource(
    type="repository", name=f"{HOST}/shop", shown=f"{HOST}/shop", by_stage=False
)
KEPT = msgspec.structs.replace(REPOSITORY, kept=True)


def ownership(
    bucket: FakeBucket,
    owner: str,
    *resources: OwnedResource,
    siblings: tuple[str, ...] = (),
    warn: Callable[[str], None] = lambda _: None,
) -> Ownership:
    return Ownership(
        bucket=bucket,
        owner=Owner(*owner.split("/")),
        resources=resources or (STATE,),
        siblings=frozenset(siblings),
        warn=warn,
    )


def stored(bucket: FakeBucket, place: OwnedResource = STATE) -> Claim:
    return msgspec.json.decode(bucket.objects[key_of(place)], type=Claim)


def refused(do: Callable[[], Any]) -> CipipeError:
    with pytest.raises(RefusedError) as caught:
        do()
    assert caught.value.exit_status == 5
    return caught.value


def test_the_first_stage_owns_a_resource() -> None:
    bucket = FakeBucket()
    ours = ownership(bucket, "shop/dev/iac")
    assert not ours.check()
    assert bucket.objects == {}, "a check claims nothing"
    ours.claim()
    assert stored(bucket).owner == Owner("shop", "dev", "iac")
    assert ours.check(strictly=True)
    ours.claim()
    assert len(bucket.log) == 1, "it is written once"


@pytest.mark.parametrize("other", ["shop/prod/iac", "blog/dev/iac", "shop/dev/net"])
def test_anybody_else_is_refused_and_told_whose_it_is(other: str) -> None:
    bucket = FakeBucket()
    ownership(bucket, "shop/dev/iac").claim()
    theirs = ownership(bucket, other, siblings=("iac",))
    for do in (theirs.check, theirs.claim, theirs.release):
        error = refused(do)
        assert error.id == "place-not-ours"
        assert "stage iac of shop's environment dev" in error.message
        assert STATE.shown in error.message
        assert "s3://ledger/owners/state/s3/state/terraform/a.tfstate.json" in str(error.hint)
    assert stored(bucket).owner == Owner("shop", "dev", "iac")


def test_of_two_at_once_one_loses() -> None:
    bucket = FakeBucket()
    ours, theirs = ownership(bucket, "shop/dev/iac"), ownership(bucket, "shop/prod/iac")

    def meanwhile(_: str) -> None:
        bucket.before_put = lambda _: None
        theirs.claim()

    bucket.before_put = meanwhile
    assert refused(ours.claim).id == "place-not-ours"
    assert stored(bucket).owner == Owner("shop", "prod", "iac")


def test_a_renamed_stage_takes_over() -> None:
    bucket = FakeBucket()
    ownership(bucket, "shop/dev/iac").claim()
    renamed = ownership(bucket, "shop/dev/infra", siblings=("image",))
    assert not renamed.check(strictly=True)
    renamed.claim()
    assert stored(bucket).owner == Owner("shop", "dev", "infra")


def test_stages_of_one_environment_share_a_repository() -> None:
    bucket = FakeBucket()
    ownership(bucket, "shop/dev/one", REPOSITORY, siblings=("two",)).claim()
    ownership(bucket, "shop/dev/two", REPOSITORY, siblings=("one",)).claim()
    assert stored(bucket, REPOSITORY).owner.stage == "one"
    assert refused(ownership(bucket, "shop/prod/one", REPOSITORY).claim).id == "place-not-ours"


def test_environments_that_are_never_destroyed_share_a_repository() -> None:
    bucket = FakeBucket()
    ownership(bucket, "shop/prod/image", KEPT).claim()
    ownership(bucket, "shop/live/image", KEPT).claim()
    assert stored(bucket, REPOSITORY).owner.environment == "prod"
    assert (
        refused(lambda: ownership(bucket, "shop/dev/image", REPOSITORY).check(strictly=True)).id
        == "place-not-ours"
    )


def test_what_is_released_is_free() -> None:
    bucket = FakeBucket()
    ownership(bucket, "shop/dev/iac").claim()
    ownership(bucket, "shop/dev/iac").release()
    ownership(bucket, "shop/prod/iac").claim()
    assert stored(bucket).owner.environment == "prod"


def test_a_claim_that_cannot_be_read_is_an_error() -> None:
    bucket = FakeBucket()
    bucket.objects[key_of(STATE)] = b"{"
    with pytest.raises(StageError) as caught:
        ownership(bucket, "shop/dev/iac").check()
    assert caught.value.id == "claim-damaged"


def test_a_role_that_may_not_ask_is_warned_and_destroys_nothing() -> None:
    bucket = FakeBucket()
    warnings: list[str] = []

    def denied(*_: Any, **__: Any) -> Any:
        raise AwsError("s3:GetObject", "AccessDenied", "no", 403)

    bucket.get = denied  # type: ignore[method-assign]
    ours = ownership(bucket, "shop/dev/iac", warn=warnings.append)
    assert not ours.check()
    ours.claim()
    assert len(warnings) == 2
    assert STATE.shown in warnings[0]
    assert refused(lambda: ours.check(strictly=True)).id == "claim-unreadable"


@pytest.mark.parametrize(
    "name",
    ["aws:s3/b/" + "ä" * 500, "http: address = 'https://u:hunter22@x'", "pg: x", "aws:s3/b/../x"],
)
def test_a_key_is_one_that_s3_takes_and_holds_no_secret(name: str) -> None:
    key = key_of(OwnedResource(type="state", name=name, shown="x", by_stage=True))
    assert len(key) < 1024
    assert "hunter22" not in key
    assert key != key_of(OwnedResource(type="state", name=f"{name}x", shown="x", by_stage=True))


# --- in a run ---


class Claiming(FakeStages):
    """A fake in which all stages claim one state."""

    def __init__(self, owner: str = "shop/dev/iac", **given: Any) -> None:
        super().__init__(**given)
        self.ownership = ownership(self.bucket, owner)


def test_a_run_claims_before_its_first_effect() -> None:
    fake = Claiming(iac="")
    result, _ = fake.deploy()
    assert result == {"iac": "done"}
    claim = key_of(STATE).removesuffix(".json")
    assert fake.bucket.log == ["iac: read", claim, "iac: deploying", "iac: write", "iac: deployed"]


@pytest.mark.parametrize(
    ("state", "reads"), [(State.FAILED, 1), (State.DEPLOYING, 1), (State.DESTROYED, 2), (None, 2)]
)
def test_our_claim_is_read_once_where_the_record_proves_that_it_stays(
    state: State | None, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Claiming(iac="")
    ownership(fake.bucket, "shop/dev/iac").claim()
    seen = []
    original = fake.bucket.get

    def get(key: str, version: str | None = None) -> StoredObject | None:
        if key == key_of(STATE):
            seen.append(key)
        return original(key, version)

    monkeypatch.setattr(fake.bucket, "get", get)
    result, _ = fake.deploy(**({} if state is None else {"iac": state}))
    assert result == {"iac": "done"}
    assert len(seen) == reads


def test_a_claim_that_a_destroy_releases_while_we_read_is_noticed() -> None:
    """It had written `destroyed` before the plan was made, and somebody else was faster."""
    fake = Claiming(iac="")
    ours = ownership(fake.bucket, "shop/dev/iac")
    ours.claim()

    def released(*_: Any) -> None:
        ours.release()
        ownership(fake.bucket, "shop/prod/iac").claim()

    fake.does("iac", (READ, released), WRITE)
    result, runner = fake.deploy(iac=State.DESTROYED)
    assert result == {"iac": "failed"}
    assert runner.error is not None
    assert runner.error.id == "place-not-ours"
    assert "iac: write" not in fake.bucket.log


def test_a_destroy_while_we_read_is_a_conflict() -> None:
    """Our claim is not read again, because the record is not what it was."""
    fake = Claiming(iac="")
    ours = ownership(fake.bucket, "shop/dev/iac")
    ours.claim()

    def destroyed(*_: Any) -> None:
        fake._record("iac", State.DESTROYED)
        ours.release()
        ownership(fake.bucket, "shop/prod/iac").claim()

    fake.does("iac", (READ, destroyed), WRITE)
    result, runner = fake.deploy(iac="other")
    assert result == {"iac": "failed"}
    assert runner.error is not None
    assert runner.error.id == "ledger-conflict"
    assert "iac: write" not in fake.bucket.log


def test_a_run_on_what_somebody_else_owns_does_nothing() -> None:
    fake = Claiming(iac="")
    ownership(fake.bucket, "shop/prod/iac").claim()
    result, runner = fake.deploy()
    assert result == {"iac": "failed"}
    assert runner.error is not None
    assert (runner.error.id, runner.error.exit_status) == ("place-not-ours", 5)
    assert not [entry for entry in fake.bucket.log if entry.startswith("iac:")]
    assert fake.state("iac") is None


def test_a_destroy_on_what_somebody_else_owns_does_nothing() -> None:
    fake = Claiming(mode=Mode.DESTROY, iac="")
    ownership(fake.bucket, "shop/prod/iac").claim()
    runner = fake.runner(iac="other")
    runner.inspect()
    assert runner.error is not None
    assert (runner.error.id, runner.error.exit_status) == ("place-not-ours", 5)
    assert not [entry for entry in fake.bucket.log if entry.startswith("iac:")]


# --- the ledger ---


def record(project: str | None, environment: str | None) -> Record:
    return Record(
        schema=1,
        stage="iac",
        fingerprint="f" * 64,
        effective=None,
        state=State.DEPLOYED,
        commit="c" * 40,
        ref="main",
        provider="gitlab",
        sequence=1,
        pipeline_url=None,
        started_at="2026",
        finished_at=None,
        data={},
        project=project,
        environment=environment,
    )


@pytest.mark.parametrize("owner", [("shop", "prod"), ("blog", "dev")])
def test_a_record_of_another_environment_is_refused(owner: tuple[str, str]) -> None:
    bucket = FakeBucket()
    bucket.objects["x/iac.json"] = msgspec.json.encode(record(*owner))
    ledger = Ledger(bucket, "x/", "shop", "dev")
    error = refused(lambda: ledger.read(["iac"]))
    assert error.id == "ledger-foreign-record"
    assert f"{owner[0]}'s environment {owner[1]}" in error.message
    assert error.where == "s3://ledger/x/iac.json"


def test_a_record_of_an_earlier_version_is_ours() -> None:
    bucket = FakeBucket()
    old = msgspec.to_builtins(record(None, None))
    del old["project"], old["environment"]
    bucket.objects["x/iac.json"] = msgspec.json.encode(old)
    stored_record = Ledger(bucket, "x/", "shop", "dev").read(["iac"])["iac"]
    assert stored_record is not None
    assert stored_record.record.project is None


def test_a_run_writes_whose_the_record_is() -> None:
    fake = FakeStages(iac="")
    fake.deploy()
    assert (fake.record("iac").project, fake.record("iac").environment) == ("shop", "dev")
