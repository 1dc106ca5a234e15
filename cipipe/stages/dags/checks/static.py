"""What is checked before anything is uploaded, from the files alone: that they compile, that no two
DAGs share an id, that the declared Airflow has what they import, and what they do each time that
they are read.
"""

import ast
import contextlib
import gc
import warnings
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping

from cipipe.errors import Problem, ProblemsError, RefusedError
from cipipe.stages.dags.checks import airflow3, parse_time
from cipipe.stages.dags.checks.trees import walk
from cipipe.stages.dags.files import is_dag
from cipipe.stages.dags.markers.limits import LARGEST, too_large


def check(
    sources: Mapping[str, bytes],
    bodies: Mapping[str, bytes],
    *,
    allow_empty: bool,
    source: str,
    airflow_version: str | None = None,
    ignored: Container[str] = (),
    compiled_elsewhere: bool = False,
) -> list[Problem]:
    """Check patched files (`bodies`) against what they were made from; give warnings.

    `ignored` are files that `.airflowignore` names: they hold no DAGs. `compiled_elsewhere`:
    another Python, that of Airflow, reads the files too, so that what does not compile on this one
    is a warning.

    Raises RefusedError (`dags-empty`) and ProblemsError (`dags-check-failed`).
    """
    if not allow_empty and not any(
        is_dag(path, body) and path not in ignored for path, body in bodies.items()
    ):
        raise RefusedError(
            "dags-empty",
            f"{source} holds no DAG file: deploying it would take every DAG of this stage out of Airflow",
            hint="A DAG file has the words `dag` and `airflow` in it. If there really is to be none, "
            "set allow_empty = true, or pass --allow-empty to `cipipe dags deploy`.",
            where=source,
        )
    wrong: list[Problem] = []
    notes: list[Problem] = []
    ids: dict[str, list[str]] = defaultdict(list)
    for path in sorted(bodies):
        if not path.endswith(".py"):
            continue
        if len(bodies[path]) > LARGEST:
            notes.append(too_large(path, "is not checked: it is"))
            continue
        tree, error = _compiled(bodies[path], path)
        if error is not None:
            broken = _compiled(sources[path], path)[0] is not None
            tolerated = not broken and (compiled_elsewhere or path in ignored)
            (notes if tolerated else wrong).append(_not_compiling(error, path, broken=broken))
        elif tree is not None and path not in ignored:
            for name, line in sorted(dag_ids(tree).items()):
                ids[name].append(f"{path}:{line}")
            notes += parse_time.findings(tree, path)
            wrong += airflow3.findings(tree, path) if airflow3.applies(airflow_version) else ()
    wrong += [duplicate(name, places) for name, places in sorted(ids.items()) if len(places) > 1]
    if wrong:
        raise ProblemsError(
            "dags-check-failed", "the DAG files cannot be deployed as they are", tuple(wrong)
        )
    return notes


def _compiled(body: bytes, path: str) -> tuple[ast.Module | None, Exception | None]:
    try:
        with warnings.catch_warnings(), _uncollected():
            warnings.simplefilter("ignore")
            tree = ast.parse(body, path)
            compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return None, error
    return tree, None


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which takes two thirds of the time of parsing a large file, and
    finds nothing in it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _not_compiling(error: Exception, path: str, *, broken: bool) -> Problem:
    line = getattr(error, "lineno", None)
    text = getattr(error, "msg", None) or str(error) or type(error).__name__
    return Problem(
        "dag-not-compiling",
        f"does not compile {'any more once it is patched' if broken else 'on the Python that runs this'}: {text}",
        f"{path}:{line}" if line else path,
        "This is a bug in cipipe: please report it."
        if broken
        else "Correct it. If Airflow runs a newer Python, name that one in airflow_python; "
        "if the file is none that Python reads, name it in .airflowignore.",
    )


def duplicate(name: str, places: list[str]) -> Problem:
    """The problem of a DAG id that several files have."""
    return Problem(
        "dag-id-duplicate",
        f"the DAG id {name!r} is used in several files: {', '.join(places)}",
        places[0],
        "Airflow would show one of them, now this and now that. Give each DAG its own id.",
    )


def dag_ids(tree: ast.Module) -> dict[str, int]:
    """The DAG ids that stand literally in a file, with their lines."""
    return {name: line for node in walk(tree) for name, line in _dag_id(node)}


def _dag_id(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Call) and _name(node.func) == "DAG":
        name = _argument(node)
        if isinstance(name, str):
            yield name, node.lineno
    elif isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if _name(call.func if call else decorator) == "dag":
                name = _argument(call) if call else None
                if name is None or isinstance(name, str):
                    yield name or node.name, node.lineno


def _name(node: ast.expr) -> str:
    return (
        node.id
        if isinstance(node, ast.Name)
        else node.attr
        if isinstance(node, ast.Attribute)
        else ""
    )


def _argument(call: ast.Call) -> object:
    """The id that a call gives: a string, None where it gives none, Ellipsis where it is not a
    literal.
    """
    given = [keyword.value for keyword in call.keywords if keyword.arg == "dag_id"] or call.args[:1]
    if any(keyword.arg is None for keyword in call.keywords) and not given:
        return ...
    if not given:
        return None
    return given[0].value if isinstance(given[0], ast.Constant) else ...
