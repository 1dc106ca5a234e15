"""`cipipe dags check`: check a folder of DAG files on disk, without AWS, git or settings."""

import os
from pathlib import Path

import msgspec

from cipipe.errors import Problem
from cipipe.stages.dags.checks import airflowignore, static
from cipipe.stages.dags.local import read_source
from cipipe.stages.dags.markers.patch import patch_all
from cipipe.stages.dags.render import UNKNOWN_YET


class CheckedFolder(msgspec.Struct, frozen=True):
    # How many files.
    files: int
    warnings: tuple[Problem, ...]


def check_folder(source: Path, *, airflow_version: str | None = None) -> CheckedFolder:
    """Check markers and DAGs as a deployment would, as far as that needs no
    outputs.

    Raises UsageError, ProblemsError, RefusedError.
    """
    sources = read_source(source)
    modules = {path: body for path, body in sources.items() if path.endswith(".py")}
    patched = patch_all(modules, {}, tolerate=UNKNOWN_YET)
    relative = {os.path.relpath(path, source): path for path in sources}
    ignored = airflowignore.ignored(
        {name: sources[path] for name, path in relative.items()}, version=airflow_version, env={}
    )
    rules = static.Rules(
        source=str(source),
        airflow_version=airflow_version,
        ignored=frozenset(relative[name] for name in ignored.paths),
    )
    notes = [note for file in patched.values() for note in file.warnings]
    wrong_patterns = [
        msgspec.structs.replace(problem, where=relative[problem.where])
        for problem in ignored.problems
    ]
    return CheckedFolder(
        files=len(sources),
        warnings=(
            # Nobody knows the outputs here.
            *(note for note in notes if note.id not in UNKNOWN_YET),
            *wrong_patterns,
            *static.check(sources, sources, rules),
        ),
    )
