"""What a DAG file does each time that Airflow parses it: send requests,
read Variables.

That is every thirty seconds. Found in the syntax tree, so only what is
written literally; these are warnings.
"""

import ast
import re
from collections.abc import Iterator

from cipipe.errors import Problem
from cipipe.stages.dags.trees import aliases, at_import, dotted

# Characters of a name that is followed through assignments: each can be
# built from the last.
_LONGEST = 200

_VERBS = r"(get|post|put|patch|delete|head|options|request|stream)"
_CLIENT = r"boto3(\.(session\.)?Session\(\))?\.client\(\)"
_RESOURCE = r"boto3(\.(session\.)?Session\(\))?\.resource\(\)"
# The methods of a client that send nothing.
_LOCAL = r"meta\b|exceptions\b|can_paginate|get_(paginator|waiter)|generate_presigned"
_NETWORK = re.compile(
    rf"(requests|httpx)\.{_VERBS}"
    rf"|(requests\.[sS]ession|httpx\.Client)\(\)\.{_VERBS}"
    r"|urllib\.request\.(urlopen|urlretrieve)|urllib3\.(request|PoolManager\(\)\.\w+)"
    rf"|{_CLIENT}\.(?!{_LOCAL})\w+"
    rf"|{_CLIENT}\.get_(paginator|waiter)\(\)\.\w+"
    rf"|{_RESOURCE}(\.\w+(\(\))?)*\.[a-z]\w*"
    r"|(psycopg2|pymysql|redshift_connector|snowflake\.connector)\.connect"
    r"|socket\.create_connection"
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
        if isinstance(node, ast.Assign):
            _follow(node, known)
        if not isinstance(node, ast.Call):
            continue

        name = dotted(node.func, known)
        where = f"{path}:{node.lineno}"
        if _NETWORK.fullmatch(name):
            yield Problem(
                "dag-parse-time-network",
                f"{name}(…) is called each time that Airflow reads the file",
                where,
                hint="Call it in a task. Airflow reads every file again and again,"
                " and gives up on slow ones.",
            )
        elif _STORED.fullmatch(name):
            yield Problem(
                "dag-parse-time-variable",
                f"{name}(…) asks Airflow's database each time that Airflow reads the file",
                where,
                hint="Ask in a task, or write a template such as {{ var.value.NAME }}"
                " where an operator renders it.",
            )


def _follow(node: ast.Assign, known: dict[str, str]) -> None:
    """Remember what a call made: after `s3 = boto3.client("s3")`, s3 is a client."""
    target = node.targets[0]
    if len(node.targets) != 1 or not isinstance(target, ast.Name):
        return
    made = dotted(node.value, known)
    if made.endswith("()") and len(made) <= _LONGEST:
        known[target.id] = made
