"""The MWAA environment: its folder of DAGs, the versions that it installs,
its Airflow's REST API.

An update takes half an hour and restarts Airflow, so it is requested only where a version differs.
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
from cipipe.stages.settings import literal
from cipipe.tools.aws.errors import AwsError

_BUSY = {"CREATING", "UPDATING", "ROLLING_BACK", "CREATING_SNAPSHOT", "PENDING", "MAINTENANCE"}
_ARGUMENTS = {REQUIREMENTS: "Requirements", PLUGINS: "Plugins"}
_PAGE = 100


def name_of(context: StageContext[Settings]) -> str:
    """The name of the stage's MWAA environment; empty where it has none."""
    return literal(context.stage.settings.mwaa_environment or "")


def environment(context: StageContext[Settings], name: str) -> dict[str, Any]:
    """The environment as it is. Raises AwsError."""
    return dict(context.aws.call("mwaa", "get_environment", Name=name)["Environment"])


def dag_folder(context: StageContext[Settings]) -> str | None:
    """The bucket's folder that the environment reads DAGs from, with a
    slash at the end.

    None where that is not known.
    """
    name = context.stage.settings.mwaa_environment
    if not isinstance(name, str) or not name:
        return None
    try:
        return folder_of(environment(context, name))
    except AwsError:
        # A job that only verifies may lack the permission, and before the
        # first apply there is no environment.
        return None


def placed(prefix: str, folder: str | None) -> tuple[str, list[Problem]]:
    """What a prefix adds to the folder that DAGs are read from, and a
    problem if it is outside.

    A folder that is not known is assumed to be the first part of the
    prefix.
    """
    if folder is None:
        return prefix.partition("/")[2], []
    if prefix.startswith(folder):
        return prefix.removeprefix(folder), []
    problem = Problem(
        "dags-prefix-unread",
        f"MWAA reads DAGs from {folder}, and these are uploaded to {prefix}: it will not see them",
        "prefix",
        hint=f"Set prefix to {folder}, or to a folder below it.",
    )
    return "", [problem]


def folder_of(found: Mapping[str, Any]) -> str:
    """Where an environment, as AWS describes it, reads DAGs from, with a slash at the end."""
    # MWAA documents a path without a slash, and accepts one with it.
    path = str(found.get("DagS3Path", "dags")).strip("/")
    return f"{path}/" if path else ""


def version_of(found: Mapping[str, Any], key: str) -> str | None:
    """The version of requirements or plugins that an environment, as AWS describes it, runs."""
    version: str | None = found.get(f"{_ARGUMENTS[key]}S3ObjectVersion")
    return version


def update(context: StageContext[Settings], name: str, versions: Mapping[str, str]) -> bool:
    """Have the environment run these versions of objects, by key; returns
    whether it was updated.

    Waits for an update that is running already, and for our own to finish.
    Raises StageError (`dags-mwaa-…`), AwsError.
    """
    found = _available(context, name)
    if all(version_of(found, key) == version for key, version in versions.items()):
        context.line(f"the MWAA environment {name} has these versions already")
        return False

    before = _updated_at(found)
    # Without this, MWAA kills what its workers are running.
    wanted = {"WorkerReplacementStrategy": "GRACEFUL"}
    for key, version in versions.items():
        wanted[f"{_ARGUMENTS[key]}S3Path"] = key
        wanted[f"{_ARGUMENTS[key]}S3ObjectVersion"] = version
    context.still_ours()
    context.aws.call("mwaa", "update_environment", Name=name, **wanted)
    context.line(f"the MWAA environment {name} is being updated; that takes twenty minutes or more")
    found = _updated(context, name, before)

    last = found.get("LastUpdate") or {}
    if found["Status"] != "AVAILABLE" or last.get("Status") == "FAILED":
        raise _update_failed(name, found["Status"], last.get("Error") or {})
    return True


def _available(context: StageContext[Settings], name: str) -> dict[str, Any]:
    """Wait until the environment can be updated."""
    deadline = time.monotonic() + context.pace.mwaa_update
    while (found := environment(context, name))["Status"] in _BUSY:
        _wait(context, deadline, name, status=found["Status"])
    if found["Status"] != "AVAILABLE":
        raise StageError(
            "dags-mwaa-unavailable",
            f"the MWAA environment {name} is {found['Status']}, and is updated from AVAILABLE only",
            hint="Look at the environment in the console, and fix it first. It was not changed.",
            where=name,
        )
    return found


def _updated(context: StageContext[Settings], name: str, before: datetime | None) -> dict[str, Any]:
    """Wait until an update that was requested has finished. `before`: when the last one started."""
    deadline = time.monotonic() + context.pace.mwaa_update
    while True:
        found = environment(context, name)
        last = found.get("LastUpdate") or {}
        # For some seconds after the request, AWS shows the environment as
        # it was.
        started = _updated_at(found) != before or found["Status"] != "AVAILABLE"
        finished = found["Status"] not in _BUSY and last.get("Status") != "PENDING"
        if started and finished:
            return found
        _wait(context, deadline, name, status=found["Status"])


def _wait(context: StageContext[Settings], deadline: float, name: str, status: str) -> None:
    if time.monotonic() > deadline:
        raise StageError(
            "dags-mwaa-timeout",
            f"the MWAA environment {name} is {status} for too long",
            hint="Run again when it is available: an update that was started is not requested"
            " twice.",
            where=name,
        )
    context.line(f"{name} is {status}")
    context.interrupt.sleep(context.pace.mwaa_poll)


def _update_failed(name: str, status: str, error: Mapping[str, Any]) -> StageError:
    code = error.get("ErrorCode", status)
    message = error.get("ErrorMessage", "MWAA gives no reason")
    return StageError(
        "dags-mwaa-update-failed",
        f"the update of the MWAA environment {name} failed: {code}: {message}",
        hint="MWAA goes back to the versions before. Its log group …-Scheduler, stream"
        " requirements_install, has the output of pip.",
        where=name,
    )


def _updated_at(found: Mapping[str, Any]) -> datetime | None:
    moment: datetime | None = (found.get("LastUpdate") or {}).get("CreatedAt")
    return moment


def listed(context: StageContext[Settings], name: str, path: str, key: str) -> list[dict[str, Any]]:
    """Everything that a path of Airflow's REST API lists under `key`, page
    by page.

    Raises AwsError.
    """
    found: list[dict[str, Any]] = []
    while True:
        answer = context.aws.call(
            "mwaa",
            "invoke_rest_api",
            Name=name,
            Path=path,
            Method="GET",
            QueryParameters={"limit": _PAGE, "offset": len(found)},
        )
        response = answer.get("RestApiResponse") or {}
        status = answer.get("RestApiStatusCode", 200)
        if status >= 300 or key not in response:
            message = f"Airflow answers {status}"
            raise AwsError("mwaa:InvokeRestApi", message, str(response)[:200], status=status)

        found += response[key]
        if len(response[key]) < _PAGE or len(found) >= response.get("total_entries", 0):
            return found
