"""The MWAA environment: which versions of requirements and plugins it runs, and what its Airflow
says of our files.

An update takes half an hour and restarts Airflow, so it is asked for only where a version differs.
https://docs.aws.amazon.com/mwaa/latest/userguide/working-dags-dependencies.html
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cipipe.errors import Problem, StageError
from cipipe.stages.context import StageContext
from cipipe.stages.dags.mwaa.extras import PLUGINS, REQUIREMENTS
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError

_BUSY = {"CREATING", "UPDATING", "ROLLING_BACK", "CREATING_SNAPSHOT", "PENDING", "MAINTENANCE"}
_ARGUMENTS = {REQUIREMENTS: "Requirements", PLUGINS: "Plugins"}
_PAGE = 100


def environment(context: StageContext[Settings], name: str) -> dict[str, Any]:
    """The environment as it is. Raises AwsError."""
    return dict(context.aws.call("mwaa", "get_environment", Name=name)["Environment"])


def dag_folder(context: StageContext[Settings]) -> str | None:
    """The folder of the bucket that the environment reads DAGs from, with a slash; None where it
    cannot be asked.
    """
    name = context.stage.settings.mwaa_environment
    if not isinstance(name, str) or not name:
        return None
    try:
        return folder_of(environment(context, name))
    except AwsError:  # a job that only verifies may not be allowed to look, and before the first apply there is none
        return None


def placed(prefix: str, folder: str | None) -> tuple[str, list[Problem]]:
    """What of a prefix is below the folder that DAGs are read from, and what is wrong where it is
    not below it.

    Where the folder is not known, it is taken for the top one.
    """
    if folder is None:
        return prefix.partition("/")[2], []
    if prefix.startswith(folder):
        return prefix.removeprefix(folder), []
    message = (
        f"MWAA reads DAGs from {folder}, and these are uploaded to {prefix}: it will not see them"
    )
    return "", [
        Problem(
            "dags-prefix-unread",
            message,
            "prefix",
            f"Set prefix to {folder}, or to a folder below it.",
        )
    ]


def folder_of(found: Mapping[str, Any]) -> str:
    """Where an environment, as it was given, reads DAGs from. MWAA wants a slash at the end, and
    takes it without.
    """
    path = str(found.get("DagS3Path", "dags")).strip("/")
    return f"{path}/" if path else ""


def update(context: StageContext[Settings], name: str, versions: Mapping[str, str]) -> bool:
    """Have the environment run these versions of objects, by key; gives whether it had to be
    updated.

    Waits for what another update is at, and to the end of our own. Raises StageError
    (`dags-mwaa-…`), AwsError.
    """
    found = _available(context, name)
    if all(
        found.get(f"{_ARGUMENTS[key]}S3ObjectVersion") == version
        for key, version in versions.items()
    ):
        context.line(f"the MWAA environment {name} has these versions already")
        return False
    before = _updated_at(found)
    wanted: dict[str, str] = {}
    for key, version in versions.items():
        wanted |= {f"{_ARGUMENTS[key]}S3Path": key, f"{_ARGUMENTS[key]}S3ObjectVersion": version}
    context.still_ours()
    context.aws.call("mwaa", "update_environment", Name=name, **wanted)
    context.line(f"the MWAA environment {name} is being updated; that takes twenty minutes or more")
    deadline = time.monotonic() + context.pace.mwaa_update
    while True:
        found = environment(context, name)
        last = found.get("LastUpdate") or {}
        begun = _updated_at(found) != before or found["Status"] != "AVAILABLE"
        ended = found["Status"] not in _BUSY and last.get("Status") != "PENDING"
        if begun and ended:
            break
        _wait(context, deadline, name, found["Status"])
    if found["Status"] != "AVAILABLE" or last.get("Status") == "FAILED":
        error = last.get("Error") or {}
        raise StageError(
            "dags-mwaa-update-failed",
            f"the update of the MWAA environment {name} failed: "
            f"{error.get('ErrorCode', found['Status'])}: {error.get('ErrorMessage', 'MWAA gives no reason')}",
            hint="MWAA goes back to the versions before. Its log group …-Scheduler, stream requirements_install, says what pip said.",
            where=name,
        )
    return True


def _available(context: StageContext[Settings], name: str) -> dict[str, Any]:
    deadline = time.monotonic() + context.pace.mwaa_update
    while (found := environment(context, name))["Status"] in _BUSY:
        _wait(context, deadline, name, found["Status"])
    if found["Status"] != "AVAILABLE":
        raise StageError(
            "dags-mwaa-unavailable",
            f"the MWAA environment {name} is {found['Status']}, and is updated from AVAILABLE only",
            hint="Look at the environment in the console, and mend it first. Nothing of it was changed.",
            where=name,
        )
    return found


def _wait(context: StageContext[Settings], deadline: float, name: str, status: str) -> None:
    if time.monotonic() > deadline:
        raise StageError(
            "dags-mwaa-timeout",
            f"the MWAA environment {name} is {status} for too long",
            hint="Run again when it is available: what was begun is not asked for twice.",
            where=name,
        )
    context.line(f"{name} is {status}")
    context.interrupt.sleep(context.pace.mwaa_poll)


def _updated_at(found: Mapping[str, Any]) -> datetime | None:
    moment: datetime | None = (found.get("LastUpdate") or {}).get("CreatedAt")
    return moment


def listed(context: StageContext[Settings], name: str, path: str, key: str) -> list[dict[str, Any]]:
    """Everything that a path of Airflow's REST API lists under `key`. Raises AwsError."""
    found: list[dict[str, Any]] = []
    while True:
        query = {"limit": _PAGE, "offset": len(found)}
        answer = context.aws.call(
            "mwaa", "invoke_rest_api", Name=name, Path=path, Method="GET", QueryParameters=query
        )
        response = answer.get("RestApiResponse") or {}
        status = answer.get("RestApiStatusCode", 200)
        if status >= 300 or key not in response:
            raise AwsError(
                "mwaa:InvokeRestApi", f"Airflow answers {status}", str(response)[:200], status
            )
        found += response[key]
        if len(response[key]) < _PAGE or len(found) >= response.get("total_entries", 0):
            return found
