"""What is checked from the files alone, before anything is uploaded.

That they compile, that no two DAGs share an id, that the declared Airflow
has what they import, and what they do each time that they are parsed.
"""

import ast
import contextlib
import gc
import warnings
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping

import msgspec

from cipipe.errors import Problem, ProblemsError, RefusedError
from cipipe.stages.dags.checks import airflow3, parse_time
from cipipe.stages.dags.dag_ids import dag_ids
from cipipe.stages.dags.files import is_dag
from cipipe.stages.dags.markers.limits import LARGEST, too_large


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the files are checked against."""

    # The stage's source folder, for messages.
    source: str
    # Whether there may be no DAG at all.
    allow_empty: bool = False
    # The Airflow that MWAA runs, if the settings say so.
    airflow_version: str | None = None
    # Files that `.airflowignore` names: they need not be valid, and have no
    # DAGs.
    ignored: Container[str] = frozenset()
    # Another Python, that of Airflow, imports the files too: if they do not
    # compile on this one, that is only a warning.
    compiled_elsewhere: bool = False


def check(sources: Mapping[str, bytes], bodies: Mapping[str, bytes], rules: Rules) -> list[Problem]:
    """Check patched files (`bodies`) and what they were made from
    (`sources`); returns warnings.

    Raises RefusedError (`dags-empty`) and ProblemsError
    (`dags-check-failed`).
    """
    if not rules.allow_empty:
        _refuse_empty(bodies, rules)

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
            # Where the source compiles, it is patching that broke it.
            broken = _compiled(sources[path], path)[0] is not None
            tolerated = not broken and (rules.compiled_elsewhere or path in rules.ignored)
            (notes if tolerated else wrong).append(_not_compiling(error, path, broken=broken))
        elif tree is not None and path not in rules.ignored:
            for name, line in sorted(dag_ids(tree).items()):
                ids[name].append(f"{path}:{line}")
            notes += parse_time.findings(tree, path)
            if airflow3.applies(rules.airflow_version):
                wrong += airflow3.findings(tree, path)

    wrong += [duplicate(name, places) for name, places in sorted(ids.items()) if len(places) > 1]
    if wrong:
        raise failed(wrong)
    return notes


def failed(problems: list[Problem]) -> ProblemsError:
    """The error of files that must not be deployed."""
    message = "the DAG files cannot be deployed as they are"
    return ProblemsError("dags-check-failed", message, tuple(problems))


def duplicate(name: str, places: list[str]) -> Problem:
    """The problem of a DAG id that several files have."""
    return Problem(
        "dag-id-duplicate",
        f"the DAG id {name!r} is used in several files: {', '.join(places)}",
        places[0],
        hint="Airflow would show one of them, sometimes this and sometimes that."
        " Give each DAG its own id.",
    )


def _refuse_empty(bodies: Mapping[str, bytes], rules: Rules) -> None:
    for path, body in bodies.items():
        if is_dag(path, body) and path not in rules.ignored:
            return
    raise RefusedError(
        "dags-empty",
        f"{rules.source} has no DAG file:"
        " deploying it would remove every DAG of this stage from Airflow",
        hint="A DAG file has the words `dag` and `airflow` in it. If there really is to be none, "
        "set allow_empty = true, or pass --allow-empty to `cipipe dags deploy`.",
        where=rules.source,
    )


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
    """Without garbage collection: it takes two thirds of the time to parse
    a large file, for nothing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _not_compiling(error: Exception, path: str, *, broken: bool) -> Problem:
    """`broken`: the source does compile."""
    line = getattr(error, "lineno", None)
    text = getattr(error, "msg", None) or str(error) or type(error).__name__
    when = "on the Python that runs this"
    hint = (
        "Correct it. If Airflow runs a newer Python, name that one in airflow_python; "
        "if the file is not for Python, name it in .airflowignore."
    )
    if broken:
        when = "any more once it is patched"
        hint = "This is a bug in cipipe: please report it."
    return Problem(
        "dag-not-compiling",
        f"does not compile {when}: {text}",
        f"{path}:{line}" if line else path,
        hint=hint,
    )
