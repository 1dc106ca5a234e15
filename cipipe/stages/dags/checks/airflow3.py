"""What Airflow 3 removed, among what a DAG file imports and the arguments
of its DAGs.

The table is airflow3.json. An import in a `try` or an `if` is left alone:
that is how one file supports both versions.
"""

import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cipipe.errors import Problem
from cipipe.stages.dags.trees import last_part

_FIRST = 3


def applies(version: str | None) -> bool:
    """Whether the declared version of Airflow is one without these things."""
    return version is not None and int(version.partition(".")[0]) >= _FIRST


@functools.cache
def table() -> dict[str, Any]:
    """What is gone, each with what to use instead, or null.

    `modules` (with all modules below them), `names` (of modules that stay),
    `dag_arguments`.
    """
    return dict(json.loads(Path(__file__).with_name("airflow3.json").read_bytes()))


def findings(tree: ast.Module, path: str) -> Iterator[Problem]:
    """Errors, each with its line."""
    for node in _unconditional(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield from _import(name.name, f"{path}:{node.lineno}")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                yield from _import(f"{node.module}.{name.name}", f"{path}:{name.lineno}")
        elif isinstance(node, ast.Call) and last_part(node.func) in {"DAG", "dag"}:
            yield from _arguments(node, path)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    """Every node outside of `try` and `if`, in order."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        children = reversed(list(ast.iter_child_nodes(found)))
        waiting += (c for c in children if not isinstance(c, ast.Try | ast.TryStar | ast.If))


def _import(name: str, where: str) -> Iterator[Problem]:
    names = table()["names"]
    if name in names:
        yield _gone(name, names[name], where)
        return

    # The longest name first: its replacement is the most precise. `airflow`
    # itself is never gone.
    modules = table()["modules"]
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        module = ".".join(parts[:length])
        if module in modules:
            yield _gone(module, modules[module], where)
            return


def _arguments(call: ast.Call, path: str) -> Iterator[Problem]:
    arguments = table()["dag_arguments"]
    for keyword in call.keywords:
        if keyword.arg in arguments:
            what = f"the argument {keyword.arg} of a DAG"
            yield _gone(what, arguments[keyword.arg], f"{path}:{keyword.value.lineno}")


def _gone(what: str, instead: str | None, where: str) -> Problem:
    hint = f"Use {instead}." if instead else "It has no successor."
    return Problem("dag-airflow-3-removed", f"{what} is gone in Airflow 3", where, hint=hint)
