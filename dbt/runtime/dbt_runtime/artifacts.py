"""dbt's artifacts: kept per step, and copied to S3.

dbt overwrites `run_results.json` with each command, so that of each step gets a name of its own.
"""

import json
import mimetypes
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dbt_runtime.log import Log
from dbt_runtime.settings import S3Folder

_RESULTS = "run_results.json"

# https://docs.getdbt.com/reference/artifacts/dbt-artifacts
_NAMES = (
    "manifest.json",
    "semantic_manifest.json",
    "catalog.json",
    "sources.json",
    "index.html",
    "static_index.html",
)

# Commands whose results are those of the run. `docs generate` also writes results: of compiling.
_MAIN = {"build", "run", "seed", "snapshot", "test", "retry"}


class Artifacts:
    """The artifacts of one run of the container."""

    def __init__(self, target: Path, logs: Path) -> None:
        self._target = target
        self._logs = logs
        # Before any step: what an earlier run left here is not this run's.
        for path in self._stale():
            path.unlink(missing_ok=True)
        # When the last results that were kept were written.
        self._kept = 0

    def keep_results(self, step: str) -> dict[str, int]:
        """Copy the results of a step that has ended to its own name. Returns how many nodes
        ended how, such as {"success": 4, "error": 1}; empty if the step has no results.

        They also stay where dbt looks for them: `dbt retry` needs those of the step before it.
        """
        results = self._target / _RESULTS
        if not results.is_file():
            return {}
        written = results.stat().st_mtime_ns
        if written == self._kept:
            return {}
        self._kept = written
        own = self._target / f"run_results_{step}.json"
        shutil.copy2(results, own)
        if step in _MAIN:
            shutil.copy2(own, self._target / f".main_{_RESULTS}")
        return _counts(own)

    def files(self) -> dict[str, Path]:
        """Name in S3 → file, of all that exist."""
        found = {name: self._target / name for name in _NAMES}
        found |= {path.name: path for path in self._target.glob("run_results_*.json")}
        found[_RESULTS] = self._target / f".main_{_RESULTS}"
        found["dbt.log"] = self._logs / "dbt.log"
        return {name: path for name, path in sorted(found.items()) if path.is_file()}

    def _stale(self) -> Iterator[Path]:
        yield from (self._target / name for name in _NAMES)
        yield from self._target.glob("*run_results*.json")
        yield self._logs / "dbt.log"


def _counts(results: Path) -> dict[str, int]:
    try:
        document = json.loads(results.read_bytes())
        return dict(Counter(result["status"] for result in document["results"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def upload(
    files: Mapping[str, Path],
    folder: S3Folder,
    run_id: str,
    *,
    s3: Callable[[], Any],
    log: Log,
) -> bool:
    """Copy the files to the run's own folder, and over the latest ones. Returns whether all
    arrived; the log names those that did not.

    Secrets are masked in the files, as in everything that is printed.
    """
    from botocore.exceptions import BotoCoreError

    failed = False
    for name, path in files.items():
        content_type = mimetypes.guess_type(name)[0] or "text/plain"
        text = path.read_text("utf-8", errors="surrogateescape")
        body = log.masked(text).encode("utf-8", errors="surrogateescape")
        for key in (f"{folder.prefix}runs/{run_id}/{name}", f"{folder.prefix}{name}"):
            try:
                s3().put_object(Bucket=folder.bucket, Key=key, Body=body, ContentType=content_type)
            except Exception as error:  # noqa: BLE001  (one lost file must not lose the others)
                failed = True
                log.event("artifact", key=f"s3://{folder.bucket}/{key}", error=str(error))
                # S3 did not answer at all: each further file would wait as long.
                if isinstance(error, BotoCoreError):
                    return False
    return not failed
