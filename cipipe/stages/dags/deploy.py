"""The steps of the `dags` stage: patch and check in memory, compare by SHA-256, upload, delete what is gone.

Nothing is written before everything is patched, checked and compared.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.errors import ProblemsError, StageError
from cipipe.model import Effect, Mode
from cipipe.stages.base import Reference, Stage, StageRun, Step, literal, shown
from cipipe.stages.dags import manifest
from cipipe.stages.dags.files import in_order, relative, select

if TYPE_CHECKING:
    from cipipe.tools.aws import Bucket


def steps(stage: Stage, mode: Mode, *, tag: str) -> tuple[Step, ...]:  # noqa: ARG001 - part of the Protocol
    settings = stage.settings
    source = settings.source.strip("/")
    there = f"s3://{shown(settings.bucket)}/{settings.prefix}"
    if mode is Mode.DESTROY:
        from cipipe.stages.dags.destroy import list_owned, purge

        return (
            Step(f"list what {stage.name} owns in {there}", Effect.READ, list_owned),
            Step(f"delete every version of it in {there}", Effect.DESTROY, purge),
        )
    work = _Deployment()
    reading = (
        Step(f"patch and check {source}/", Effect.READ, work.prepare),
        Step(f"compare with {there}", Effect.READ, work.compare),
    )
    if mode is Mode.VERIFY:
        return reading
    return (
        *reading,
        Step(f"upload to {there}", Effect.WRITE, work.upload),
        Step(f"delete what is gone from {there}", Effect.WRITE, work.prune),
    )


class _Deployment(msgspec.Struct):
    """What the steps of one run hand to each other: patched files by key, and what has to be done with them."""

    bodies: dict[str, bytes] = {}
    uploads: set[str] = set()
    gone: list[str] = []

    def prepare(self, run: StageRun) -> None:
        from cipipe.stages.dags import checks
        from cipipe.stages.dags.destroy import count
        from cipipe.stages.dags.patch import patch_all
        from cipipe.stages.dags.values import strings

        settings = run.stage.settings
        for output in run.outputs.values():
            if output.sensitive and output.value is not msgspec.UNSET:
                for secret in strings(output.value):
                    run.redactor.register(secret)
        sources = _sources(run)
        modules = {path: body for path, body in sources.items() if path.endswith(".py")}
        patched = patch_all(modules, run.outputs, tolerate_unknown=run.mode is Mode.VERIFY)
        bodies = sources | {path: file.body for path, file in patched.items()}
        notes = checks.check(sources, bodies, allow_empty=settings.allow_empty, source=settings.source)
        for note in (*(note for file in patched.values() for note in file.warnings), *notes):
            run.line(f"warning: {note.where}: {note.message}")
        self.bodies = {_key(path, run): body for path, body in bodies.items()}
        values = sum(len(file.replacements) for file in patched.values())
        run.line(f"{count(len(bodies), 'file')}, {count(values, 'value')} put in")

    def compare(self, run: StageRun) -> None:
        from cipipe.stages.dags.parallel import in_parallel

        if isinstance(run.stage.settings.bucket, Reference):
            run.line(f"the bucket is not known before {shown(run.stage.settings.bucket)} is: nothing to compare with")
            return
        bucket = _bucket(run)
        owned, former = manifest.owned(run.data, bucket.name)
        wanted = {key: hashlib.sha256(body).hexdigest() for key, body in sorted(self.bodies.items())}
        stored = dict(in_parallel(lambda key: _stored(bucket, key, owned.get(key) or {}, wanted[key]), wanted))
        entries: dict[str, Any] = {}
        self.uploads = set()
        for key, sha256 in wanted.items():
            there, version = stored[key]
            if there == sha256:
                entries[key] = {"sha256": sha256, "version": version}
                continue
            self.uploads.add(key)
            entries[key] = {"sha256": None, "version": None}
            if there is not None and key not in owned:
                run.line(
                    f"warning: {key} is there already, and not from this stage: it is replaced, and owned from now on"
                )
        self.gone = sorted(owned.keys() - self.bodies.keys())
        run.line(
            f"{len(self.uploads)} to upload, {len(self.bodies) - len(self.uploads)} unchanged, {len(self.gone)} to delete"
        )
        run.made = f"{len(self.uploads)} to upload, {len(self.gone)} to delete"
        if run.mode is Mode.DEPLOY:
            deleted = run.data.get("deleted", ()) if run.data.get("bucket") == bucket.name else ()
            run.data |= {
                "bucket": bucket.name,
                "manifest": {**{key: owned[key] for key in self.gone}, **entries},
                "deleted": sorted(set(deleted) - self.bodies.keys()),
                "former": former,
            }

    def upload(self, run: StageRun) -> None:
        from cipipe.stages.dags.parallel import in_parallel

        bucket = _bucket(run)

        ours = _Throttled(run.still_ours)

        def put(key: str) -> dict[str, Any]:
            ours()
            body = self.bodies[key]
            kind = "text/x-python" if key.endswith(".py") else "application/octet-stream"
            written = bucket.put(key, body, content_type=kind)
            return {"sha256": hashlib.sha256(body).hexdigest(), "version": written.version if written else None}

        for wave in in_order({key: self.bodies[key] for key in self.uploads}):
            for key, entry in in_parallel(put, wave):
                run.data["manifest"][key] = entry
                run.line(f"uploaded {key}")

    def prune(self, run: StageRun) -> None:
        from cipipe.stages.dags.destroy import purge_keys

        bucket = _bucket(run)
        run.still_ours()
        for key in self.gone:
            run.data["deleted"] = sorted({*run.data["deleted"], key})
            bucket.delete(key)
            del run.data["manifest"][key]
            run.line(f"deleted {key}")
        for name, keys in list(run.data["former"].items()):
            purge_keys(run, name, keys)
            del run.data["former"][name]
        unchanged = len(self.bodies) - len(self.uploads)
        run.made = (
            f"{len(self.uploads)} uploaded, {unchanged} unchanged, {len(self.gone)} deleted in "
            f"s3://{bucket.name}/{run.stage.settings.prefix}"
        )


class _Throttled:
    """Asks at most once a second: a run that was suspended asks before its next write, a busy one does not ask always."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._asked = -1.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._asked > 1.0:
            self._asked = now
            self._ask()


def _sources(run: StageRun) -> dict[str, bytes]:
    """The contents, in the commit, of the files that are uploaded, by repository path."""
    selected, wrong = select(run.entries, run.stage.settings.source)
    if wrong:
        raise ProblemsError("dags-files-refused", "the source holds files that cannot be uploaded", tuple(wrong))
    blobs = run.repository.blobs(selected.values())
    missing = [path for path, entry in selected.items() if entry.path not in blobs]
    if missing:
        raise StageError(
            "dags-blob-missing",
            f"git does not have the contents of {', '.join(missing[:3])}" + (" and others" if missing[3:] else ""),
            hint="This is a partial clone: fetch without --filter in this job.",
            where=run.stage.settings.source,
        )
    return {path: blobs[entry.path] for path, entry in selected.items()}


def _key(path: str, run: StageRun) -> str:
    return f"{run.stage.settings.prefix}{relative(path, run.stage.settings.source)}"


def _stored(bucket: "Bucket", key: str, known: Mapping[str, Any], wanted: str) -> tuple[str | None, str | None]:
    """Hash and version of the object as it is now: (None, None) where there is none.

    What the manifest knows is confirmed by a HEAD. What it does not know is read: other tools leave no SHA-256 with S3,
    and the version, which a rollback needs, comes with the contents only.
    """
    sha256 = bucket.sha256(key) if known.get("sha256") else None
    if sha256 is not None and sha256 == known["sha256"]:
        return sha256, known.get("version")
    if sha256 is not None and sha256 != wanted:
        return sha256, None
    found = bucket.get(key)
    return (hashlib.sha256(found.body).hexdigest(), found.version) if found else (None, None)


def _bucket(run: StageRun) -> "Bucket":
    """The stage's bucket; the client is made here, because making one is not thread-safe and using it is."""
    run.aws.client("s3")
    return run.aws.bucket(literal(run.stage.settings.bucket))
