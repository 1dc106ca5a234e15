"""What Airflow 3 no longer has, among what a DAG file imports and how it makes its DAGs. The table
is airflow3.json.

An import in a `try` or an `if` is left alone: that is how one file serves both versions.
"""

import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cipipe.errors import Problem
from cipipe.stages.dags.checks.trees import dotted

_FIRST = 3


def applies(version: str | None) -> bool:
    """Whether a declared version of Airflow is one that lacks these things."""
    return version is not None and int(version.partition(".")[0]) >= _FIRST


@functools.cache
def table() -> dict[str, Any]:
    """`modules` (with all below them), `names` (of modules that stay) and `dag_arguments`, each
    with what to use instead.
    """
    return dict(json.loads(Path(__file__).with_name("airflow3.json").read_bytes()))


def findings(tree: ast.Module, path: str) -> Iterator[Problem]:
    """Errors, each with its line."""
    for node in _unconditional(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield from _found(name.name, f"{path}:{node.lineno}")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                yield from _found(f"{node.module}.{name.name}", f"{path}:{name.lineno}")
        elif isinstance(node, ast.Call) and dotted(node.func, {}).split(".")[-1] in {"DAG", "dag"}:
            for keyword in node.keywords:
                if keyword.arg in table()["dag_arguments"]:
                    instead = table()["dag_arguments"][keyword.arg]
                    yield _gone(
                        f"the argument {keyword.arg} of a DAG",
                        instead,
                        f"{path}:{keyword.value.lineno}",
                    )


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        below = [
            c
            for c in ast.iter_child_nodes(found)
            if not isinstance(c, ast.Try | ast.TryStar | ast.If)
        ]
        waiting += reversed(below)


def _found(name: str, where: str) -> Iterator[Problem]:
    names = table()["names"]
    if name in names:
        yield _gone(name, names[name], where)
        return
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        module = ".".join(parts[:length])
        if module in table()["modules"]:
            yield _gone(module, table()["modules"][module], where)
            return


def _gone(what: str, instead: str | None, where: str) -> Problem:
    hint = f"Use {instead}." if instead else "It has no successor."
    return Problem("dag-airflow-3-removed", f"{what} is gone in Airflow 3", where, hint)
