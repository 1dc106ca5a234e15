"""The DAG files as they lie in the repository, unpatched, read by real Airflow 2 and 3: no network,
no Variable, no error.
"""

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.tools import ROOT, VENVS, require

DAGS = ROOT / "dags"

PROBE = """
import json, socket, sys

def refuse(*arguments, **options):
    raise RuntimeError("a DAG file must touch nothing when it is read")

socket.socket.connect = socket.getaddrinfo = refuse

import airflow
from airflow.models import Connection, Variable
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

Variable.get = Connection.get_connection_from_secrets = refuse
try:
    from airflow import sdk
    sdk.Variable.get = sdk.Connection.get = refuse
except ImportError:
    pass
sys.path.append(sys.argv[1])  # as Airflow's own processes do
bag = DagBag(sys.argv[1])
names = [
    "region_name", "cluster", "task_definition", "launch_type", "overrides",
    "network_configuration", "awslogs_group", "awslogs_region", "awslogs_stream_prefix",
    "reattach", "role_arn", "command", "container", "environment", "retries", "trigger_rule",
]
answer = {
    "airflow": airflow.__version__,
    "errors": {str(file): error for file, error in bag.import_errors.items()},
    "files": sorted(str(stat.file).lstrip("/") for stat in bag.dagbag_stats),
    "dags": {
        dag.dag_id: {
            "doc": dag.doc_md,
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "tasks": {
                task.task_id: {
                    "type": type(task).__name__,
                    "upstream": sorted(task.upstream_task_ids),
                    "timeout": task.execution_timeout.total_seconds(),
                    **{name: getattr(task, name) for name in names if hasattr(task, name)},
                }
                for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    },
}
open(sys.argv[2], "w").write(json.dumps(answer, default=str))
"""

TASKS = {
    "athena_elt": {
        "check_database": [],
        "create_database": ["check_database"],
        "create_movies": ["check_database", "create_database"],
        "create_ratings": ["check_database", "create_database"],
        "select_genre": ["create_movies", "create_ratings"],
        "clear_export": ["select_genre"],
        "export_csv": ["clear_export"],
        "move_export": ["export_csv"],
    },
    "dbt_redshift": {"build": []},
    "dbt_snowflake_scd2": {
        "run_emp_fact": [],
        "test_emp_fact": ["run_emp_fact"],
        "snapshot_scd_emp": ["test_emp_fact"],
    },
    "dbt_ssm": {"read_parameters": [], "build": ["read_parameters"]},
    "emr_elt": {
        "create_cluster": [],
        "add_steps": ["create_cluster"],
        "wait_for_hive": ["add_steps"],
        "wait_for_trino": ["wait_for_hive"],
        "terminate_cluster": ["create_cluster", "wait_for_trino"],
    },
}

# Tasks that a second try would not help, or would do twice.
ONCE = {"emr_elt": {"add_steps", "wait_for_hive", "wait_for_trino"}}


@pytest.fixture(scope="module", params=["2.10", "3"])
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What Airflow made of the folder `dags/`."""
    version = request.param
    python = require(
        VENVS / f"airflow-{version[0]}/bin/python", f"importing the DAGs on Airflow {version}"
    )
    work = tmp_path_factory.mktemp("airflow")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "AWS_"))
    }
    environment = {
        "AIRFLOW_HOME": str(work / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        [python, "-c", PROBE, DAGS, work / "answer.json"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads((work / "answer.json").read_text())
    assert answer["airflow"].startswith(f"{version}.")
    return answer


def test_every_dag_is_read_and_every_helper_left_alone(imported: dict[str, Any]) -> None:
    assert imported["errors"] == {}
    assert sorted(imported["dags"]) == sorted(TASKS)
    assert imported["files"] == sorted(f"{name}.py" for name in TASKS)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_dag_has_its_explanation_its_order_and_its_limits(
    imported: dict[str, Any], name: str
) -> None:
    dag = imported["dags"][name]
    assert dag["doc"] == ast.get_docstring(ast.parse(file(name).read_text()), clean=False)
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert {task: found["upstream"] for task, found in dag["tasks"].items()} == TASKS[name]
    assert all(task["timeout"] > 0 for task in dag["tasks"].values())
    once = {task for task, found in dag["tasks"].items() if found["retries"] < 2}
    assert once == ONCE.get(name, set())


def test_the_snapshot_follows_the_tested_model(imported: dict[str, Any]) -> None:
    tasks = imported["dags"]["dbt_snowflake_scd2"]["tasks"]

    assert {name: overrides(task)["command"] for name, task in tasks.items()} == {
        "run_emp_fact": ["dbt", "run", "--select", "emp_fact"],
        "test_emp_fact": ["dbt", "test", "--select", "+emp_fact"],
        "snapshot_scd_emp": ["dbt", "snapshot", "--select", "scd_emp"],
    }


def test_the_operators_of_the_provider_take_the_literals(imported: dict[str, Any]) -> None:
    values = literals("dbt_snowflake_scd2")

    for task in imported["dags"]["dbt_snowflake_scd2"]["tasks"].values():
        assert task["type"] == "EcsRunTaskOperator"
        assert task["launch_type"] == "FARGATE"
        assert task["reattach"] is True
        assert task["region_name"] == task["awslogs_region"] == values["AWS_REGION"]
        assert task["cluster"] == values["CLUSTER"]
        assert task["task_definition"] == values["TASK_DEFINITION"]
        assert task["awslogs_group"] == values["LOG_GROUP"]
        assert task["awslogs_stream_prefix"].endswith(f"/{values['CONTAINER']}")
        assert task["network_configuration"]["awsvpcConfiguration"] == {
            "subnets": values["SUBNETS"],
            "securityGroups": values["SECURITY_GROUPS"],
            "assignPublicIp": "DISABLED",
        }
        assert overrides(task)["name"] == values["CONTAINER"]


def test_our_operator_takes_the_literals(imported: dict[str, Any]) -> None:
    values, task = literals("dbt_redshift"), imported["dags"]["dbt_redshift"]["tasks"]["build"]
    assert task["type"] == "FargateOperator"
    assert {
        name: task[name] for name in ("role_arn", "cluster", "task_definition", "container")
    } == {
        "role_arn": values["SERVICE_ROLE"],
        "cluster": values["CLUSTER"],
        "task_definition": values["TASK_DEFINITION"],
        "container": values["CONTAINER"],
    }
    assert (task["command"], task["environment"]) == (["dbt", "build"], {"DBT_TARGET": "redshift"})


def file(name: str) -> Path:
    return DAGS / f"{name}.py"


def literals(name: str) -> dict[str, Any]:
    """The marked values of a file."""
    lines = [line for line in file(name).read_text().splitlines() if "# cipipe:" in line]
    nodes = [ast.parse(line).body[0] for line in lines]
    assignments = [node for node in nodes if isinstance(node, (ast.Assign, ast.AnnAssign))]
    targets = [
        node.target if isinstance(node, ast.AnnAssign) else node.targets[0] for node in assignments
    ]
    return {
        ast.unparse(t): ast.literal_eval(n.value)
        for t, n in zip(targets, assignments, strict=True)
        if n.value
    }


def overrides(task: dict[str, Any]) -> dict[str, Any]:
    (found,) = task["overrides"]["containerOverrides"]
    return dict(found)
