"""`cipipe dags rollback`, as it is called, against S3."""

import hashlib
from typing import Any

import pytest

from cipipe.model import Output, State
from support.shop import BUCKET, DAG, OUTPUTS, REGION, Cli, Shop, due


def versions(shop: Shop, cipipe: Cli, *numbers: int) -> list[str]:
    """Deploy some commits, each with another DAG file; returns the commits."""
    made = []
    for number in numbers:
        files: dict[str, str | bytes | None] = {
            "dags/a.py": DAG.format(f"a {number}"),
            f"dags/only{number}.sql": "x",
        }
        if f"dags/only{number - 1}.sql" in shop.repo.git("ls-files"):
            files[f"dags/only{number - 1}.sql"] = None
        made.append(shop.commit(files))
        assert cipipe("run", "dags") == 0, cipipe.err
    return made


def test_rollback_restores_what_was_deployed_before(shop: Shop, cipipe: Cli) -> None:
    first, second = versions(shop, cipipe, 1, 2)
    shop.aws.bucket(BUCKET).put("dags/theirs.py", b"theirs")
    before = {"dags/a.py", "dags/helper.py", "dags/only1.sql", "dags/theirs.py"}
    assert cipipe("dags", "rollback") == 0, cipipe.err
    assert set(shop.bodies()) == before
    assert b"# a 1\n" in shop.bodies()["dags/a.py"]
    assert (shop.record().commit, shop.record().state) == (first, State.DEPLOYED)
    assert set(shop.record().data["manifest"]) == before - {"dags/theirs.py"}
    assert "rollback" not in shop.record().data
    assert {file["state"] for file in cipipe.json("dags", "status")["files"]} == {"ok"}
    assert due(cipipe) == "changed"
    assert cipipe("run", "dags") == 0
    assert shop.record().commit == second
    assert "dags/only2.sql" in shop.bodies()


def test_one_rollback_after_another_goes_further_back(shop: Shop, cipipe: Cli) -> None:
    versions(shop, cipipe, 1, 2, 3)
    for number in (2, 1):
        assert cipipe("dags", "rollback") == 0, cipipe.err
        assert f"# a {number}\n".encode() in shop.bodies()["dags/a.py"]
    assert cipipe("dags", "rollback") == 5
    versions(shop, cipipe, 4)
    assert "restored" not in shop.record().data
    assert cipipe("dags", "rollback") == 0, cipipe.err
    assert b"# a 1\n" in shop.bodies()["dags/a.py"]


def test_rollback_to_a_commit_and_back(shop: Shop, cipipe: Cli) -> None:
    first, second, third = versions(shop, cipipe, 1, 2, 3)
    assert cipipe("dags", "rollback", "--to", first[:10]) == 0, cipipe.err
    assert b"# a 1\n" in shop.bodies()["dags/a.py"]
    assert cipipe("dags", "rollback", "--to", third) == 0, cipipe.err
    assert b"# a 3\n" in shop.bodies()["dags/a.py"]
    assert due(cipipe) == "unchanged"
    assert cipipe("dags", "rollback", "--to", "abcdef") == 5
    assert "[dags-rollback-unknown]" in cipipe.err
    for commit in (first, second, third):
        assert commit[:12] in cipipe.err
    assert cipipe("dags", "rollback", "--to", "") == 2, "as of a variable that is not set"
    assert "--to names no commit" in cipipe.err


def test_a_rolled_back_value_is_due_again_even_for_the_same_commit(shop: Shop, cipipe: Cli) -> None:
    """A rollback restores the values of then; a new run would put in those of today."""
    cipipe("dags", "deploy")
    shop.apply(**{**OUTPUTS, "cluster": Output(value="next")})
    cipipe("run", "dags")
    assert b'"next"' in shop.bodies()["dags/a.py"]
    assert cipipe("dags", "rollback") == 0
    assert b'"prod"' in shop.bodies()["dags/a.py"]
    assert due(cipipe) == "upstream"


def test_nothing_to_go_back_to(shop: Shop, cipipe: Cli) -> None:
    assert cipipe("dags", "rollback") == 5
    cipipe("dags", "deploy")
    assert cipipe("dags", "rollback") == 5
    assert "no manifest is kept from before what is deployed now" in cipipe.err


def test_versions_that_are_gone_stop_it_before_any_write(shop: Shop, cipipe: Cli) -> None:
    versions(shop, cipipe, 1, 2)
    for version in list(shop.aws.bucket(BUCKET).versions("dags/a.py")):
        if not version.latest:
            shop.aws.call(
                "s3", "delete_object", Bucket=BUCKET, Key="dags/a.py", VersionId=version.id
            )
    before = shop.writes()
    assert cipipe("dags", "rollback") == 4
    assert "[dags-version-gone]" in cipipe.err
    assert shop.writes() == before


def test_a_rollback_restores_what_is_written_meanwhile(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cipipe.ledger import Ledger

    versions(shop, cipipe, 1, 2)
    helper = shop.bodies()["dags/helper.py"]
    original = Ledger.write

    def meddling(self: Ledger, *given: Any) -> Any:
        shop.aws.bucket(BUCKET).put("dags/helper.py", b"of an older run")
        return original(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "write", meddling)
        patched.setattr(Ledger, "check", lambda *_: None)
        step = cipipe("dags", "rollback")
    assert step == 0, cipipe.err
    assert "1 more to upload" in cipipe.err
    assert (
        shop.record().data["manifest"]["dags/helper.py"]["sha256"]
        == hashlib.sha256(helper).hexdigest()
    )


def test_another_bucket_since_then(shop: Shop, cipipe: Cli) -> None:
    versions(shop, cipipe, 1)
    shop.aws.call(
        "s3",
        "create_bucket",
        Bucket="moved",
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    shop.apply(**{**OUTPUTS, "dags_bucket": Output(value="moved")})
    versions(shop, cipipe, 2)
    assert cipipe("dags", "rollback") == 5
    assert "[dags-rollback-moved]" in cipipe.err


@pytest.mark.parametrize("after", range(5))
def test_a_stopped_rollback_continues(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    from cipipe.tools.aws.s3 import Bucket

    class Killed(BaseException):
        pass

    first, _ = versions(shop, cipipe, 1, 2)
    done = 0

    def cut(original: Any) -> Any:
        def wrapped(self: Bucket, key: str, *rest: Any, **named: Any) -> Any:
            nonlocal done
            if self.name == BUCKET or key.endswith("dags.json"):
                done += 1
                if done > after:
                    raise Killed
            return original(self, key, *rest, **named)

        return wrapped

    with monkeypatch.context() as patched:
        for method in ("put", "delete"):
            patched.setattr(Bucket, method, cut(getattr(Bucket, method)))
        try:
            cipipe("dags", "rollback")
        except Killed:
            pass
        else:
            assert after == 4
    assert cipipe("dags", "rollback", *(["--to", first] if after == 4 else [])) == 0, cipipe.err
    assert set(shop.bodies()) == {"dags/a.py", "dags/helper.py", "dags/only1.sql"}
    assert shop.record().commit == first
    assert {file["state"] for file in cipipe.json("dags", "status")["files"]} == {"ok"}


def test_a_rollback_undoes_a_deployment_that_failed_half_way(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three uploads fails: exit 4; a rerun finishes, a rollback restores."""
    from cipipe.errors import StageError
    from cipipe.tools.aws.s3 import Bucket

    cipipe("dags", "deploy")
    before = shop.bodies()
    shop.commit(
        {"dags/a.py": DAG.format("a 2"), "dags/helper.py": "# 2", "dags/z.py": DAG.format("z")}
    )
    original = Bucket.put

    def failing(self: Bucket, key: str, *rest: Any, **named: Any) -> Any:
        if key == "dags/a.py":
            raise StageError("aws-refused", "no more today")
        return original(self, key, *rest, **named)

    for again in ("rollback", "deploy"):
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "put", failing)
            assert cipipe("run", "dags") == 4
        assert shop.record().state is State.FAILED
        assert shop.bodies()["dags/helper.py"] == b"# 2"
        assert cipipe("dags", again) == 0, cipipe.err
        if again == "rollback":
            assert shop.bodies() == before
    assert set(shop.bodies()) == {"dags/a.py", "dags/helper.py", "dags/z.py"}
    assert b"# a 2\n" in shop.bodies()["dags/a.py"]


def test_a_deletion_that_failed_half_way_is_not_forgotten(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two keys stays: the first one's older versions are still the stage's, and go
    with a destroy.
    """
    from cipipe.errors import StageError
    from cipipe.tools.aws.s3 import Bucket

    shop.commit({"dags/b.sql": "1", "dags/c.sql": "1"})
    cipipe("dags", "deploy")
    shop.commit({"dags/b.sql": None, "dags/c.sql": None})
    original = Bucket.delete

    def failing(self: Bucket, key: str) -> None:
        if key == "dags/c.sql":
            raise StageError("aws-refused", "no more today")
        original(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "delete", failing)
        assert cipipe("dags", "deploy") == 4
    record = shop.record()
    assert (record.state, set(record.data["deleted"])) == (
        State.FAILED,
        {"dags/b.sql", "dags/c.sql"},
    )
    assert "dags/b.sql" not in record.data["manifest"]
