"""A `dags` stage that fails, is killed, or meets another run: what is left, and the next run."""

import contextlib

import pytest

from cipipe.errors import ConflictError, InterruptedRun, RefusedError, StageError
from cipipe.model import Effect, Mode
from cipipe.pace import Pace
from cipipe.stages.dags.bucket import manifest
from support.dags_world import BUCKET, DAG, HELPER, OURS, DagsWorld, failing, make_bucket


def test_a_failed_helper_stops_the_dags_and_a_rerun_finishes(
    world: DagsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "put", lambda key: key.endswith("helper.py"))
        with pytest.raises(StageError, match=r"helper\.py today"):
            world.run()
    assert "dags/a.py" not in world.bodies()
    assert set(world.record["manifest"]) == OURS
    assert world.record["manifest"]["dags/a.py"]["sha256"] is None
    world.run()
    assert set(world.bodies()) == OURS
    world.check_manifest()


@pytest.mark.parametrize("crash_after", range(7))
def test_killed_at_any_write_and_run_again(
    world: DagsWorld, monkeypatch: pytest.MonkeyPatch, crash_after: int
) -> None:
    """A process that is killed writes no record: the last one is from before its first effect."""
    world.run()
    world.aws.bucket(BUCKET).put("dags/theirs.py", b"theirs")
    world.commit(
        {
            "dags/a.py": None,
            "dags/b.py": DAG.format(comment=""),
            "dags/c.py": HELPER,
            "dags/sql/q.sql": None,
        }
    )
    effects = 0

    class Killed(BaseException):
        pass

    def cut(key: str) -> bool:
        nonlocal effects
        effects += 1
        if effects > crash_after:
            raise Killed
        return False

    with monkeypatch.context() as patched:
        failing(patched, "put", cut)
        failing(patched, "delete", cut)
        with contextlib.suppress(Killed):
            world.run()
    assert set(world.bodies()) - {"dags/theirs.py"} <= set(world.record["manifest"])
    world.run()
    assert set(world.bodies()) == {
        "dags/b.py",
        "dags/c.py",
        "dags/lib/helper.py",
        "dags/.airflowignore",
        "dags/theirs.py",
    }
    assert world.bodies()["dags/theirs.py"] == b"theirs"
    world.check_manifest()


def test_a_stage_that_started_at_the_same_moment_is_seen_before_the_first_upload(
    world: DagsWorld,
) -> None:
    """Two settings that turn out to be one bucket: neither stage had a record at comparison."""
    run, steps = world.start()
    for step in steps[:3]:
        run.do(step)
    theirs = {"bucket": BUCKET, "manifest": {"dags/a.py": manifest.UNCERTAIN}}
    run.change(beside=lambda: {"other": theirs})
    with pytest.raises(RefusedError, match=r"dags/a\.py belongs to stage other") as caught:
        run.do(steps[3])
    assert caught.value.id == "dags-key-taken"
    assert world.bodies() == {}


def test_a_run_that_was_taken_over_writes_nothing_more(world: DagsWorld) -> None:
    world.commit({"dags/b.py": DAG.format(comment="# b\n")})
    world.run()
    before = world.bodies()
    world.commit({"dags/a.py": DAG.format(comment="# later\n"), "dags/b.py": None})
    run, steps = world.start()

    def taken() -> None:
        raise ConflictError("ledger-conflict", "stage dags was changed by another run")

    run.change(still_ours=taken)
    for step in steps:
        if step.effect is Effect.READ:
            run.do(step)
            continue
        with pytest.raises(ConflictError):
            run.do(step)
    assert world.bodies() == before


def test_what_another_run_wrote_before_our_record_is_restored(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/a.py": DAG.format(comment="# b\n")})

    def write() -> None:
        """Make outdated what was compared."""
        world.aws.bucket(BUCKET).put("dags/lib/helper.py", b"of an older run")
        world.aws.bucket(BUCKET).put("dags/sql/q.sql", b"select 1")
        world.aws.bucket(BUCKET).delete("dags/.airflowignore")

    result = world.run(before={"upload": write})
    assert world.bodies()["dags/lib/helper.py"] == HELPER.encode()
    assert set(world.bodies()) == OURS
    assert result.summary.startswith("3 uploaded, 1 unchanged")
    world.check_manifest()


@pytest.mark.parametrize("what", ["gone", "former", "destroy"])
def test_a_run_stopped_while_deleting_deletes_nothing_more(world: DagsWorld, what: str) -> None:
    """`still_ours` reports Ctrl-C and a later run, and is called between two keys too."""
    many = {f"dags/{number}.sql": "select 1" for number in range(30)}
    world.commit(dict(many))
    world.run()
    make_bucket(world.aws, "second-bucket")
    if what == "gone":
        world.commit(dict.fromkeys(many))
    run, steps = world.start(
        Mode.DESTROY if what == "destroy" else Mode.DEPLOY,
        bucket="second-bucket" if what == "former" else BUCKET,
    )
    for step in steps[:-1]:
        run.do(step)
    asked = 0

    def stopped() -> None:
        nonlocal asked
        asked += 1
        if asked > 4:
            raise InterruptedRun("interrupted", "interrupted")

    run.change(still_ours=stopped, pace=Pace(ownership_check=-1.0))
    with pytest.raises(InterruptedRun):
        run.do(steps[-1])
    assert len(many.keys() - world.bodies().keys()) <= 4
