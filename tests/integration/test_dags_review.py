"""A merge request's look at the bucket, with the outputs that its plan knows and those that it does
not. S3 is moto's.
"""

from typing import Any

import pytest

from cipipe.errors import ProblemsError, StageError
from cipipe.model import Mode, Output, State
from cipipe.stages.context import StageResult
from cipipe.stages.settings import Reference
from support.dags_world import BUCKET, DAG, NOT_PLANNED, OURS, DagsWorld, counted, make_bucket

UNKNOWN = {"cluster": Output(type="string", unknown=True)}
BUCKET_OF_PLAN = Reference(output="dags_bucket")


def review(world: DagsWorld, outputs: dict[str, Output], **settings: Any) -> dict[str, Any]:
    """The findings of a run in verify mode, which writes nothing."""
    before = (world.versions(), world.record, world.state)
    asked = counted(world.aws)
    result = world.run(Mode.VERIFY, outputs=outputs, **settings)
    assert (world.versions(), world.record, world.state) == before
    assert [call for call in asked if not call.startswith(("Get", "Head", "List"))] == []
    found: dict[str, Any] = result.findings["dags"]
    return found


def diffs(found: dict[str, Any]) -> dict[str, str]:
    return {change["key"]: change["diff"] for change in found["changes"]}


def test_a_renamed_cluster_is_a_diff_against_what_is_deployed(world: DagsWorld) -> None:
    world.run()
    found = review(world, {"cluster": Output(value="fast")})
    assert (found["bucket"], found["prefix"]) == (BUCKET, "dags/")
    assert found["summary"] == {"added": 0, "changed": 1, "removed": 0, "unchanged": 3}
    assert list(diffs(found)) == ["dags/a.py"]
    assert '+CLUSTER = "fast"  # cipipe: cluster\n' in diffs(found)["dags/a.py"]
    assert '-CLUSTER = "prod"  # cipipe: cluster' in world.lines
    assert '+CLUSTER = "fast"  # cipipe: cluster' in world.lines
    assert found["after_apply"] == ()


def test_the_same_outputs_are_no_diff(world: DagsWorld) -> None:
    world.run()
    found = review(world, {"cluster": Output(value="prod")})
    assert (found["changes"], found["summary"]["unchanged"]) == ((), 4)


def test_a_value_known_after_apply_is_typed_and_never_invented(world: DagsWorld) -> None:
    world.run()
    found = review(world, UNKNOWN)
    diff = diffs(found)["dags/a.py"]
    assert '+CLUSTER = "(known after apply)"  # cipipe: cluster\n' in diff
    assert "local" not in diff
    (pending,) = found["after_apply"]
    assert (pending["output"], pending["type"]) == ("cluster", "string")
    assert (pending["file"], pending["line"], pending["name"]) == ("dags/a.py", 3, "CLUSTER")
    assert "cluster: string, known after apply (CLUSTER in dags/a.py:3)" in world.lines


def test_such_a_file_may_change_whatever_is_deployed(world: DagsWorld) -> None:
    """The literal in the file may be the very value that is deployed: that says nothing."""
    world.run(outputs={"cluster": Output(value="local")})
    assert review(world, UNKNOWN)["summary"]["changed"] == 1


def test_such_a_value_is_never_uploaded(world: DagsWorld) -> None:
    with pytest.raises(AssertionError, match="cluster is not known"):
        world.run(outputs=UNKNOWN)
    assert world.bodies() == {}


def test_a_wrong_type_is_found_before_the_value_is_known(world: DagsWorld) -> None:
    with pytest.raises(ProblemsError) as caught:
        review(world, {"cluster": Output(type=["list", "string"], unknown=True)})
    (problem,) = caught.value.problems
    assert (problem.id, problem.where) == ("dag-output-wrong-type", "dags/a.py:3")


@pytest.mark.parametrize("complete", [True, False])
def test_a_misspelt_output_is_an_error_if_all_outputs_are_known(
    complete: bool, world: DagsWorld
) -> None:
    run, steps = world.start(Mode.VERIFY, outputs={"clusters": Output(value="prod")})
    run.change(outputs_complete=complete)
    if not complete:
        run.do(steps[0])
        assert NOT_PLANNED in world.lines
        return
    with pytest.raises(ProblemsError) as caught:
        run.do(steps[0])
    assert [problem.id for problem in caught.value.problems] == ["dag-output-unknown"]


def test_what_is_gone_and_what_is_new(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/sql/q.sql": None, "dags/new.sql": "select 2\n"})
    found = review(world, {"cluster": Output(value="prod")})
    kinds = {change["key"]: change["change"] for change in found["changes"]}
    assert kinds == {"dags/new.sql": "added", "dags/sql/q.sql": "removed"}
    assert "+select 2\n" in diffs(found)["dags/new.sql"]
    assert "-select 1\n" in diffs(found)["dags/sql/q.sql"]


def test_no_bucket_before_the_first_apply(world: DagsWorld) -> None:
    unknown = UNKNOWN | {"dags_bucket": Output(type="string", unknown=True)}
    found = review(world, unknown, bucket=BUCKET_OF_PLAN)
    assert (found["bucket"], found["summary"]["added"]) == (None, len(OURS))
    assert {change["change"] for change in found["changes"]} == {"added"}
    assert (
        "the bucket {dags_bucket} is only known after apply: everything is new (4 files)"
        in world.lines
    )


def test_a_bucket_that_the_plan_creates(world: DagsWorld) -> None:
    planned = {"dags_bucket": Output(value="to-come"), "cluster": Output(value="prod")}
    found = review(world, planned, bucket=BUCKET_OF_PLAN)
    assert (found["bucket"], found["summary"]["added"]) == (None, len(OURS))
    assert "s3://to-come does not exist yet: everything is new (4 files)" in world.lines


def test_a_bucket_that_nobody_creates_is_an_error(world: DagsWorld) -> None:
    with pytest.raises(StageError, match="NoSuchBucket"):
        world.run(Mode.VERIFY, bucket="no-such-bucket")


def test_the_deployed_bucket_where_the_next_one_is_not_known(world: DagsWorld) -> None:
    deployed = {"dags_bucket": Output(value=BUCKET), "cluster": Output(value="prod")}
    world.run(outputs=deployed, bucket=BUCKET_OF_PLAN)
    unknown = {"dags_bucket": Output(type="string", unknown=True), "cluster": Output(value="fast")}
    found = review(world, unknown, bucket=BUCKET_OF_PLAN)
    assert (found["bucket"], list(diffs(found))) == (BUCKET, ["dags/a.py"])
    assert f"{{dags_bucket}} is only known after apply: compared with s3://{BUCKET}" in world.lines


def test_a_destroyed_stage_has_nothing_to_compare_with(world: DagsWorld) -> None:
    deployed = {"dags_bucket": Output(value=BUCKET), "cluster": Output(value="prod")}
    world.run(outputs=deployed, bucket=BUCKET_OF_PLAN)
    world.run(Mode.DESTROY, outputs=deployed, bucket=BUCKET_OF_PLAN)
    assert world.state is State.DESTROYED
    unknown = {"dags_bucket": Output(type="string", unknown=True), "cluster": Output(value="fast")}
    assert review(world, unknown, bucket=BUCKET_OF_PLAN)["bucket"] is None


def test_a_bucket_of_the_wrong_type(world: DagsWorld) -> None:
    listed = {"dags_bucket": Output(type=["list", "string"], unknown=True)}
    with pytest.raises(StageError) as caught:
        world.run(Mode.VERIFY, outputs=listed, bucket=BUCKET_OF_PLAN)
    assert caught.value.id == "output-unusable"


def test_secrets_are_in_neither_side(world: DagsWorld) -> None:
    source = DAG.format(comment="# token: correct-horse\n").rstrip() + " (sensitive ok)\n"
    world.commit({"dags/a.py": source})
    world.run(outputs={"cluster": Output(value="hunter22", sensitive=True)})
    world.commit({"dags/a.py": source.replace("import DAG", "import DAG as D")})
    world.redactor.register("correct-horse")
    found = review(world, {"cluster": Output(value="hunter33", sensitive=True)})
    said = str(found) + "".join(world.lines)
    assert "import DAG as D" in diffs(found)["dags/a.py"]
    assert [secret for secret in ("hunter22", "hunter33", "correct-horse") if secret in said] == []


def test_a_secret_is_not_cut_in_half(world: DagsWorld) -> None:
    """Whatever the length of what comes before it, not even its first characters are left."""
    secret = "s3cret" * 20
    world.redactor.register(secret)
    for extra in range(0, 140, 7):
        lines = "\n".join(["x" * 59] * 497 + ["y" * (10 + extra), secret, "z" * 300] * 3)
        world.commit({"dags/a.sql": lines})
        (change,) = (
            change
            for change in review(world, {"cluster": Output(value="prod")})["changes"]
            if change["key"] == "dags/a.sql"
        )
        assert "s3cret" not in change["diff"]


def test_a_long_diff_is_cut_and_changes_come_before_new_files(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/0.sql": "select 1, 2, 3\n" * 10_000})
    found = review(world, {"cluster": Output(value="fast")})
    assert '+CLUSTER = "fast"' in diffs(found)["dags/a.py"]
    cut = diffs(found)["dags/0.sql"]
    assert len(cut) < 30_000
    assert cut.splitlines()[-1].startswith("… ")
    assert cut.splitlines()[-1].endswith(" more lines")
    assert found["summary"] == {"added": 1, "changed": 1, "removed": 0, "unchanged": 3}


def test_hostile_text_is_printed_as_text(world: DagsWorld) -> None:
    world.commit({"dags/x.sql": "\x1b]0;title\x07select\u202e 1\r\x0b::error::no\n"})
    found = review(world, {"cluster": Output(value="prod")})
    assert diffs(found)["dags/x.sql"]
    shown = [line for line in world.lines if "title" in line or "error" in line]
    assert shown
    assert all(line.isprintable() for line in shown)


def test_another_bucket_of_the_stage_is_compared_as_new(world: DagsWorld) -> None:
    world.run()
    make_bucket(world.aws, "second")
    found = review(world, {"cluster": Output(value="prod")}, bucket="second")
    assert found["summary"] == {"added": 4, "changed": 0, "removed": 0, "unchanged": 0}
    result: StageResult = world.run(bucket="second")
    assert result.summary.startswith("4 uploaded")
