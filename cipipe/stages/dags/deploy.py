"""The steps of the `dags` stage: patch in memory, compare by SHA-256, check, upload, delete what is
gone.

Nothing is written before everything is patched, checked and compared.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.model import Effect, Mode, State
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.dags.bucket import manifest, ownership, sharing
from cipipe.stages.dags.files import count, in_order, relative
from cipipe.stages.dags.mwaa.extras import KEYS, PLUGINS, REQUIREMENTS
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Reference, Stage, literal, shown

if TYPE_CHECKING:
    from datetime import datetime

    from cipipe.stages.dags.bucket.objects import CurrentObject
    from cipipe.stages.dags.checks.airflowignore import Ignored
    from cipipe.stages.dags.render import Rendered
    from cipipe.tools.aws.s3 import Bucket


_SHOWN = 3


def steps(stage: Stage[Settings], mode: Mode, *, tag: str) -> tuple[Step, ...]:  # noqa: ARG001 - part of the Protocol
    settings = stage.settings
    source = settings.source.strip("/")
    there = f"s3://{shown(settings.bucket)}/{settings.prefix}"
    if mode is Mode.DESTROY:
        from cipipe.stages.dags.destroy import list_owned, purge

        return (
            Step(f"list what {stage.name} owns in {there}", Effect.READ, list_owned),
            Step(f"delete every version of it in {there}", Effect.DESTROY, purge),
        )
    work = Deployment()
    reading = (
        Step(f"patch {source}/", Effect.READ, work.prepare),
        Step(f"compare with {there}", Effect.READ, work.compare),
        Step(f"check {source}/", Effect.READ, work.check),
    )
    if mode is Mode.VERIFY:
        return reading
    return (*reading, *writing(stage, work))


def writing(stage: Stage[Settings], work: "Deployment") -> tuple[Step, ...]:
    """The steps that make the bucket, and the MWAA environment, what `work` wants them to be."""
    settings = stage.settings
    there = f"s3://{shown(settings.bucket)}/{settings.prefix}"
    top = f"s3://{shown(settings.bucket)}"
    made = []
    if settings.requirements is not None:
        title = f"upload {settings.requirements} as {top}/{REQUIREMENTS}"
        made.append(Step(title, Effect.WRITE, partial(work.upload_extra, REQUIREMENTS)))
    if settings.plugins is not None:
        title = f"zip {settings.plugins.strip('/')}/ and upload it as {top}/{PLUGINS}"
        made.append(Step(title, Effect.WRITE, partial(work.upload_extra, PLUGINS)))
    if made and settings.mwaa_environment is not None:
        name = shown(settings.mwaa_environment)
        made.append(
            Step(f"have MWAA environment {name} install what is new", Effect.WRITE, work.install)
        )
    made += [
        Step(f"upload to {there}", Effect.WRITE, work.upload),
        Step(f"delete what is gone from {there}", Effect.WRITE, work.prune),
    ]
    if settings.mwaa_environment is not None:
        name = shown(settings.mwaa_environment)
        made.append(
            Step(f"check that MWAA environment {name} imported the DAGs", Effect.READ, work.confirm)
        )
    return tuple(made)


class Deployment(msgspec.Struct):
    """What the steps of one run hand to each other: what every key is to hold, and what has to be
    done for it.

    `bodies` has the contents of at least those keys that are uploaded; `absent` are those that were
    not in the bucket. `outputs` are what the files ask for, and `made_of` what they were patched
    with, where that is known. `assumed`: what is wanted was not read, but taken from the record,
    which says that it is deployed.
    """

    wanted: dict[str, str] = {}
    outputs: list[str] | None = None
    made_of: str | None = None
    assumed: bool = False
    bodies: dict[str, bytes] = {}
    uploads: set[str] = set()
    absent: set[str] = set()
    gone: list[str] = []
    looked_again: bool = False
    uploaded: "datetime | None" = None
    made: "Rendered | None" = None

    def prepare(self, context: StageContext[Settings], result: StageResult) -> None:
        """Read and patch the files; where the record says that they are deployed, only once
        anything has to be done.
        """
        known = manifest.proven(context, result)
        if known is None or not known.keys().isdisjoint(
            sharing.taken(context, result.data["bucket"])
        ):
            self.read(context)
        else:
            self.wanted, self.assumed = known, True
            self.outputs, self.made_of = (
                result.data[manifest.OUTPUTS],
                result.data[manifest.MADE_OF],
            )
            context.line(f"{count(len(known), 'file')}, and the record has what becomes of them")

    def read(self, context: StageContext[Settings]) -> None:
        from cipipe.stages.dags.render import render

        self.made = render(context)
        for note in self.made.warnings:
            context.line(f"warning: {note.where}: {note.message}")
        self.bodies = self.made.contents
        self.wanted = manifest.hashes_of(self.bodies)
        self.outputs = sorted({replacement.output for replacement in self.made.replacements})
        self.made_of = manifest.made_of(context, self.outputs)
        context.line(
            f"{count(len(self.bodies), 'file')}, {count(len(self.made.replacements), 'value')} put in"
        )
        if left_out := self.made.left_out:
            some = ", ".join(left_out[:_SHOWN]) + (", …" if left_out[_SHOWN:] else "")
            context.line(
                f"{count(len(left_out), 'file')} left out (tests, caches, hidden files; see `include`): {some}"
            )

    def check(self, context: StageContext[Settings], result: StageResult) -> None:
        """Check what was patched, unless all of it lies in the bucket: then this very content was
        checked before.
        """
        last = context.previous
        same = last is not None and (last.state, last.fingerprint) == (
            State.DEPLOYED,
            context.fingerprint,
        )
        if (result.up_to_date and same) or self.made is None:
            return
        from cipipe.stages.dags.checks import airflow_imports, containers
        from cipipe.stages.dags.checks import static as checks
        from cipipe.stages.dags.mwaa import environment as mwaa

        settings = context.stage.settings
        below, misplaced = mwaa.placed(settings.prefix, mwaa.dag_folder(context))
        ignored = self._ignored(context, below)
        notes = [
            *misplaced,
            *ignored.problems,
            *checks.check(
                self.made.sources,
                self.made.bodies,
                allow_empty=settings.allow_empty or context.allow_empty,
                source=settings.source,
                airflow_version=settings.airflow_version,
                ignored=ignored.paths,
                compiled_elsewhere=airflow_imports.python_of(context) not in {None, sys.executable},
            ),
            *containers.check(context, self.made.bodies, self.made.replacements),
            *airflow_imports.check(context, self.made.bodies, below, extras=self.made.extras),
        ]
        for note in notes:
            context.line(f"warning: {note.where}: {note.message}")

    def _ignored(self, context: StageContext[Settings], below: str) -> "Ignored":
        """The files, by repository path, that `.airflowignore` names."""
        from cipipe.stages.dags.checks.airflowignore import Ignored, ignored

        settings = context.stage.settings
        made = self.made.bodies if self.made else {}
        paths = {relative(path, settings.source) or path: path for path in made}
        bodies = {name: made[path] for name, path in paths.items()}
        found = ignored(
            bodies, version=settings.airflow_version, env=settings.check_env, root=below
        )
        return Ignored(
            frozenset(paths[name] for name in found.paths),
            tuple(
                msgspec.structs.replace(problem, where=paths[problem.where])
                for problem in found.problems
            ),
        )

    def compare(self, context: StageContext[Settings], result: StageResult) -> None:
        from cipipe.stages.dags.bucket.objects import current_objects, newest_versions

        if isinstance(context.stage.settings.bucket, Reference):
            context.line(
                f"the bucket is not known before {shown(context.stage.settings.bucket)} is: nothing to compare with"
            )
            return
        bucket = bucket_of(context)
        sharing.refuse_taken(context, bucket.name, self.wanted)
        owned, former = manifest.owned(result.data, bucket.name)
        owned, former = (
            sharing.without_taken(context, bucket.name, owned),
            sharing.ours(context, former),
        )
        listed = (
            newest_versions(bucket, context.stage.settings.prefix) if self.wanted or owned else {}
        )
        there = current_objects(
            bucket, self.wanted.keys() | owned.keys(), owned, context.stage.settings.prefix, listed
        )
        ownership.refuse_foreign(context, bucket.name, {key: there[key] for key in self.wanted})
        if not owned:
            ownership.refuse_neighbours(context, bucket, listed.keys() - self.wanted.keys())
        lost = ownership.foreign(context, there)
        if lost:
            context.line(
                f"{count(len(lost), 'object')} of the record belong to others by now, and stay"
            )
        owned = {key: entry for key, entry in owned.items() if key not in lost}
        self.absent = {key for key in self.wanted if there[key].sha256 is None}
        self.uploads = {
            key
            for key, sha256 in self.wanted.items()
            if there[key].sha256 != sha256 or (key not in owned and there[key].owner is None)
        }
        self.gone = sorted(owned.keys() - self.wanted.keys())
        for key in sorted(self.uploads - owned.keys()):
            if there[key].sha256 is not None:
                context.line(
                    f"warning: {key} is there already, and not from this stage: it is replaced, and owned from now on"
                )
        unchanged = len(self.wanted) - len(self.uploads)
        context.line(
            f"{len(self.uploads)} to upload, {unchanged} unchanged, {len(self.gone)} to delete"
        )
        result.summary = f"{len(self.uploads)} to upload, {len(self.gone)} to delete"
        if context.mode is Mode.DEPLOY:
            for told in (
                manifest.GOING_BACK,
                manifest.RESTORED,
                manifest.OUTPUTS,
                manifest.MADE_OF,
            ):
                result.data.pop(told, None)
            result.data |= self._intended(result.data, bucket.name, owned, former, there)
            installed = self._installed(context, result)
            result.up_to_date = not (self.uploads or self.gone or former) and installed in (
                None,
                result.data.get("mwaa"),
            )
        if self.assumed and not (
            result.up_to_date and context.previous and result.data == context.previous.data
        ):
            self.assumed = False
            result.data = dict(context.previous.data) if context.previous else {}
            self.read(context)
            self.compare(context, result)

    def _intended(
        self,
        data: Mapping[str, Any],
        bucket: str,
        owned: Mapping[str, Any],
        former: Mapping[str, Any],
        there: Mapping[str, "CurrentObject"],
    ) -> dict[str, Any]:
        """The record's data as it has to be before the first write: every key that may be written
        is owned.
        """
        entries = {
            key: manifest.UNCERTAIN
            if key in self.uploads
            else {"sha256": sha256, "version": there[key].version}
            for key, sha256 in self.wanted.items()
        }
        deleted = data.get("deleted", ()) if data.get("bucket") == bucket else ()
        return {
            "bucket": bucket,
            "manifest": {**{key: owned[key] for key in self.gone}, **entries},
            "deleted": sorted(set(deleted) - self.wanted.keys()),
            "former": former,
            **({} if self.outputs is None else {manifest.OUTPUTS: self.outputs}),
            **({} if self.made_of is None else {manifest.MADE_OF: self.made_of}),
        }

    def upload_extra(self, key: str, context: StageContext[Settings], result: StageResult) -> None:
        """Upload requirements or plugins, if they are not there."""
        self._look_again(context, result)
        self._put(context, result, sorted(self.uploads & {key}))

    def install(self, context: StageContext[Settings], result: StageResult) -> None:
        """Have the environment run requirements and plugins before any DAG that needs them is
        there.
        """
        from cipipe.stages.dags.mwaa import environment as mwaa

        wanted = self._installed(context, result)
        if not _mwaa_environment(context):
            context.line("there is no MWAA environment: nothing to install into")
        elif wanted is not None:
            mwaa.update(context, wanted["environment"], wanted["versions"])
            result.data["mwaa"] = wanted

    def _installed(
        self, context: StageContext[Settings], result: StageResult
    ) -> dict[str, Any] | None:
        """What the record says once the environment runs what the bucket holds; None where that is
        not asked for.
        """
        name = _mwaa_environment(context)
        held = result.data["manifest"]
        versions = {
            key: held[key]["version"]
            for key in sorted(KEYS & self.wanted.keys())
            if held[key]["version"]
        }
        return {"environment": name, "versions": versions} if name and versions else None

    def upload(self, context: StageContext[Settings], result: StageResult) -> None:
        from datetime import UTC, datetime

        self._look_again(context, result)
        rest = {
            key: self.bodies[key]
            for key in self.uploads
            if not result.data["manifest"][key]["sha256"]
        }
        for wave in (
            [key for key in sorted(rest) if key in KEYS],
            *in_order({k: rest[k] for k in rest.keys() - KEYS}),
        ):
            self._put(context, result, wave)
        self.uploaded = datetime.now(UTC)

    def _look_again(self, context: StageContext[Settings], result: StageResult) -> None:
        """Upload also what changed since it was compared: only now that the record is ours do other
        runs stop writing.

        A stage that began at the same moment, with another setting that turned out to be this
        bucket, has its record by now.
        """
        from cipipe.stages.dags.bucket.objects import current_objects

        if self.looked_again:
            return
        self.looked_again = True
        sharing.refuse_taken(context, bucket_of(context).name, self.wanted)
        held = result.data["manifest"]
        bucket, prefix = bucket_of(context), context.stage.settings.prefix
        found = current_objects(
            bucket, (self.wanted.keys() - self.uploads) | set(self.gone), held, prefix
        )
        self._let_go(result, ownership.foreign(context, {key: found[key] for key in self.gone}))
        there = {key: now for key, now in found.items() if key in self.wanted}
        ownership.refuse_foreign(context, bucket.name, there)
        changed = sorted(key for key, now in there.items() if now.sha256 != self.wanted[key])
        held |= {
            key: manifest.UNCERTAIN
            if key in changed
            else {"sha256": now.sha256, "version": now.version}
            for key, now in there.items()
        }
        if changed:
            context.line(f"{len(changed)} more to upload: somebody wrote them in the meantime")
            self.bodies |= self.fetched(context, changed)
            self.uploads.update(changed)

    def _let_go(self, result: StageResult, foreign: Iterable[str]) -> None:
        """Forget keys that were to be deleted, and have become another's."""
        for key in foreign:
            self.gone.remove(key)
            del result.data["manifest"][key]

    def fetched(self, context: StageContext[Settings], keys: Iterable[str]) -> dict[str, bytes]:  # noqa: ARG002 - where a rollback reads
        """The contents of keys that turn out to be uploaded."""
        return {key: self.bodies[key] for key in keys}

    def confirm(self, context: StageContext[Settings], _: StageResult) -> None:
        from cipipe.stages.dags.mwaa.confirm import confirm

        name = _mwaa_environment(context)
        if not name:
            context.line("there is no MWAA environment: nothing to ask")
        elif self.uploaded is not None:
            helpers, dags = in_order(self.bodies)
            well = context.previous is not None and context.previous.state is State.DEPLOYED
            some = well and not self.uploads.intersection(helpers)
            changed = [key for key in dags if key in self.uploads] if some else dags
            if self.made is not None:
                paths = {key: path for path, key in self.made.keys.items()}
                ignored = self._ignored(
                    context, context.stage.settings.prefix.partition("/")[2]
                ).paths
                changed = [key for key in changed if paths.get(key) not in ignored]
            confirm(context, name, {key: self.bodies[key] for key in changed}, self.uploaded)

    def _put(self, context: StageContext[Settings], result: StageResult, keys: list[str]) -> None:
        from cipipe.stages.dags.bucket.objects import read_object
        from cipipe.stages.dags.bucket.parallel import Throttled, in_parallel

        bucket = bucket_of(context)
        ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)

        def put(key: str) -> dict[str, Any]:
            ours()
            kind = "text/x-python" if key.endswith(".py") else "application/octet-stream"
            write = partial(
                bucket.put,
                key,
                self.bodies[key],
                content_type=kind,
                owner=ownership.owner(context).text,
            )
            written = write(if_none_match=key in self.absent)
            if (
                written is None
            ):  # it was not there when it was compared; or this is our own write, made again
                ownership.refuse_foreign(context, bucket.name, {key: read_object(bucket, key)})
                written = write()
            return {"sha256": self.wanted[key], "version": written.version if written else None}

        for key, entry in in_parallel(put, keys):
            result.data["manifest"][key] = entry
            context.line(f"uploaded {key}")

    def prune(self, context: StageContext[Settings], result: StageResult) -> None:
        from cipipe.stages.dags.bucket.parallel import Throttled
        from cipipe.stages.dags.destroy import purge_keys

        bucket = bucket_of(context)
        ours = Throttled(context.still_ours, seconds=context.pace.ownership_check)
        ours()
        for key in self.gone:
            ours()
            result.data["deleted"] = sorted({*result.data["deleted"], key})
            bucket.delete(key)
            del result.data["manifest"][key]
            context.line(f"deleted {key}")
        for name, keys in list(result.data["former"].items()):
            purge_keys(context, result, name, keys)
            del result.data["former"][name]
        unchanged = len(self.wanted) - len(self.uploads)
        result.summary = (
            f"{len(self.uploads)} uploaded, {unchanged} unchanged, {len(self.gone)} deleted in "
            f"s3://{bucket.name}/{context.stage.settings.prefix}"
        )


def bucket_of(context: StageContext[Settings]) -> "Bucket":
    """The stage's bucket."""
    return context.aws.bucket(literal(context.stage.settings.bucket))


def _mwaa_environment(context: StageContext[Settings]) -> str:
    """The name of the MWAA environment; empty where there is none."""
    return literal(context.stage.settings.mwaa_environment or "")
