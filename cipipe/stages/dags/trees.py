"""Reading Python's syntax trees: names with their imports followed, and what runs when a module is read."""

import ast
from collections.abc import Iterator, Mapping

_LONGEST = 24
"""Parts of a dotted name: calls in a chain, `a().b().c()`, may go on for ever."""


def aliases(tree: ast.Module) -> dict[str, str]:
    """What the names that a module imports stand for: `{"rq": "requests", "get": "requests.get"}`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.asname:
                    found[name.asname] = name.name
                else:
                    top = name.name.partition(".")[0]
                    found[top] = top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return found


def dotted(node: ast.expr, known: Mapping[str, str]) -> str:
    """A name as it reads in full: `boto3.client().list_buckets`; empty where it is none, or has very many parts."""
    parts: list[str] = []
    while len(parts) < _LONGEST:
        if isinstance(node, ast.Name):
            return "".join((known.get(node.id, node.id), *reversed(parts)))
        if isinstance(node, ast.Attribute):
            parts.append(f".{node.attr}")
            node = node.value
        elif isinstance(node, ast.Call):
            parts.append("()")
            node = node.func
        else:
            break
    return ""


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that is evaluated when the module is read, in order.

    That is not what stands in functions and lambdas, but for their decorators and defaults; a function that `@dag` makes
    a DAG of runs as well.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        below = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            runs = any(
                dotted(d.func if isinstance(d, ast.Call) else d, {}).split(".")[-1] == "dag"
                for d in node.decorator_list
            )
            below = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
            below += node.body if runs else []
        elif isinstance(node, ast.Lambda):
            below = []
        waiting += reversed(below)


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The values that module-level names are given by plain assignments; of one that is assigned again, the last."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found
