"""The DAG ids in a file, read from its syntax tree: the file is not executed."""

import ast
from collections.abc import Iterator

from cipipe.stages.dags.trees import walk


def dag_ids(tree: ast.Module) -> dict[str, int]:
    """The DAG ids that are written literally in a file, with their lines."""
    return {name: line for node in walk(tree) for name, line in _dag_id(node)}


def _dag_id(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Call) and _name(node.func) == "DAG":
        name = _argument(node)
        if isinstance(name, str):
            yield name, node.lineno
    elif isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if _name(call.func if call else decorator) != "dag":
                continue
            name = _argument(call) if call else None
            # Without an argument, the function's name is the id.
            if name is None or isinstance(name, str):
                yield name or node.name, node.lineno


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _argument(call: ast.Call) -> object:
    """The id in a call: a string, None where it has none, Ellipsis where it is not a literal."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "dag_id"] or call.args[:1]
    if given:
        return given[0].value if isinstance(given[0], ast.Constant) else ...
    # `**arguments` may have it.
    return ... if any(keyword.arg is None for keyword in call.keywords) else None
