"""The DAG as it lies in the repository, unpatched, imported by real Airflow 2 and 3."""

import ast
import json
import os
import subprocess
from typing import Any

import pytest
from tools import ROOT, VENVS, require

FILE = ROOT / "dags/dbt_emp_scd2.py"

PROBE = """
import json, socket, sys

def refuse(*arguments, **options):
    raise RuntimeError("a DAG file must not use the network when it is read")

socket.socket.connect = socket.getaddrinfo = refuse

import airflow
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

bag = DagBag(sys.argv[1])
names = ["region_name", "cluster", "task_definition", "launch_type", "overrides", "network_configuration", "awslogs_group",
         "awslogs_region", "awslogs_stream_prefix", "retries"]
answer = {
    "airflow": airflow.__version__,
    "errors": {str(file): error for file, error in bag.import_errors.items()},
    "dags": {
        dag.dag_id: {
            "doc": dag.doc_md,
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "tasks": {
                task.task_id: {
                    "type": type(task).__name__,
                    "upstream": sorted(task.upstream_task_ids),
                    **{name: getattr(task, name) for name in names},
                }
                for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    },
}
open(sys.argv[2], "w").write(json.dumps(answer))
"""


@pytest.fixture(scope="module", params=["2.10", "3"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow made of the folder `dags/`."""
    version = request.param
    python = require(VENVS / f"airflow-{version[0]}/bin/python", f"importing the DAGs on Airflow {version}")
    work = tmp_path_factory.mktemp("airflow")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AWS_"))}
    environment = {
        "AIRFLOW_HOME": str(work / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, "-c", PROBE, FILE.parent, work / "answer.json"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads((work / "answer.json").read_text())
    assert answer["airflow"].startswith(f"{version}.")
    return answer


def test_the_dag_imports_unpatched(imported: dict[str, Any]) -> None:
    assert imported["errors"] == {}
    assert list(imported["dags"]) == ["dbt_emp_scd2"]
    dag = imported["dags"]["dbt_emp_scd2"]
    assert dag["doc"] == ast.get_docstring(ast.parse(FILE.read_text()), clean=False)
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1


def test_the_snapshot_follows_the_model(imported: dict[str, Any]) -> None:
    tasks = imported["dags"]["dbt_emp_scd2"]["tasks"]

    assert {name: task["upstream"] for name, task in tasks.items()} == {
        "build_emp_fact": [],
        "snapshot_scd_emp": ["build_emp_fact"],
    }
    assert {name: command(task) for name, task in tasks.items()} == {
        "build_emp_fact": ["dbt", "build", "--select", "+emp_fact"],
        "snapshot_scd_emp": ["dbt", "snapshot", "--select", "scd_emp"],
    }


def test_the_operators_take_the_literals(imported: dict[str, Any]) -> None:
    values = literals()

    for task in imported["dags"]["dbt_emp_scd2"]["tasks"].values():
        assert task["type"] == "EcsRunTaskOperator"
        assert task["launch_type"] == "FARGATE"
        assert task["retries"] == 2
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
        assert [override["name"] for override in task["overrides"]["containerOverrides"]] == [values["CONTAINER"]]


def literals() -> dict[str, Any]:
    assignments = [node for node in ast.parse(FILE.read_text()).body if isinstance(node, (ast.Assign, ast.AnnAssign))]
    targets = [node.target if isinstance(node, ast.AnnAssign) else node.targets[0] for node in assignments]
    return {ast.unparse(t): ast.literal_eval(n.value) for t, n in zip(targets, assignments, strict=True) if n.value}


def command(task: dict[str, Any]) -> list[str]:
    found: list[str] = task["overrides"]["containerOverrides"][0]["command"]
    return found
