"""What the `dags` stage refuses before it writes, and what it does in verify mode."""

import pytest

from cipipe.errors import ProblemsError, RefusedError
from cipipe.model import Mode, Output
from cipipe.stages.settings import Reference
from support.dags_world import DAG, NOT_PLANNED, OURS, DagsWorld


def test_a_problem_in_any_file_writes_nothing(world: DagsWorld) -> None:
    world.commit({"dags/z.py": "A = 1  # cipipe: nope\n"})
    with pytest.raises(ProblemsError) as caught:
        world.run()
    assert caught.value.problems[0].where == "dags/z.py:1"
    assert world.bodies() == {}
    assert world.record == {}


def test_no_dags_is_refused_unless_allowed(world: DagsWorld) -> None:
    world.run()
    world.commit({"dags/a.py": None})
    with pytest.raises(RefusedError) as caught:
        world.run()
    assert caught.value.id == "dags-empty"
    assert set(world.bodies()) == OURS
    world.run(allow_empty=True)
    assert set(world.bodies()) == OURS - {"dags/a.py"}


ECS_DAG = """\
from airflow import DAG
TASK = "local"  # cipipe: task_definition
CONTAINER = "{}"
run = Operator(task_definition=TASK, overrides={{"containerOverrides": [{{"name": CONTAINER}}]}})
"""


def test_a_container_missing_in_the_pinned_task_definition(world: DagsWorld) -> None:
    registered = world.aws.call(
        "ecs",
        "register_task_definition",
        family="dbt",
        containerDefinitions=[{"name": "dbt", "image": "x", "memory": 128}],
    )
    arn = registered["taskDefinition"]["taskDefinitionArn"]
    values = {"cluster": Output(value="prod"), "task_definition": Output(value=arn)}
    world.commit({"dags/b.py": ECS_DAG.format("main")})
    with pytest.raises(ProblemsError) as caught:
        world.run(outputs=values)
    (found,) = caught.value.problems
    assert (found.id, found.where) == ("dag-container-unknown", "dags/b.py:4")
    assert "Its containers are: dbt." in (found.hint or "")
    assert world.bodies() == {}
    with pytest.raises(ProblemsError) as caught:
        world.run(outputs={**values, "task_definition": Output(value="dbt:7")})
    assert [p.id for p in caught.value.problems] == ["dag-task-definition-unknown"]
    world.commit({"dags/b.py": ECS_DAG.format("dbt")})
    world.run(outputs=values)
    assert "dags/b.py" in world.bodies()


def test_links_are_refused(world: DagsWorld) -> None:
    (world.root / "dags" / "link.py").symlink_to("a.py")
    world.commit({})
    with pytest.raises(ProblemsError) as caught:
        world.run()
    assert caught.value.id == "dags-files-refused"
    assert world.bodies() == {}


def test_verify_reads_only(world: DagsWorld) -> None:
    before = world.versions()
    result = world.run(Mode.VERIFY)
    assert (world.versions(), result.data) == (before, {})
    assert "4 to upload, 0 unchanged, 0 to delete" in world.lines


def test_verify_before_anything_is_deployed(world: DagsWorld) -> None:
    world.run(Mode.VERIFY, outputs={}, bucket=Reference(output="dags_bucket"))
    assert NOT_PLANNED in world.lines
    assert world.lines[-2] == (
        "the bucket {dags_bucket} is only known after apply: everything is new (4 files)"
    )
    assert world.lines[-1].startswith(
        "warning: stages.dags.airflow_python: no DAG file was imported"
    )


def test_a_sensitive_value_is_in_the_bucket_and_nowhere_else(world: DagsWorld) -> None:
    world.commit({"dags/a.py": DAG.format(comment="").rstrip() + " (sensitive ok)\n"})
    result = world.run(outputs={"cluster": Output(value="hunter22", sensitive=True)})
    assert b"hunter22" in world.bodies()["dags/a.py"]
    assert "hunter22" not in "\n".join([*world.lines, result.summary, str(world.record)]), (
        "not before it is masked either"
    )
    assert (world.record["outputs"], world.record.get("made_of")) == (["cluster"], None)


def test_another_sensitive_value_is_deployed_without_a_digest(world: DagsWorld) -> None:
    world.commit({"dags/a.py": DAG.format(comment="").rstrip() + " (sensitive ok)\n"})
    world.run(outputs={"cluster": Output(value="hunter22", sensitive=True)})
    run, steps = world.start(outputs={"cluster": Output(value="hunter33", sensitive=True)})
    # As in the runner: the digest of a sensitive output says only that there is one.
    run.change(is_current=True)
    for step in steps:
        run.do(step)
    assert b"hunter33" in world.bodies()["dags/a.py"]
