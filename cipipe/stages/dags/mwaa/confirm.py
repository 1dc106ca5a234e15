"""After the upload: whether MWAA's Airflow imported our files. Reads only.

An import error in a file of ours fails the stage; one in another file is a
warning. So is not being able to find out (no permission, a private web
server, too slow): unconfirmed is not failed.
"""

import ast
import time
from collections.abc import Container, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.dags.dag_ids import dag_ids
from cipipe.stages.dags.files import in_order
from cipipe.stages.dags.mwaa import environment as mwaa
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError, AwsUnreachable

# Where MWAA keeps what it copies from the bucket.
DAGS_FOLDER = "/usr/local/airflow/dags/"


def affected(bodies: Mapping[str, bytes], uploads: Container[str]) -> list[str]:
    """The DAG files to be parsed again after some uploads: all of them, if
    a helper is among those.

    Any DAG file may import any helper.
    """
    helpers, dags = in_order(bodies)
    if any(key in uploads for key in helpers):
        return dags
    return [key for key in dags if key in uploads]


def wait_until_parsed(
    context: StageContext[Settings], name: str, bodies: Mapping[str, bytes], uploaded: datetime
) -> None:
    """Wait until Airflow has parsed these DAG files, given by key.

    Raises StageError (`dags-import-error`).
    """
    seconds = context.stage.settings.confirm_timeout
    if not bodies or not seconds:
        return

    deadline = time.monotonic() + seconds
    # Until MWAA has copied the bucket again, it may parse the old files.
    since = uploaded + timedelta(seconds=context.pace.mwaa_sync)
    try:
        folder = mwaa.folder_of(mwaa.environment(context, name))
        files = {key.removeprefix(folder): key for key in bodies}
        wanted = {dag for body in bodies.values() for dag in _ids(body)}
        reported: set[str] = set()
        while True:
            errors = mwaa.listed(context, name, "/importErrors", key="import_errors")
            _warn_of_others(context, files, errors, reported=reported)
            ours = [error for error in errors if _is_ours(error, files, since)]
            if ours:
                raise _broken(context, files[_place(ours[0])], ours[0])

            parsed = _parsed(context, name, since)
            missing = sorted(wanted - parsed)
            # An error of ours may still come until then, even where all
            # DAGs are there.
            if not missing and datetime.now(UTC) >= since:
                context.line(f"Airflow has read all {len(wanted)} DAGs of these files")
                return
            if time.monotonic() > deadline:
                which = ", ".join(missing[:3]) + (" and others" if missing[3:] else "")
                context.line(
                    f"warning: unconfirmed: Airflow has not read {which} after {seconds} s"
                )
                return
            context.interrupt.sleep(context.pace.mwaa_poll)
    except (AwsError, AwsUnreachable) as error:
        context.line(
            "warning: unconfirmed: Airflow cannot be asked whether it imported the files:"
            f" {error.message}"
        )


def _parsed(context: StageContext[Settings], name: str, since: datetime) -> set[str]:
    """The ids of the DAGs that Airflow has parsed since then."""
    dags = mwaa.listed(context, name, "/dags", key="dags")
    # Which of the two names it has depends on Airflow's version.
    return {
        dag["dag_id"]
        for dag in dags
        if _time(dag.get("last_parsed_time") or dag.get("last_parsed")) >= since
    }


def _place(error: Mapping[str, Any]) -> str:
    """The file of an import error, relative to the DAGs folder."""
    return str(error.get("filename", "")).removeprefix(DAGS_FOLDER)


def _is_ours(error: Mapping[str, Any], files: Mapping[str, str], since: datetime) -> bool:
    return _place(error) in files and _time(error.get("timestamp")) >= since


def _broken(context: StageContext[Settings], key: str, error: Mapping[str, Any]) -> StageError:
    # The traceback may quote anything that the file or the environment
    # contains.
    trace = context.redactor.text(str(error.get("stack_trace", ""))).strip()
    return StageError(
        "dags-import-error",
        f"Airflow cannot import {key}:\n{trace}",
        hint="The files are uploaded. `cipipe dags rollback` restores the earlier ones;"
        " or fix it and deploy.",
        where=key,
    )


def _warn_of_others(
    context: StageContext[Settings],
    files: Mapping[str, str],
    errors: list[dict[str, Any]],
    reported: set[str],
) -> None:
    """Warn of each file of others once."""
    for error in errors:
        place = _place(error)
        if place in files or place in reported:
            continue
        reported.add(place)
        lines = str(error.get("stack_trace", "")).strip().splitlines()
        last = lines[-1] if lines else ""
        context.line(
            f"warning: Airflow cannot import {place}, which is not of this deployment: {last}"
        )


def _ids(body: bytes) -> dict[str, int]:
    try:
        return dag_ids(ast.parse(body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _time(text: Any) -> datetime:
    """A moment as Airflow writes it; one that is missing is long ago."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
