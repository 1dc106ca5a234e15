"""`.airflowignore`: which files Airflow does not treat as DAG files.

Regular expressions in Airflow 2, globs in Airflow 3. As `find_path_from_directory` of
`airflow.utils.file` reads them: a file in a folder adds to those above it, for everything below
that folder, and whatever is in an ignored folder is ignored.
https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/dags.html#airflowignore
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.stages.dags.checks import ignore_expressions, ignore_globs

NAME = ".airflowignore"
SYNTAX = "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"

_FIRST_WITH_GLOBS = 3
_COMMENT = re.compile(r"\s*#.*")


class Ignored(NamedTuple):
    """The files that are ignored, and what is wrong with the rules."""

    paths: frozenset[str]
    problems: tuple[Problem, ...] = ()


def ignored(
    bodies: Mapping[str, bytes], *, version: str | None, env: Mapping[str, str], root: str = ""
) -> Ignored:
    """Which of the files are ignored. Paths are relative to the source.

    `root` is where the source is in the DAGs folder, with a slash at the
    end. Without a version, the files are globs if one of them has a line
    that is no regular expression.
    """
    files = {
        path: _lines(body) for path, body in bodies.items() if posixpath.basename(path) == NAME
    }
    if not any(files.values()):
        return Ignored(frozenset())

    names = [path for path in bodies if path not in files]
    rules = {path.removesuffix(NAME): lines for path, lines in files.items()}
    if _are_globs(version, env, [line for lines in files.values() for line in lines]):
        paths, wrong = ignore_globs.matching(rules, names)
    else:
        linear = ignore_expressions.uses_re2(version)
        paths, wrong = ignore_expressions.matching(rules, names, root, linear=linear)
    return Ignored(
        frozenset(paths), tuple(_problem(folder + NAME, message) for folder, message in wrong)
    )


def _lines(body: bytes) -> list[str]:
    """The lines that are rules, without comments."""
    text = body.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return [line for raw in text.split("\n") if (line := _COMMENT.sub("", raw))]


def _are_globs(version: str | None, env: Mapping[str, str], lines: Iterable[str]) -> bool:
    if SYNTAX in env:
        return env[SYNTAX].strip().lower() == "glob"
    if version is not None:
        return int(version.partition(".")[0]) >= _FIRST_WITH_GLOBS
    return any(line.startswith("!") or ignore_expressions.compiled(line) is None for line in lines)


def _problem(file: str, message: str) -> Problem:
    return Problem(
        "dag-ignore-rule",
        message,
        file,
        hint="Write a simpler expression; Airflow 3 reads globs by default.",
    )
