"""The `dags` stage against S3: what is uploaded and deleted, and in which order."""

import os

import pytest

from cipipe.errors import StageError
from cipipe.model import Mode, Output
from cipipe.stages import dags
from cipipe.stages.settings import Stage
from support.dags_world import BUCKET, DAG, HELPER, OURS, DagsWorld, counted, failing, make_bucket


def test_first_deployment(world: DagsWorld) -> None:
    result = world.run()
    bodies = world.bodies()
    assert set(bodies) == OURS
    assert (
        bodies["dags/a.py"]
        == b'from airflow import DAG\n# a\nCLUSTER = "prod"  # cipipe: cluster\n'
    )
    assert result.summary == "4 uploaded, 0 unchanged, 0 deleted in s3://dags-bucket/dags/"
    assert world.lines.index("uploaded dags/a.py") > world.lines.index(
        "uploaded dags/lib/helper.py"
    )
    assert result.data["bucket"] == BUCKET
    world.check_manifest()


def test_the_work_tree_does_not_count(world: DagsWorld) -> None:
    (world.root / "dags" / "a.py").write_text("nonsense (")
    (world.root / "dags" / "new.py").write_text("nonsense (")
    world.run()
    assert set(world.bodies()) == OURS


def test_again_without_a_change_writes_nothing(world: DagsWorld) -> None:
    world.run()
    before = (world.versions(), world.record)
    result = world.run()
    assert result.summary == "0 uploaded, 4 unchanged, 0 deleted in s3://dags-bucket/dags/"
    assert (world.versions(), world.record) == before


def test_comparing_costs_one_listing_and_a_request_for_each_unproven_key(
    world: DagsWorld,
) -> None:
    world.run()
    asked = counted(world.aws)
    run, steps = world.start()
    for step in steps[:3]:
        run.do(step)
    assert run.result.up_to_date
    assert asked == ["ListObjectVersions"]
    # The same content again, as another version.
    world.aws.bucket(BUCKET).put("dags/sql/q.sql", b"select 1")
    asked.clear()
    result = world.run()
    # The second listing is that of the second look, once the record is written.
    assert asked == ["ListObjectVersions", "HeadObject", "ListObjectVersions"]
    assert result.up_to_date
    world.check_manifest()


def test_what_others_uploaded_without_a_checksum_is_read(world: DagsWorld) -> None:
    world.run()
    world.aws.call("s3", "put_object", Bucket=BUCKET, Key="dags/sql/q.sql", Body=b"select 1")
    world.aws.call("s3", "put_object", Bucket=BUCKET, Key="dags/.airflowignore", Body=b"bil")
    asked = counted(world.aws)
    result = world.run()
    looks = [
        "GetObject",
        "GetObject",
        "HeadObject",
        "HeadObject",
        "ListObjectVersions",
        "ListObjectVersions",
    ]
    assert sorted(asked) == [*looks, "PutObject"]
    assert result.summary.startswith("1 uploaded, 3 unchanged")
    world.check_manifest()


def test_what_differs_is_uploaded_and_what_is_gone_deleted_last(world: DagsWorld) -> None:
    world.run()
    world.commit(
        {"dags/a.py": DAG.format(comment="# b\n"), "dags/sql/q.sql": None, "dags/c.py": HELPER}
    )
    result = world.run()
    assert result.summary == "2 uploaded, 2 unchanged, 1 deleted in s3://dags-bucket/dags/"
    assert [line for line in world.lines if line.startswith(("uploaded", "deleted"))] == [
        "uploaded dags/c.py",
        "uploaded dags/a.py",
        "deleted dags/sql/q.sql",
    ]
    assert set(world.bodies()) == OURS - {"dags/sql/q.sql"} | {"dags/c.py"}
    world.check_manifest()


def test_size_and_time_are_ignored(world: DagsWorld) -> None:
    world.run()
    file = world.root / "dags/sql/q.sql"
    file.touch()
    assert world.run().summary.startswith("0 uploaded, 4 unchanged")
    world.commit({"dags/sql/q.sql": "select 2"})
    os.utime(file, (0, 0))
    assert world.run().summary.startswith("1 uploaded, 3 unchanged")
    assert world.bodies()["dags/sql/q.sql"] == b"select 2"


def test_another_value_alone_causes_an_upload(world: DagsWorld) -> None:
    world.run()
    result = world.run(outputs={"cluster": Output(value="next")})
    assert result.summary.startswith("1 uploaded, 3 unchanged")
    assert b'"next"' in world.bodies()["dags/a.py"]


def test_what_somebody_changed_in_the_bucket_is_restored(world: DagsWorld) -> None:
    world.run()
    world.aws.bucket(BUCKET).put("dags/a.py", b"tampered")
    world.aws.bucket(BUCKET).delete("dags/sql/q.sql")
    assert world.run().summary.startswith("2 uploaded, 2 unchanged")
    world.check_manifest()


def test_a_lost_record_causes_no_uploads(world: DagsWorld) -> None:
    world.run()
    world.lose_record()
    assert world.run().summary.startswith("0 uploaded, 4 unchanged")
    assert set(world.record["manifest"]) == OURS


def test_foreign_keys_survive(world: DagsWorld) -> None:
    foreign = {"dags/theirs.py", "dags/a.py.bak", "dags/a.pyc", "elsewhere"}
    for key in foreign:
        world.aws.bucket(BUCKET).put(key, b"theirs")
    world.run()
    world.commit({"dags/a.py": None, "dags/b.py": DAG.format(comment="")})
    world.run()
    assert foreign <= set(world.bodies())
    world.run(Mode.DESTROY)
    assert set(world.bodies()) == foreign


def test_replacing_what_others_put_there_is_a_warning(world: DagsWorld) -> None:
    world.aws.bucket(BUCKET).put("dags/a.py", b"theirs")
    world.run()
    assert any(line.startswith("warning: dags/a.py is there already") for line in world.lines)


def test_another_prefix_moves_the_files(world: DagsWorld) -> None:
    world.run()
    world.run(prefix="airflow/")
    assert set(world.bodies()) == {"airflow/" + key.removeprefix("dags/") for key in OURS}


def test_another_bucket_moves_the_files(world: DagsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    make_bucket(world.aws, "second-bucket")
    with monkeypatch.context() as patched:
        failing(patched, "purge", lambda key: True)
        with pytest.raises(StageError):
            world.run(bucket="second-bucket")
    assert set(world.record["former"][BUCKET]) == OURS
    world.run(bucket="second-bucket")
    assert world.versions() == 0
    assert set(world.aws.bucket("second-bucket").keys("")) == OURS
    assert world.record["former"] == {}


def test_consumes(world: DagsWorld) -> None:
    world.commit(
        {
            "dags/b.py": "A = 1  # cipipe: one\nif x:\n    B = 2  # cipipe: two\n",
            "dags/c.sql": "# cipipe: no",
        }
    )
    stage = Stage("dags", "dags", dags.Settings(source="dags", bucket=BUCKET))
    assert dags.consumes(stage, world.entries(), world.repository, {}) == {"cluster", "one", "two"}
    assert dags.consumes(stage, world.entries(), world.repository, {"outputs": ["told"]}) == {
        "told"
    }


def test_owned_objects_include_deleted_ones_and_those_in_former_buckets(
    world: DagsWorld,
) -> None:
    world.run()
    world.commit({"dags/sql/q.sql": None})
    world.run()
    assert dags.owns(world.record) == {f"s3://{BUCKET}/{key}" for key in OURS}
    assert {version.key for version in world.aws.bucket(BUCKET).versions("")} == OURS
    assert dags.owns({**world.record, "former": {"old": ["a"]}}) >= {"s3://old/a"}
    world.run(Mode.DESTROY)
    assert dags.owns(world.record) == dags.owns({}) == frozenset()
