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
    given = '{"containerOverrides": [{"name": NAME}]}'
    body = f'TASK = "dbt:1"\nNAME = "dbt"\nGIVEN = {given}\n{call}\n'
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
def test_calls_that_name_no_container_of_the_pinned_one(call: str) -> None:
    assert named(call) == []


def test_a_file_that_is_nested_too_deep_names_nothing() -> None:
    assert named("x = " + "-" * 100_000 + "1") == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            (
                'Op(task_definition=TD, overrides={"containerOverrides": ['
                '{"name": "dbt", "command": [*x]}]})'
            ),
            ["dbt"],
        ),
        (
            (
                'Op(task_definition=TD, overrides={"containerOverrides": ['
                '{"name": C}, {"name": "b"}]})'
            ),
            ["main", "b"],
        ),
        ("Op(task_definition=TD, overrides=OVERRIDES)", ["main"]),
        (
            'ecs.run_task(taskDefinition=TD, overrides={"containerOverrides": [{"name": "x"}]})',
            ["x"],
        ),
        ('Op(task_definition="other", overrides={"containerOverrides": [{"name": "x"}]})', []),
        ('Op(task_definition=OTHER, overrides={"containerOverrides": [{"name": "x"}]})', []),
        ('Op(task_definition=TD, overrides={"containerOverrides": [{"name": f()}]})', []),
        ("Op(task_definition=TD, overrides=f())", []),
        ("Op(task_definition=TD)", []),
    ],
)
def test_the_containers_that_overrides_name(call: str, expected: list[str]) -> None:
    source = (
        'TD = "arn:td:7"\nOTHER = "arn:other:1"\nC: str = "main"\n'
        f'OVERRIDES = {{"containerOverrides": [{{"name": C}}]}}\n{call}\n'
    )
    found = list(overrides(source.encode(), "x.py", {"TD"}))
    assert [override.container for override in found] == expected
    assert {override.definition for override in found} <= {"arn:td:7"}
    assert all(override.where in {"x.py:4", "x.py:5"} for override in found)


def test_a_file_that_cannot_be_parsed_names_no_containers() -> None:
    assert list(overrides(b"x = (", "x.py", {"TD"})) == []
