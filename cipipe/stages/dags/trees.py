"""Python's syntax trees: names with their imports followed, and what runs
when a module is read.

Used by checks that must not execute a file. What cannot be seen in the tree
counts as unknown.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence

# The most parts of a dotted name: a chain of calls, `a().b().c()`, may be
# of any length.
_LONGEST = 24
# How many names a condition may lead through before it counts as unknown.
_MOST_NAMES = 4

_GUARD = "__main__"
_EQUALITIES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)


def aliases(tree: ast.Module) -> dict[str, str]:
    """What the names that a module imports mean: `{"rq": "requests", "get": "requests.get"}`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.asname:
                    found[name.asname] = name.name
                else:
                    # `import a.b` binds `a`.
                    top = name.name.partition(".")[0]
                    found[top] = top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def dotted(node: ast.expr, known: Mapping[str, str]) -> str:
    """A name in full, `boto3.client().list_buckets`; empty for anything
    else, and for long chains.

    `known` has what the first part of a name means, as `aliases` returns
    it.
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


def last_part(node: ast.expr) -> str:
    """The last part of a name as it is written: `dag` of `airflow.decorators.dag`."""
    return dotted(node, {}).rpartition(".")[2]


def walk(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node, like `ast.walk`, without what never runs when Airflow
    reads the file.

    That is what is under `if __name__ == "__main__":` and its like.
    """
    known = constants(tree)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(_running(node, known))


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that is evaluated when the module is read, in order.

    The bodies of functions and lambdas are not, but their decorators and
    defaults are; and the body of a function that `@dag` turns into a DAG,
    which a call on the last line usually runs.
    """
    known = constants(tree)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            below = _evaluated(node)
        elif isinstance(node, ast.Lambda):
            below = []
        else:
            below = _running(node, known)
        waiting += reversed(below)


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The values that plain assignments give to module-level names; the last one counts."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def _evaluated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST]:
    """What of a function is evaluated where it is defined."""
    below: list[ast.AST] = [
        *function.decorator_list,
        *function.args.defaults,
        *filter(None, function.args.kw_defaults),
    ]
    for decorator in function.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if last_part(name) == "dag":
            return [*below, *function.body]
    return below


def _running(node: ast.AST, known: Mapping[str, ast.expr]) -> list[ast.AST]:
    """The nodes below one, without the branches that are not taken."""
    if isinstance(node, ast.If):
        return [node.test, *_taken(node.test, node.body, node.orelse, known=known)]
    if isinstance(node, ast.IfExp):
        return [node.test, *_taken(node.test, [node.body], [node.orelse], known=known)]
    if isinstance(node, ast.BoolOp):
        # `or` stops at the first value that is true, `and` at the first one
        # that is false.
        stops = isinstance(node.op, ast.Or)
        for number, value in enumerate(node.values, 1):
            if _truth(value, known) is stops:
                return list(node.values[:number])
    return list(ast.iter_child_nodes(node))


def _taken(
    test: ast.expr,
    body: Sequence[ast.AST],
    other: Sequence[ast.AST],
    known: Mapping[str, ast.expr],
) -> Sequence[ast.AST]:
    """The branches of a condition that may run: one of them where its value can be seen."""
    truth = _truth(test, known)
    if truth is None:
        return [*body, *other]
    return body if truth else other


def _truth(test: ast.expr, known: Mapping[str, ast.expr], names: int = 0) -> bool | None:
    """The value of a condition when Airflow reads the file; None where it
    cannot be seen.

    `__name__` is not `"__main__"` then, and `TYPE_CHECKING` is false.
    `names` counts the names that were followed to get here.
    """
    # A loop, because code may contain any number of `not`.
    negated = False
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
        negated = not negated
    if negated:
        opposite = _truth(test, known, names)
        return None if opposite is None else not opposite

    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.BoolOp):
        stops = isinstance(test.op, ast.Or)
        values = [_truth(value, known, names) for value in test.values]
        if stops in values:
            return stops
        return None if None in values else not stops
    if isinstance(test, ast.Compare):
        return _compared(test)
    if isinstance(test, ast.Name | ast.Attribute) and last_part(test) == "TYPE_CHECKING":
        return False
    if isinstance(test, ast.Name) and test.id in known and names < _MOST_NAMES:
        value = known[test.id]
        if isinstance(value, ast.Compare | ast.UnaryOp | ast.BoolOp):
            return _truth(value, known, names + 1)
    return None


def _compared(test: ast.Compare) -> bool | None:
    """`__name__ == "__main__"`, either way round, with `is`, or with `in`
    and a list of one.

    None for other comparisons.
    """
    if len(test.ops) != 1:
        return None
    left = test.left
    operator = test.ops[0]
    right = test.comparators[0]
    if _is_name(left) == _is_name(right):
        return None

    other = right if _is_name(left) else left
    if isinstance(other, ast.Constant) and other.value == _GUARD:
        unequal = isinstance(operator, ast.NotEq | ast.IsNot)
        return unequal if isinstance(operator, _EQUALITIES) else None

    listed = right.elts if isinstance(right, ast.Tuple | ast.List | ast.Set) else []
    if [getattr(item, "value", None) for item in listed] == [_GUARD]:
        return isinstance(operator, ast.NotIn) if isinstance(operator, ast.In | ast.NotIn) else None
    return None


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__"
