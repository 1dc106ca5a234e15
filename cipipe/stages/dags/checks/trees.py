"""Reading Python's syntax trees: names with their imports followed, and what runs when a module is
read.
"""

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
    """A name as it reads in full: `boto3.client().list_buckets`; empty where it is none, or has
    very many parts.
    """
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


_GUARD = "__main__"
_MOST_NAMES = 4


def walk(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node, like `ast.walk`, but for what never runs when Airflow reads the file: `if
    __name__ == "__main__":`.
    """
    known = constants(tree)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(_running(node, known))


def _running(node: ast.AST, known: Mapping[str, ast.expr]) -> list[ast.AST]:
    """The nodes below one, without the branches that are not taken."""
    if isinstance(node, ast.If | ast.IfExp):
        taken = _truth(node.test, known)
        body, other = (
            (node.body, node.orelse) if isinstance(node, ast.If) else ([node.body], [node.orelse])
        )
        return [
            node.test,
            *(body if taken is not False else []),
            *(other if taken is not True else []),
        ]
    if isinstance(node, ast.BoolOp):
        ends = isinstance(node.op, ast.Or)
        for number, value in enumerate(node.values, 1):
            if _truth(value, known) is ends:
                return list(node.values[:number])
    return list(ast.iter_child_nodes(node))


def _truth(test: ast.expr, known: Mapping[str, ast.expr], names: int = 0) -> bool | None:
    """What a condition is when Airflow reads the file, where that can be seen: `__name__` is
    another one then.
    """
    turned = False
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, turned = test.operand, not turned
    if turned:
        opposite = _truth(test, known, names)
        return None if opposite is None else not opposite
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.BoolOp):
        ends = isinstance(test.op, ast.Or)
        values = [_truth(value, known, names) for value in test.values]
        return ends if ends in values else None if None in values else not ends
    if isinstance(test, ast.Compare):
        return _compared(test)
    if (
        isinstance(test, ast.Name | ast.Attribute)
        and dotted(test, {}).split(".")[-1] == "TYPE_CHECKING"
    ):
        return False
    if isinstance(test, ast.Name) and test.id in known and names < _MOST_NAMES:
        value = known[test.id]
        return (
            _truth(value, known, names + 1)
            if isinstance(value, ast.Compare | ast.UnaryOp | ast.BoolOp)
            else None
        )
    return None


def _compared(test: ast.Compare) -> bool | None:
    """`__name__ == "__main__"` either way round, with `is`, and with `in` and a list; None for
    other comparisons.
    """
    if len(test.ops) != 1:
        return None
    left, operator, right = test.left, test.ops[0], test.comparators[0]
    guarded = {_is_name(left), _is_name(right)} == {True, False}
    other = right if _is_name(left) else left
    if guarded and isinstance(other, ast.Constant) and other.value == _GUARD:
        return (
            isinstance(operator, ast.NotEq | ast.IsNot)
            if isinstance(operator, _EQUALITIES)
            else None
        )
    listed = right.elts if isinstance(right, ast.Tuple | ast.List | ast.Set) else []
    if guarded and [getattr(item, "value", None) for item in listed] == [_GUARD]:
        return isinstance(operator, ast.NotIn) if isinstance(operator, ast.In | ast.NotIn) else None
    return None


_EQUALITIES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__"


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that is evaluated when the module is read, in order.

    That is not what stands in functions and lambdas, but for their decorators and defaults; a
    function that `@dag` makes a DAG of runs as well. Nor is it what stands under `if __name__ ==
    "__main__":`.
    """
    assigned = constants(tree)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        below = _running(node, assigned)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            runs = any(
                dotted(d.func if isinstance(d, ast.Call) else d, {}).split(".")[-1] == "dag"
                for d in node.decorator_list
            )
            below = [
                *node.decorator_list,
                *node.args.defaults,
                *filter(None, node.args.kw_defaults),
            ]
            below += node.body if runs else []
        elif isinstance(node, ast.Lambda):
            below = []
        waiting += reversed(below)


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The values that module-level names are given by plain assignments; of one that is assigned
    again, the last.
    """
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {
                target.id: node.value for target in node.targets if isinstance(target, ast.Name)
            }
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.value is not None
        ):
            found[node.target.id] = node.value
    return found
