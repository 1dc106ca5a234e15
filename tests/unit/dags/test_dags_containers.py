"""Which containers a DAG file names beside a pinned task definition."""

from pathlib import Path

import pytest

from cipipe.stages.dags.checks.containers import overrides
from cipipe.stages.dags.markers.patch import markers

DAGS = Path(__file__).parents[3] / "dags"
PINNED = {
    path.name: path
    for path in DAGS.glob("*.py")
    if any(
        marker.output == "task_definition_arn" for marker in markers(path.read_bytes(), path.name)
    )
}


def named(call: str) -> list[tuple[str, str]]:
    body = f'TASK = "dbt:1"\nNAME = "dbt"\nGIVEN = {{"containerOverrides": [{{"name": NAME}}]}}\n{call}\n'
    return [
        (found.definition, found.container) for found in overrides(body.encode(), "x.py", {"TASK"})
    ]


def test_there_are_reference_dags_that_pin_a_task_definition() -> None:
    assert {"dbt_redshift.py", "dbt_snowflake_scd2.py"} <= set(PINNED)


@pytest.mark.parametrize("name", sorted(PINNED))
def test_every_reference_dag_is_understood(name: str) -> None:
    found = list(overrides(PINNED[name].read_bytes(), name, {"TASK_DEFINITION"}))
    assert [(each.definition, each.container) for each in found] == [("dbt-local:1", "dbt")]


@pytest.mark.parametrize(
    "call",
    [
        'Run(task_definition=TASK, overrides={"containerOverrides": [{"name": NAME}]})',
        "Run(task_definition=TASK, overrides=GIVEN)",
        "Run(task_definition=TASK, overrides=container_overrides(NAME, []))",
        'Run(task_definition=TASK, overrides=ecs.make_container_override(name="dbt"))',
        "Run(task_definition=TASK, container=NAME)",
        'Run(taskDefinition=TASK, container_name="dbt")',
    ],
)
def test_containers_that_are_named(call: str) -> None:
    assert named(call) == [("dbt:1", "dbt")]


@pytest.mark.parametrize(
    "call",
    [
        "Run(task_definition=TASK)",
        "Run(task_definition=OTHER, container=NAME)",
        "Run(task_definition=TASK, container=OTHER)",
        'Run(task_definition=TASK, overrides=Variable.get("overrides"))',
        "Run(task_definition=TASK, overrides=container_overrides())",
        "Run(container=NAME)",
    ],
)
def test_what_names_none_of_the_pinned_one(call: str) -> None:
    assert named(call) == []


def test_a_file_that_is_nested_too_deep_names_nothing() -> None:
    assert named("x = " + "-" * 100_000 + "1") == []
