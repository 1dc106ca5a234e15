"""Every DAG file read by a real Airflow before anything is uploaded: in a process of its own,
without AWS credentials.
"""

import importlib.util
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from cipipe.errors import Problem, ProblemsError, StageError
from cipipe.patterns import Patterns
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks.static import duplicate
from cipipe.stages.dags.checks.unfinished import required, unfinished
from cipipe.stages.dags.files import relative
from cipipe.stages.dags.mwaa.extras import PLUGINS, REQUIREMENTS, unpacked
from cipipe.stages.dags.settings import Settings
from cipipe.tools import process

_PROBE = Path(__file__).with_name("airflow_probe.py")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "SSL_CERT_FILE")
_TAIL = 12
_TIMEOUT = "Timeout ("  # how faulthandler begins, before it ends the process


class Read(msgspec.Struct):
    """What came of one file. `over`: it was ended, because it took too long. `death`: how it ended
    the process itself.
    """

    dags: list[str] = []
    errors: list[str] = []
    over: bool = False
    death: str = ""


def check(
    context: StageContext[Settings],
    bodies: Mapping[str, bytes],
    below_folder: str = "",
    *,
    extras: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Problem]:
    """Import the DAG files, where there is an Airflow; give warnings. Raises ProblemsError,
    StageError.

    The plugins among `extras` are put where Airflow looks for them. `below_folder` is what the
    prefix has below the folder that Airflow reads: that one is its path for imports.
    """
    settings = context.stage.settings
    python = python_of(context)
    if python is None:
        return [_nothing_imported(context)]
    names = {path: relative(path, settings.source) or path for path in bodies}
    home = context.scratch / "airflow"
    folder = home / "dags"
    if PLUGINS in extras:
        unpacked(extras[PLUGINS], home / "plugins")
    below = folder / below_folder
    for path, body in bodies.items():
        target = below / names[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    version, found = _read(context, python, folder)
    context.line(f"{len(found)} files read by Airflow {version}")
    files = {str(below / name): path for path, name in names.items()}
    requirements = required(extras.get(REQUIREMENTS, b""))
    wrong: list[Problem] = []
    notes: list[Problem] = []
    ids: dict[str, list[str]] = defaultdict(list)
    dynamic = Patterns(settings.dynamic)
    for file, read in found.items():
        path = files[file]
        for problem in _problems(read, path, settings.import_timeout, folder, requirements):
            (notes if problem.id == "dag-import-unfinished" else wrong).append(problem)
        for name in read.dags:
            ids[name].append(path)
        if read == Read() and not dynamic.matches(names[path].encode()):
            notes.append(_without(path))
    wrong += [duplicate(name, places) for name, places in sorted(ids.items()) if len(places) > 1]
    if wrong:
        raise ProblemsError(
            "dags-check-failed", "the DAG files cannot be deployed as they are", tuple(wrong)
        )
    if (
        settings.airflow_version
        and version.split(".")[:2] != settings.airflow_version.split(".")[:2]
    ):
        message = (
            f"the files were read by Airflow {version}, and are for {settings.airflow_version}"
        )
        notes.append(Problem("dags-airflow-other", message, "airflow_python"))
    return notes


def python_of(context: StageContext[Settings]) -> str | None:
    """The Python that has Airflow: the one that the settings name, else this one; None where there
    is none.
    """
    wanted = context.stage.settings.airflow_python
    if wanted is None:
        return sys.executable if importlib.util.find_spec("airflow") else None
    python = context.repository.root / wanted
    if python.exists():
        return str(python)
    if context.sandbox:
        return None
    raise StageError(
        "dags-airflow-missing",
        f"there is no {wanted}, which is to read the DAG files",
        hint="Install Airflow there before this command, or take airflow_python out of the configuration.",
        where=f"stages.{context.stage.name}.airflow_python",
    )


def _read(
    context: StageContext[Settings], python: str, folder: Path
) -> tuple[str, dict[str, Read]]:
    """Airflow's version, and what came of each file; a file that ends the process costs another
    start of it.
    """
    answers = context.scratch / "airflow.jsonl"
    seconds = context.stage.settings.import_timeout
    found: dict[str, Read] = {}
    while True:
        answers.unlink(missing_ok=True)
        argv = [python, str(_PROBE), str(folder), str(answers), str(seconds), *found]
        said: list[str] = []
        ended = process.stream(
            argv,
            env=_environment(context, folder),
            line=said.append,  # what Airflow logs meanwhile
            cwd=context.scratch,
            redactor=context.redactor,
            accept=range(-64, 256),
            interrupt=context.interrupt,
        )
        told: list[dict[str, Any]] = []
        if answers.exists():
            told = [json.loads(line) for line in answers.read_text().splitlines()]
        begun = [entry["file"] for entry in told if "begun" in entry]
        done = any("done" in entry for entry in told)
        if not done and not begun:
            raise process.ProcessFailed(ended, context.redactor, quoted=ended.stdout)
        over = any(line.startswith(_TIMEOUT) for line in said)
        found |= {
            file: Read(over=over, death="" if over else process.ending(ended.returncode))
            for file in begun
        }
        for entry in told:
            if "dags" in entry:
                found[entry["file"]] = Read(entry["dags"], entry["errors"])
        if done:
            return str(told[0]["airflow"]), found


def _environment(context: StageContext[Settings], folder: Path) -> dict[str, str]:
    """Nothing of the job but where programs are: what is imported is code of the commit."""
    home = context.scratch / "airflow"
    home.mkdir(exist_ok=True)
    settings = context.stage.settings
    variables = {
        f"AIRFLOW_VAR_{name.upper()}": value for name, value in settings.check_variables.items()
    }
    return {
        **{name: context.child_env[name] for name in _PASSED_ON if name in context.child_env},
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(context.stage.settings.import_timeout),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AWS_DEFAULT_REGION": context.environment.region,
        "AWS_REGION": context.environment.region,
        "MWAA_AIRFLOW_COMPONENT": "scheduler",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
        **settings.check_env,
    }


def _nothing_imported(context: StageContext[Settings]) -> Problem:
    wanted = context.stage.settings.airflow_python
    why = f"{wanted} is not here" if wanted else "there is no Airflow beside cipipe"
    return Problem(
        "dags-not-imported",
        f"no DAG file was imported, because {why}: Airflow may find errors that were not checked for",
        f"stages.{context.stage.name}.airflow_python",
        "Install the Airflow that MWAA runs into a virtual environment, and name its Python in airflow_python.",
    )


def _problems(
    read: Read, path: str, seconds: int, folder: Path, requirements: Sequence[str]
) -> list[Problem]:
    if read.over:
        return [
            Problem(
                "dag-import-timeout",
                f"reading it takes more than {seconds} s",
                path,
                "Move what takes long into tasks. If it has to be so, raise import_timeout, and Airflow's own limit.",
            )
        ]
    if read.death:
        return [
            Problem(
                "dag-import-failed",
                f"the process that reads it {read.death}",
                path,
                "Is there a call of sys.exit, or a library that crashes? Airflow's own process would end as well.",
            )
        ]
    return [_error(text, path, folder, requirements) for text in read.errors]


def _error(text: str, path: str, folder: Path, requirements: Sequence[str]) -> Problem:
    lacking = unfinished(text, requirements)
    if lacking is not None:
        return Problem(
            "dag-import-unfinished",
            f"its import was not finished, because {lacking.why}",
            path,
            lacking.hint,
        )
    return Problem(
        "dag-import-failed",
        "Airflow cannot import it:\n" + _tail(text, folder),
        path,
        "This is what Airflow would show as a broken DAG. The file is as it would be uploaded, outputs put in.",
    )


def _tail(text: str, folder: Path) -> str:
    return "\n".join(text.replace(f"{folder}/", "").strip().splitlines()[-_TAIL:])


def _without(path: str) -> Problem:
    return Problem(
        "dag-file-without-dag",
        "Airflow looks for DAGs in it and finds none",
        path,
        "If that is right (a helper, or DAGs made from what is not here), name it under `dynamic`, or in .airflowignore.",
    )
