"""Destroying a `dags` stage: every version of what it owns, and nothing else."""

import pytest

from cipipe.errors import StageError
from cipipe.model import Mode
from cipipe.stages import dags
from cipipe.stages.settings import Reference, Stage
from support.dags_world import BUCKET, DAG, OURS, DagsWorld, failing


def test_destroy_leaves_what_another_stage_owns_too(world: DagsWorld) -> None:
    world.run()
    run, steps = world.start(Mode.DESTROY)
    theirs = {
        "bucket": BUCKET,
        "manifest": {"dags/a.py": world.record["manifest"]["dags/a.py"]},
    }
    run.change(beside=lambda: {"other": theirs})
    for step in steps:
        run.do(step)
    assert set(world.bodies()) == {"dags/a.py"}
    assert "s3://dags-bucket/dags/a.py" not in world.lines
    assert run.result.summary == "3 objects deleted, with 3 versions"


def test_destroy_leaves_no_version_and_succeeds_again(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/a.py": DAG.format(comment="# b\n"), "dags/sql/q.sql": None})
    world.run()
    assert world.versions() > len(world.bodies())
    result = world.run(Mode.DESTROY)
    assert world.versions() == 0
    assert result.summary == "3 objects deleted, with 6 versions"
    assert result.data["manifest"] == {}
    assert world.run(Mode.DESTROY).summary == "0 objects deleted, with 0 versions"


def test_destroy_leaves_what_others_put_where_we_deleted(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/sql/q.sql": None})
    world.run()
    world.aws.bucket(BUCKET).put("dags/sql/q.sql", b"theirs")
    world.run(Mode.DESTROY)
    assert world.bodies() == {"dags/sql/q.sql": b"theirs"}


def test_destroy_of_what_was_never_deployed(world: DagsWorld) -> None:
    run, steps = world.start(Mode.DESTROY)
    stage = Stage("dags", "dags", dags.Settings(source="dags", bucket=Reference(output="b")))
    run.change(stage=stage)
    for step in steps:
        run.do(step)
    assert run.result.summary.startswith("0 objects")


def test_destroy_where_the_bucket_is_gone(world: DagsWorld) -> None:
    world.run()
    for key in OURS:
        world.aws.bucket(BUCKET).purge(key)
    world.aws.call("s3", "delete_bucket", Bucket=BUCKET)
    world.run(Mode.DESTROY)
    assert f"the bucket {BUCKET} is gone already" in world.lines


def test_a_stopped_destroy_finishes_when_run_again(
    world: DagsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    with monkeypatch.context() as patched:
        failing(patched, "purge", lambda key: key == "dags/a.py")
        with pytest.raises(StageError):
            world.run(Mode.DESTROY)
    assert set(world.record["manifest"]) == OURS
    world.run(Mode.DESTROY)
    assert world.versions() == 0
