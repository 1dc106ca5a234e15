"""Import every DAG file with a real Airflow, before anything is uploaded.

In a process of its own, without AWS credentials: what is imported is code
of the commit.
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

from cipipe.errors import Problem, StageError
from cipipe.patterns import Patterns
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks.static import duplicate, failed
from cipipe.stages.dags.checks.unfinished import required, unfinished
from cipipe.stages.dags.files import relative
from cipipe.stages.dags.mwaa.extras import PLUGINS, REQUIREMENTS, unpack
from cipipe.stages.dags.settings import Settings
from cipipe.tools import process

_PROBE = Path(__file__).with_name("airflow_probe.py")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "SSL_CERT_FILE")

# Lines of a traceback that are shown.
_TAIL = 12

# The start of what faulthandler prints before it ends the process.
_TIMEOUT = "Timeout ("


class FileImport(msgspec.Struct):
    """What came of importing one file."""

    dags: list[str] = []
    errors: list[str] = []
    # It took too long, and was stopped.
    timed_out: bool = False
    # How it ended the whole process, such as `exited with status 1`; empty
    # if it did not.
    death: str = ""


def check(
    context: StageContext[Settings],
    bodies: Mapping[str, bytes],
    below_folder: str = "",
    *,
    extras: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Problem]:
    """Import the DAG files, if there is an Airflow; returns warnings.

    `below_folder` is what the prefix adds to the folder that Airflow reads,
    which is in the path for imports. The plugins among `extras` are put
    where Airflow looks for them. Raises ProblemsError, StageError.
    """
    settings = context.stage.settings
    python = python_of(context)
    if python is None:
        return [_nothing_imported(context)]

    folder = context.scratch / "airflow" / "dags"
    names = {path: relative(path, settings.source) or path for path in bodies}
    files = {str(folder / below_folder / name): path for path, name in names.items()}
    _write(files, bodies)
    if PLUGINS in extras:
        unpack(extras[PLUGINS], folder.parent / "plugins")
    version, found = _import_all(context, python, folder)
    context.line(f"{len(found)} files read by Airflow {version}")

    requirements = required(extras.get(REQUIREMENTS, b""))
    dynamic = Patterns(settings.dynamic)
    wrong: list[Problem] = []
    notes: list[Problem] = []
    ids: dict[str, list[str]] = defaultdict(list)
    for file, imported in found.items():
        path = files[file]
        for problem in _problems(
            imported, path, settings.import_timeout, folder=folder, requirements=requirements
        ):
            (notes if problem.id == "dag-import-unfinished" else wrong).append(problem)
        for name in imported.dags:
            ids[name].append(path)
        # Neither DAGs nor errors.
        if imported == FileImport() and not dynamic.matches(names[path].encode()):
            notes.append(_without_dag(path))

    wrong += [duplicate(name, places) for name, places in sorted(ids.items()) if len(places) > 1]
    if wrong:
        raise failed(wrong)
    return notes + _other_version(version, settings.airflow_version)


def python_of(context: StageContext[Settings]) -> str | None:
    """The Python that has Airflow: that of the settings, else this one if it has; else None."""
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
        hint="Install Airflow there before this command,"
        " or remove airflow_python from the configuration.",
        where=f"stages.{context.stage.name}.airflow_python",
    )


def _write(files: Mapping[str, str], bodies: Mapping[str, bytes]) -> None:
    for file, path in files.items():
        target = Path(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bodies[path])


def _import_all(
    context: StageContext[Settings], python: str, folder: Path
) -> tuple[str, dict[str, FileImport]]:
    """Airflow's version, and what came of each file.

    A file that ends the process costs another start of it, without the
    files that are done.
    """
    found: dict[str, FileImport] = {}
    while True:
        status, output, answers = _run_probe(context, python, folder, known=found)
        started = [entry["file"] for entry in answers if "started" in entry]
        done = any("done" in entry for entry in answers)
        if not done and not started:
            raise process.ProcessFailed(status, context.redactor, quoted=status.stdout)

        # Of all that were started, only the last one can have ended the
        # process: for the others, the answer follows.
        timed_out = any(line.startswith(_TIMEOUT) for line in output)
        death = "" if timed_out else process.ending(status.returncode)
        for file in started:
            found[file] = FileImport(timed_out=timed_out, death=death)
        for entry in answers:
            if "dags" in entry:
                found[entry["file"]] = FileImport(dags=entry["dags"], errors=entry["errors"])
        if done:
            return str(answers[0]["airflow"]), found


def _run_probe(
    context: StageContext[Settings], python: str, folder: Path, known: Mapping[str, FileImport]
) -> tuple[process.Completed, list[str], list[dict[str, Any]]]:
    """One run of the probe: how it ended, what Airflow logged, and the answers."""
    answers = context.scratch / "airflow.jsonl"
    answers.unlink(missing_ok=True)
    seconds = context.stage.settings.import_timeout
    output: list[str] = []
    status = process.stream(
        [python, str(_PROBE), str(folder), str(answers), str(seconds), *known],
        env=_environment(context, folder),
        line=output.append,
        cwd=context.scratch,
        accept=range(-64, 256),
        watch=process.Watch(redactor=context.redactor, interrupt=context.interrupt),
    )
    lines = answers.read_text().splitlines() if answers.exists() else []
    return status, output, [json.loads(line) for line in lines]


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
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(settings.import_timeout),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        # On a runner in EC2, its instance's role would be used otherwise.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": context.environment.region,
        "AWS_REGION": context.environment.region,
        # DAG files may ask where they run: this is what MWAA's scheduler
        # has.
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
        f"no DAG file was imported, because {why}:"
        " Airflow may find errors that were not checked for",
        f"stages.{context.stage.name}.airflow_python",
        hint="Install the Airflow that MWAA runs into a virtual environment,"
        " and name its Python in airflow_python.",
    )


def _problems(
    imported: FileImport, path: str, seconds: int, folder: Path, requirements: Sequence[str]
) -> list[Problem]:
    if imported.timed_out:
        return [_timeout(path, seconds)]
    if imported.death:
        return [_died(path, imported.death)]
    return [_error(text, path, folder, requirements=requirements) for text in imported.errors]


def _timeout(path: str, seconds: int) -> Problem:
    return Problem(
        "dag-import-timeout",
        f"reading it takes more than {seconds} s",
        path,
        hint="Move what takes long into tasks. If that is not possible, raise import_timeout,"
        " and Airflow's own limit.",
    )


def _died(path: str, death: str) -> Problem:
    return Problem(
        "dag-import-failed",
        f"the process that reads it {death}",
        path,
        hint="Is there a call of sys.exit, or a library that crashes?"
        " Airflow's own process would end as well.",
    )


def _error(text: str, path: str, folder: Path, requirements: Sequence[str]) -> Problem:
    missing = unfinished(text, requirements)
    if missing is not None:
        message = f"its import was not finished, because {missing.why}"
        return Problem("dag-import-unfinished", message, path, hint=missing.hint)

    # Paths as in the repository, and not those of a scratch folder.
    lines = text.replace(f"{folder}/", "").strip().splitlines()
    return Problem(
        "dag-import-failed",
        "\n".join(["Airflow cannot import it:", *lines[-_TAIL:]]),
        path,
        hint="This is what Airflow would show as a broken DAG."
        " The file is as it would be uploaded, outputs put in.",
    )


def _without_dag(path: str) -> Problem:
    return Problem(
        "dag-file-without-dag",
        "Airflow looks for DAGs in it and finds none",
        path,
        hint="If that is right (a helper, or DAGs made from what is not here),"
        " name it under `dynamic`, or in .airflowignore.",
    )


def _other_version(version: str, wanted: str | None) -> list[Problem]:
    """A warning if the files were read by another Airflow than the declared one."""
    if not wanted or version.split(".")[:2] == wanted.split(".")[:2]:
        return []
    message = f"the files were read by Airflow {version}, and are for {wanted}"
    return [Problem("dags-airflow-other", message, "airflow_python")]
