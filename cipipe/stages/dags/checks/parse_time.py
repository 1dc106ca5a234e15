"""What a DAG file does each time that Airflow reads it, every half a minute: requests, and reading
Variables.

Found in the syntax tree, so only what stands there literally; these are warnings.
"""

import ast
import re
from collections.abc import Iterator

from cipipe.errors import Problem
from cipipe.stages.dags.checks.trees import aliases, at_import, dotted

_LONGEST = 200
_VERBS = r"(get|post|put|patch|delete|head|options|request|stream)"
_SESSION = r"boto3(\.(session\.)?Session\(\))?"
_NETWORK = re.compile(
    rf"(requests|httpx)\.{_VERBS}"
    rf"|(requests\.[sS]ession|httpx\.Client)\(\)\.{_VERBS}"
    r"|urllib\.request\.(urlopen|urlretrieve)|urllib3\.(request|PoolManager\(\)\.\w+)"
    rf"|{_SESSION}\.client\(\)\.(?!meta\b|exceptions\b|can_paginate|get_(paginator|waiter)|generate_presigned)\w+"
    rf"|{_SESSION}\.client\(\)\.get_(paginator|waiter)\(\)\.\w+|{_SESSION}\.resource\(\)(\.\w+(\(\))?)*\.[a-z]\w*"
    r"|(psycopg2|pymysql|redshift_connector|snowflake\.connector)\.connect|socket\.create_connection"
)
_STORED = re.compile(
    r"airflow\.(models|sdk)(\.variable)?\.Variable\.get"
    r"|airflow\.(hooks\.base|sdk(\.bases\.hook)?)\.BaseHook\.get_connection"
    r"|airflow\.(models|sdk)(\.connection)?\.Connection\.get(_connection_from_secrets)?"
)


def findings(tree: ast.Module, path: str) -> Iterator[Problem]:
    """Warnings, each with its line."""
    known = aliases(tree)
    for node in at_import(tree):
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
        ):
            made = dotted(node.value, known)
            if (
                made.endswith("()") and len(made) <= _LONGEST
            ):  # so that `s3 = boto3.client("s3")` and `s3.list_buckets()` are seen as one
                known[node.targets[0].id] = made
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, known)
        where = f"{path}:{node.lineno}"
        if _NETWORK.fullmatch(name):
            yield Problem(
                "dag-parse-time-network",
                f"{name}(…) is called each time that Airflow reads the file",
                where,
                "Call it in a task. Airflow reads every file again and again, and gives up on slow ones.",
            )
        elif _STORED.fullmatch(name):
            yield Problem(
                "dag-parse-time-variable",
                f"{name}(…) asks Airflow's database each time that Airflow reads the file",
                where,
                "Ask in a task, or write a template such as {{ var.value.NAME }} where an operator renders it.",
            )
