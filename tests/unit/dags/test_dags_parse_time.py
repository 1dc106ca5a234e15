"""What a DAG file does each time that Airflow parses it."""

import ast

import pytest

from cipipe.stages.dags.checks import parse_time
from cipipe.stages.dags.checks.static import Rules, check

DAG = b"from airflow import DAG\n"


def lines(source: str) -> list[tuple[str, int]]:
    found = parse_time.findings(ast.parse(source), "x.py")
    return [(problem.id, int(problem.where.rpartition(":")[2])) for problem in found]


@pytest.mark.parametrize(
    "source",
    [
        # HTTP libraries, by any name.
        "import requests\nrequests.get('x')",
        "import requests as rq\nX = rq.post('x').json()",
        "from requests import get\nget('x')",
        "import requests\nrequests.Session().get('x')",
        "import requests\ns = requests.Session(); s.get('x')",
        "import httpx\nhttpx.get('x')",
        "from urllib.request import urlopen\nurlopen('x')",
        "import urllib.request\nurllib.request.urlopen('x')",
        # boto3: clients, resources, paginators, sessions.
        "import boto3\nboto3.client('s3').list_buckets()",
        "import boto3\nboto3.resource('s3').Bucket('x').load()",
        "import boto3\nlist(boto3.resource('s3').buckets.all())",
        "import boto3\nlist(boto3.client('s3').get_paginator('list_x').paginate(Bucket='x'))",
        "import boto3\ns3 = boto3.client('s3'); s3.list_buckets()",
        "from boto3.session import Session\nSession().client('s3').list_buckets()",
        # Inside of other code that runs at import.
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


def test_the_body_of_a_dag_function_runs_at_parse_time_and_that_of_a_task_does_not() -> None:
    source = """\
import requests
from airflow.decorators import dag, task
@dag(schedule=None)
def etl():
    requests.get('1')
    @task
    def one():
        requests.get('2')
    one()
etl()
"""
    assert lines(source) == [("dag-parse-time-network", 5)]


@pytest.mark.parametrize(
    "source",
    [
        # Called later.
        "import requests\ndef f(): requests.get('x')",
        "import requests\nf = lambda: requests.get('x')",
        # Sends nothing.
        "import boto3\ns3 = boto3.client('s3')",
        "import boto3\nboto3.client('s3').get_paginator('list_objects_v2')",
        "import boto3\nboto3.resource('s3').Bucket('x').Object('y')",
        "import requests\nrequests.Session()",
        # Something else of that name.
        "x.get('x')\nVariable.get('x')",
        "import requests\nf(requests.get)",
        "{{ var.value.x }}",
    ],
)
def test_what_is_not_done_at_parse_time(source: str) -> None:
    assert lines(source) == []


def test_findings_are_warnings_of_the_check() -> None:
    body = DAG + b"import requests\nrequests.get('x')\n"
    notes = check({"dags/a.py": body}, {"dags/a.py": body}, Rules(source="dags"))
    assert [(note.id, note.where) for note in notes] == [("dag-parse-time-network", "dags/a.py:3")]


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
def test_what_only_runs_as_a_program_is_not_done_at_parse_time(guard: str) -> None:
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
def test_other_conditions_are_done_at_parse_time(guard: str) -> None:
    assert [found for found, _ in lines("import requests\n" + guard.format(CALL))] == [
        "dag-parse-time-network"
    ]
