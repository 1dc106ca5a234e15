"""What Airflow 3 no longer has."""

import ast

import pytest

from cipipe.errors import ProblemsError
from cipipe.stages.dags.checks import airflow3
from cipipe.stages.dags.checks.static import Rules, check

DAG = b"from airflow import DAG\n"
GONE = [
    # Modules and names that moved or went.
    "from airflow.operators.python_operator import PythonOperator",
    "from airflow.operators.dummy import DummyOperator",
    "from airflow.operators import dummy_operator",
    "import airflow.operators.bash_operator",
    "from airflow.contrib.operators.ecs_operator import ECSOperator",
    "from airflow.utils.dates import days_ago",
    "def task(): from airflow.utils.dates import days_ago",
    "from airflow.configuration import getboolean",
    # Arguments of a DAG.
    "DAG('x', schedule_interval=None)",
    "@dag(schedule_interval='@daily')\ndef etl(): pass",
]


@pytest.mark.parametrize("source", GONE)
def test_what_airflow_3_removed_is_an_error_for_airflow_3_only(source: str) -> None:
    body = {"dags/a.py": DAG + source.encode()}
    for version in (None, "2.10.3"):
        assert check(body, body, Rules(source="dags", airflow_version=version)) == []
    with pytest.raises(ProblemsError) as caught:
        check(body, body, Rules(source="dags", airflow_version="3.0.6"))
    assert [(p.id, p.where) for p in caught.value.problems] == [
        ("dag-airflow-3-removed", "dags/a.py:2")
    ]
    assert caught.value.problems[0].hint


@pytest.mark.parametrize(
    "source",
    [
        "from airflow.operators.python import PythonOperator",
        "from airflow.operators.empty import EmptyOperator",
        "from airflow.utils.dates import cron_presets",
        "from .operators.dummy import X",
        # One file for both versions.
        (
            "try:\n    from airflow.sdk import chain\n"
            "except ImportError:\n    from airflow.utils.helpers import chain"
        ),
        "if not V3:\n    from airflow.operators.dummy import DummyOperator",
        "DAG('x', schedule=None)",
        "other(schedule_interval=None)",
    ],
)
def test_what_works_in_airflow_3(source: str) -> None:
    assert list(airflow3.findings(ast.parse(source), "x.py")) == []


def test_the_table_names_its_sources() -> None:
    assert all(
        source.startswith("https://airflow.apache.org/") for source in airflow3.table()["source"]
    )
    assert len(airflow3.table()["modules"]) > 50
