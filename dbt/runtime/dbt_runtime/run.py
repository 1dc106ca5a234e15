"""One run of the container: credentials, steps, artifacts, exit code."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from dbt_runtime import artifacts as dbt_artifacts
from dbt_runtime.artifacts import Artifacts
from dbt_runtime.credentials import CredentialsError, credentials, secrets_in
from dbt_runtime.log import Log
from dbt_runtime.process import Processes, Stopped
from dbt_runtime.settings import Settings, SettingsError, settings

# As dbt exits for a problem that is not in the data.
_UNUSABLE = 2

# Artifacts are lost, and dbt itself succeeded.
_NOT_UPLOADED = 74

# Step → the step without which it makes no sense.
_NEEDS = {
    "debug": "deps",
    "seed": "debug",
    "snapshot": "debug",
    "run": "debug",
    "build": "debug",
    "source": "debug",
    "docs": "debug",
    "test": "run",
}

Client = Callable[[str], Any]


def run(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    project: Path | None = None,
    log: Log | None = None,
    client: Client | None = None,
) -> int:
    """Run one command, or the whole sequence without arguments. Returns the exit code."""
    log = log or Log()
    log.hide(secrets_in(env))
    try:
        chosen = settings(env, project or Path.cwd())
        processes = Processes(log, chosen.grace)
        processes.install()
        found = credentials(chosen, env, client or _client)
    except (CredentialsError, SettingsError) as error:
        log.event("error", message=str(error))
        return _UNUSABLE
    log.hide(secrets_in(found))

    container = _Run(chosen, {**env, **found}, log=log, processes=processes)
    started = time.monotonic()
    log.event("start", target=env.get("DBT_TARGET", "duckdb"), credentials=sorted(found))
    code = container.step(tuple(arguments)) if arguments else container.sequence()
    if processes.stopped_by:
        code = 128 + processes.stopped_by

    uploaded = container.upload(client or _client)
    if not uploaded and code == 0:
        code = _NOT_UPLOADED
    log.event("end", exit_code=code, seconds=round(time.monotonic() - started, 1))
    return code


class _Run:
    def __init__(
        self, chosen: Settings, env: Mapping[str, str], *, log: Log, processes: Processes
    ) -> None:
        self._settings = chosen
        self._env = env
        self._log = log
        self._processes = processes
        self._artifacts = Artifacts(chosen.target, chosen.logs)

    def sequence(self) -> int:
        """All steps in order. Returns the exit code of the first one that failed."""
        first = 0
        failed: set[str] = set()
        for words in self._settings.steps:
            name = words[0]
            reason = self._reason_to_skip(name, failed)
            if reason:
                self._log.event("step", step=" ".join(words), status="skipped", reason=reason)
                if _NEEDS.get(name) in failed:
                    failed.add(name)
                continue
            code = self.step(("dbt", *words))
            if code:
                failed.add(name)
                first = first or code
        return first

    def step(self, argv: tuple[str, ...]) -> int:
        """Run one command, and report it in one line. Returns its exit code."""
        words = argv[1:] if argv[0] == "dbt" else argv
        title = " ".join(words)
        started = time.monotonic()
        try:
            code = self._processes.run(argv, self._env, self._settings.project)
        except Stopped as stopped:
            self._log.event("step", step=title, status="skipped", reason=f"{stopped}")
            return 128 + stopped.number

        seconds = round(time.monotonic() - started, 1)
        status = "ok" if code == 0 else "failed"
        fields: dict[str, Any] = {"status": status, "exit_code": code, "seconds": seconds}
        if argv[0] == "dbt" and words:
            fields["results"] = self._artifacts.keep_results(words[0])
        self._log.event("step", step=title, **fields)
        return code

    def upload(self, client: Client) -> bool:
        """Copy the artifacts to S3, if that is set up. Returns whether all arrived."""
        folder = self._settings.artifacts
        if folder is None:
            return True
        run_id = self._settings.run_id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        files = self._artifacts.files()
        done = dbt_artifacts.upload(files, folder, run_id, s3=lambda: client("s3"), log=self._log)
        self._log.event(
            "artifacts",
            status="ok" if done else "failed",
            files=list(files),
            folder=f"s3://{folder.bucket}/{folder.prefix}runs/{run_id}/",
        )
        return done

    def _reason_to_skip(self, name: str, failed: set[str]) -> str | None:
        if self._processes.stopped_by:
            return "the container is being stopped"
        needed = _NEEDS.get(name)
        if needed in failed:
            return f"{needed} failed"
        listed = ("packages.yml", "dependencies.yml")
        if name == "deps" and not any((self._settings.project / file).exists() for file in listed):
            return "the project has no packages"
        return None


@cache
def _client(service: str) -> Any:
    import boto3
    from botocore.config import Config

    # Short, because Fargate does not wait for artifacts longer than for dbt.
    limits = Config(
        connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
    )
    session: Any = boto3.session.Session()
    return session.client(service, config=limits)
