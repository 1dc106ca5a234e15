"""Which files of the source folder are uploaded, in which order, and which are DAG files."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from cipipe.errors import Problem
from cipipe.patterns import Patterns
from cipipe.tools.git.client import Entry

_LEFT_OUT = {"test", "tests", "__pycache__"}
_COMPILED = (".pyc", ".pyo")


def counts(path: str, include: Patterns | None = None) -> bool:
    """Whether a file is uploaded; `path` is relative to the source.

    Caches, tests and hidden files are not; tests are what pytest collects
    by name. What `include` matches is uploaded, whatever it is.
    """
    if include is not None and include.matches(path.encode(errors="surrogateescape")):
        return True
    *folders, name = path.split("/")
    if any(folder.startswith(".") or folder in _LEFT_OUT for folder in folders):
        return False
    if name == "conftest.py" or fnmatchcase(name, "test_*.py") or fnmatchcase(name, "*_test.py"):
        return False
    # Airflow reads `.airflowignore` next to the DAGs.
    return (not name.startswith(".") or name == ".airflowignore") and not name.endswith(_COMPILED)


def is_dag(path: str, body: bytes) -> bool:
    """Whether Airflow looks for DAGs in the file: in "safe mode", if `dag`
    and `airflow` are in it.

    Source: `airflow.utils.file.might_contain_dag_via_default_heuristic`.
    """
    if not path.endswith(".py"):
        return False
    content = body.lower()
    return b"dag" in content and b"airflow" in content


def in_order(bodies: Mapping[str, bytes]) -> tuple[list[str], list[str]]:
    """The paths in two groups, each sorted: helpers, which are uploaded
    first, then DAG files.

    So a new DAG never meets an old helper.
    """
    dags = sorted(path for path, body in bodies.items() if is_dag(path, body))
    return sorted(set(bodies).difference(dags)), dags


def relative(path: str, source: str) -> str | None:
    """The path below the source folder; None where it is not below it."""
    folder = "" if source in {"", "."} else source.strip("/") + "/"
    return path.removeprefix(folder) if path.startswith(folder) else None


def included(patterns: Iterable[str]) -> Patterns | None:
    """The setting `include`, as patterns."""
    return Patterns(patterns) if patterns else None


def left_out(entries: Iterable[Entry], source: str, include: Patterns | None = None) -> list[str]:
    """The files below the source that are not uploaded, by repository path."""
    found = []
    for entry in entries:
        path = entry.path.decode(errors="backslashreplace")
        below = relative(path, source)
        if below is not None and not counts(below, include):
            found.append(path)
    return found


def select(
    entries: Iterable[Entry], source: str, include: Patterns | None = None
) -> tuple[dict[str, Entry], list[Problem]]:
    """The files of a git tree that are uploaded, by repository path, and those that cannot be."""
    selected: dict[str, Entry] = {}
    wrong: list[Problem] = []
    for entry in entries:
        path = entry.path.decode(errors="backslashreplace")
        below = relative(path, source)
        if below is None or not counts(below, include):
            continue
        if not entry.is_blob:
            wrong.append(irregular(path))
        elif path.encode() != entry.path:
            wrong.append(not_utf8(entry.path))
        else:
            selected[path] = entry
    return selected, wrong


def irregular(path: str) -> Problem:
    return Problem(
        "dag-file-not-regular",
        "is a symbolic link or a submodule: S3 has neither",
        path,
        hint="Put the file itself there, or move the link out of the source folder.",
    )


def not_utf8(path: bytes) -> Problem:
    return Problem(
        "dag-file-name",
        "the name is not valid UTF-8, which keys in S3 have to be",
        path.decode(errors="backslashreplace"),
        hint="Rename the file.",
    )


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
