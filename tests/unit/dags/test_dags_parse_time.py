"""What is done each time that a file is read, and what Airflow 3 no longer has."""

import ast

import pytest

from cipipe.errors import ProblemsError
from cipipe.stages.dags.checks import airflow3, parse_time
from cipipe.stages.dags.checks.containers import overrides
from cipipe.stages.dags.checks.static import Rules, check

DAG = b"from airflow import DAG\n"


def lines(source: str) -> list[tuple[str, int]]:
    found = parse_time.findings(ast.parse(source), "x.py")
    return [(problem.id, int(problem.where.rpartition(":")[2])) for problem in found]


@pytest.mark.parametrize(
    "source",
    [
        "import requests\nrequests.get('x')",
        "import requests as rq\nX = rq.post('x').json()",
        "from requests import get\nget('x')",
        "import requests\nrequests.Session().get('x')",
        "import requests\ns = requests.Session(); s.get('x')",
        "import httpx\nhttpx.get('x')",
        "from urllib.request import urlopen\nurlopen('x')",
        "import urllib.request\nurllib.request.urlopen('x')",
        "import boto3\nboto3.client('s3').list_buckets()",
        "import boto3\nboto3.resource('s3').Bucket('x').load()",
        "import boto3\nlist(boto3.resource('s3').buckets.all())",
        "import boto3\nlist(boto3.client('s3').get_paginator('list_objects_v2').paginate(Bucket='x'))",
        "import boto3\ns3 = boto3.client('s3'); s3.list_buckets()",
        "from boto3.session import Session\nSession().client('s3').list_buckets()",
        "import boto3\n[k for k in boto3.client('s3').list_buckets()]",
        "import boto3\nif True: boto3.client('s3').list_buckets()",
        "import boto3\nclass A: x = boto3.client('s3').list_buckets()",
        "import boto3\ndef f(x=boto3.client('s3').list_buckets()): pass",
        "import boto3\nwith DAG('x'): boto3.client('s3').list_buckets()",
        "import psycopg2\npsycopg2.connect('x')",
    ],
)
def test_requests_at_the_top_of_a_file(source: str) -> None:
    assert lines(source) == [("dag-parse-time-network", 2)]


@pytest.mark.parametrize(
    "source",
    [
        "from airflow.models import Variable\nVariable.get('x')",
        "from airflow.sdk import Variable\nVariable.get('x', default='y')",
        "from airflow import models\nmodels.Variable.get('x')",
        "from airflow.models.variable import Variable as V\nX = f'{V.get(\"x\")}'",
        "from airflow.hooks.base import BaseHook\nBaseHook.get_connection('x')",
    ],
)
def test_variables_at_the_top_of_a_file(source: str) -> None:
    assert lines(source) == [("dag-parse-time-variable", 2)]


def test_the_body_of_a_dag_function_runs_when_the_file_is_read_and_that_of_a_task_does_not() -> (
    None
):
    source = (
        "import requests\nfrom airflow.decorators import dag, task\n@dag(schedule=None)\ndef etl():\n    requests.get('1')\n"
        "    @task\n    def one():\n        requests.get('2')\n    one()\netl()\n"
    )
    assert lines(source) == [("dag-parse-time-network", 5)]


@pytest.mark.parametrize(
    "source",
    [
        "import requests\ndef f(): requests.get('x')",
        "import requests\nf = lambda: requests.get('x')",
        "import boto3\ns3 = boto3.client('s3')",
        "import boto3\nboto3.client('s3').get_paginator('list_objects_v2')",
        "import boto3\nboto3.resource('s3').Bucket('x').Object('y')",
        "import requests\nrequests.Session()",
        "x.get('x')\nVariable.get('x')",
        "import requests\nf(requests.get)",
        "{{ var.value.x }}",
    ],
)
def test_what_is_not_done_when_the_file_is_read(source: str) -> None:
    assert lines(source) == []


def test_they_are_warnings_of_the_check() -> None:
    body = DAG + b"import requests\nrequests.get('x')\n"
    notes = check({"dags/a.py": body}, {"dags/a.py": body}, Rules(source="dags"))
    assert [(note.id, note.where) for note in notes] == [("dag-parse-time-network", "dags/a.py:3")]


# --- Airflow 3 ---------------------------------------------------------------------------------------------------------------

GONE = [
    "from airflow.operators.python_operator import PythonOperator",
    "from airflow.operators.dummy import DummyOperator",
    "from airflow.operators import dummy_operator",
    "import airflow.operators.bash_operator",
    "from airflow.contrib.operators.ecs_operator import ECSOperator",
    "from airflow.utils.dates import days_ago",
    "def task(): from airflow.utils.dates import days_ago",
    "from airflow.configuration import getboolean",
    "DAG('x', schedule_interval=None)",
    "@dag(schedule_interval='@daily')\ndef etl(): pass",
]


@pytest.mark.parametrize("source", GONE)
def test_what_airflow_3_lacks_is_an_error_for_it_alone(source: str) -> None:
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
        "try:\n    from airflow.sdk import chain\nexcept ImportError:\n    from airflow.utils.helpers import chain",
        "if not V3:\n    from airflow.operators.dummy import DummyOperator",
        "DAG('x', schedule=None)",
        "other(schedule_interval=None)",
    ],
)
def test_what_airflow_3_has_or_what_chooses_by_itself(source: str) -> None:
    assert list(airflow3.findings(ast.parse(source), "x.py")) == []


def test_the_table_names_its_sources() -> None:
    assert all(
        source.startswith("https://airflow.apache.org/") for source in airflow3.table()["source"]
    )
    assert len(airflow3.table()["modules"]) > 50


# --- containers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            'Op(task_definition=TD, overrides={"containerOverrides": [{"name": "dbt", "command": [*x]}]})',
            ["dbt"],
        ),
        (
            'Op(task_definition=TD, overrides={"containerOverrides": [{"name": C}, {"name": "b"}]})',
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


CALL = "requests.get('x')"


@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__":\n    {}',
        'if "__main__" == __name__:\n    {}',
        'if not __name__ != "__main__":\n    {}',
        'if __name__ != "__main__":\n    pass\nelse:\n    {}',
        'if __name__ in ("__main__",):\n    {}',
        'if __name__ == "__main__" and x:\n    {}',
        'if x and __name__ == "__main__":\n    {}',
        'if x:\n    pass\nelif __name__ == "__main__":\n    {}',
        'for x in y:\n    if __name__ == "__main__":\n        {}',
        'MAIN = __name__ == "__main__"\nif MAIN:\n    {}',
        '__name__ == "__main__" and {}',
        '__name__ != "__main__" or {}',
        'x = {} if __name__ == "__main__" else None',
        "if TYPE_CHECKING:\n    {}",
        "if False:\n    {}",
    ],
)
def test_what_only_runs_as_a_program_is_not_done_each_time(guard: str) -> None:
    assert lines("import requests\n" + guard.format(CALL)) == []


@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ != "__main__":\n    {}',
        'if __name__ == "__main__":\n    pass\nelse:\n    {}',
        'if __name__ == "etl":\n    {}',
        'if __name__ == "__main__" or x:\n    {}',
        'if x == "__main__":\n    {}',
        'x = None if __name__ == "__main__" else {}',
        '__name__ == "__main__" or {}',
        "if not TYPE_CHECKING:\n    {}",
    ],
)
def test_what_runs_when_the_file_is_read_is(guard: str) -> None:
    assert [found for found, _ in lines("import requests\n" + guard.format(CALL))] == [
        "dag-parse-time-network"
    ]
