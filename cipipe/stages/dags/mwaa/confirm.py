"""After the upload: what MWAA's Airflow made of our files. Reads only.

An import error in a file of ours fails the stage; one in another file is a warning. That nothing
can be found out (no permission, a private web server, too slow) is a warning as well: unconfirmed
is not failed.
"""

import ast
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks.static import dag_ids
from cipipe.stages.dags.mwaa import environment as mwaa
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError, AwsUnreachable

DAGS_FOLDER = "/usr/local/airflow/dags/"
"""Where MWAA keeps what it copies from the bucket."""


def confirm(
    context: StageContext[Settings], name: str, bodies: Mapping[str, bytes], uploaded: datetime
) -> None:
    """Wait until Airflow has read the DAG files, given by key. Raises StageError
    (`dags-import-error`).
    """
    seconds = context.stage.settings.confirm_timeout
    if not bodies or not seconds:
        return
    deadline = time.monotonic() + seconds
    since = uploaded + timedelta(seconds=context.pace.mwaa_sync)
    try:
        folder = mwaa.folder_of(mwaa.environment(context, name))
        files = {key.removeprefix(folder): key for key in bodies}
        wanted = {dag: key for key, body in bodies.items() for dag in _ids(body)}
        told: set[str] = set()
        while True:
            _refuse_broken(
                context,
                files,
                mwaa.listed(context, name, "/importErrors", "import_errors"),
                since,
                told,
            )
            parsed = {
                dag["dag_id"]
                for dag in mwaa.listed(context, name, "/dags", "dags")
                if _moment(dag) >= since
            }
            missing = sorted(wanted.keys() - parsed)
            if not missing and datetime.now(UTC) >= since:
                context.line(f"Airflow has read all {len(wanted)} DAGs of these files")
                return
            if time.monotonic() > deadline:
                which = (
                    f"{', '.join(missing[:3])} and others" if missing[3:] else ", ".join(missing)
                )
                context.line(
                    f"warning: unconfirmed: Airflow has not read {which} after {seconds} s"
                )
                return
            context.interrupt.sleep(context.pace.mwaa_poll)
    except (AwsError, AwsUnreachable) as error:
        context.line(
            f"warning: unconfirmed: Airflow cannot be asked what it made of the files: {error.message}"
        )


def _refuse_broken(
    context: StageContext[Settings],
    files: Mapping[str, str],
    errors: list[dict[str, Any]],
    since: datetime,
    told: set[str],
) -> None:
    for error in errors:
        place = str(error.get("filename", "")).removeprefix(DAGS_FOLDER)
        if place in files and _time(error.get("timestamp")) >= since:
            raise StageError(
                "dags-import-error",
                f"Airflow cannot import {files[place]}:\n{context.redactor.text(str(error.get('stack_trace', ''))).strip()}",
                hint="The files are uploaded. `cipipe dags rollback` puts the earlier ones back; or mend it and deploy.",
                where=files[place],
            )
        if place not in files and place not in told:
            told.add(place)
            last = (str(error.get("stack_trace", "")).strip().splitlines() or [""])[-1]
            context.line(
                f"warning: Airflow cannot import {place}, which is not of this deployment: {last}"
            )


def _ids(body: bytes) -> dict[str, int]:
    try:
        return dag_ids(ast.parse(body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _moment(dag: Mapping[str, Any]) -> datetime:
    return _time(dag.get("last_parsed_time") or dag.get("last_parsed"))


def _time(text: Any) -> datetime:
    """A moment as Airflow writes it; one that is missing lies long ago."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
