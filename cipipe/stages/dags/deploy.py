"""What the steps of the `dags` stage do: read, compare, check, upload,
delete, confirm.

Nothing is written before everything has been patched, compared and checked.
If nothing changed, no file is patched or checked: what does that is slow to
import, and imported where it is needed.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from cipipe.model import Mode, State
from cipipe.stages import sandbox_bucket
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.dags import destroy
from cipipe.stages.dags.bucket import manifest, sharing
from cipipe.stages.dags.bucket.desired import Desired
from cipipe.stages.dags.bucket.difference import Difference, difference, revised
from cipipe.stages.dags.bucket.objects import bucket_of
from cipipe.stages.dags.bucket.state import read_again, read_state
from cipipe.stages.dags.bucket.upload import write_objects
from cipipe.stages.dags.files import count, in_order
from cipipe.stages.dags.mwaa import confirm, environment
from cipipe.stages.dags.mwaa.extras import KEYS, installed
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Reference, shown
from cipipe.tools.aws.errors import AwsError

if TYPE_CHECKING:
    from cipipe.stages.dags.render import Rendered


class Deployment(msgspec.Struct, kw_only=True):
    """The steps of one run, and what they hand to each other."""

    desired: Desired = msgspec.field(default_factory=Desired)
    # What the commit's files become; None while they have not been read.
    rendered: "Rendered | None" = None
    # `desired` was not read but taken from the record, which says that it
    # is deployed.
    assumed: bool = False
    difference: Difference = msgspec.field(default_factory=Difference)
    looked_again: bool = False
    # When the last object was written; None before that.
    uploaded: datetime | None = None

    def read(self, context: StageContext[Settings], result: StageResult) -> None:
        """Read and patch the files, unless the record proves what becomes of them."""
        known = manifest.proven(context, result)
        if known is None or known.keys() & sharing.taken(context, result.data["bucket"]).keys():
            self._render(context)
            return

        made_from = {key: result.data[key] for key in (manifest.OUTPUTS, manifest.MADE_OF)}
        self.desired = Desired(hashes=known, made_from=made_from)
        self.assumed = True
        context.line(f"{count(len(known), 'file')}, and the record has what becomes of them")

    def compare(self, context: StageContext[Settings], result: StageResult) -> None:
        """Find out what has to be done. The record's data then has what may be written."""
        if context.mode is Mode.VERIFY:
            self._review(context, result)
            return
        bucket = context.stage.settings.bucket
        sandbox_bucket.ensure(context, str(bucket), context.environment.region)
        self._compare(context, result)
        unchanged = context.previous is not None and result.data == context.previous.data
        if self.assumed and not (result.up_to_date and unchanged):
            # The bucket is not as the record says, so the contents are
            # needed after all.
            self.assumed = False
            result.data = dict(context.previous.data) if context.previous else {}
            self._render(context)
            self._compare(context, result)

    def check(self, context: StageContext[Settings], result: StageResult) -> None:
        """Check the files, unless this very content was checked and deployed before."""
        last = context.previous if _is_deployed(context) else None
        checked = last is not None and last.fingerprint == context.fingerprint
        if self.rendered is None or (result.up_to_date and checked):
            return
        from cipipe.stages.dags.checks import suite

        for note in suite.check(context, self.rendered):
            context.line(f"warning: {note.where}: {note.message}")

    def upload_extra(self, key: str, context: StageContext[Settings], result: StageResult) -> None:
        """Upload requirements or plugins, if they differ."""
        self._look_again(context, result)
        self._upload(context, result, sorted(self.difference.uploads & {key}))

    def install(self, context: StageContext[Settings], result: StageResult) -> None:
        """Have the environment run requirements and plugins before any DAG needs them."""
        name = environment.name_of(context)
        wanted = installed(name, result.data["manifest"], self.desired.hashes)
        if not name:
            context.line("there is no MWAA environment: nothing to install into")
        elif wanted is not None:
            environment.update(context, name, wanted["versions"])
            result.data["mwaa"] = wanted

    def upload(self, context: StageContext[Settings], result: StageResult) -> None:
        """Upload what differs: what MWAA installs, then helpers, then DAG files."""
        self._look_again(context, result)
        # What `upload_extra` has written is certain by now.
        entries = result.data["manifest"]
        rest = {key for key in self.difference.uploads if entries[key]["sha256"] is None}
        files = {key: self.desired.bodies[key] for key in rest - KEYS}
        for wave in (sorted(rest & KEYS), *in_order(files)):
            self._upload(context, result, wave)
        self.uploaded = datetime.now(UTC)

    def prune(self, context: StageContext[Settings], result: StageResult) -> None:
        """Delete what is gone from the source, and everything in buckets that were used before."""
        destroy.delete_keys(context, result, self.difference.gone)
        for name, keys in list(result.data["former"].items()):
            destroy.purge_keys(context, result, name, keys=keys)
            del result.data["former"][name]

        found = self.difference
        result.summary = (
            f"{len(found.uploads)} uploaded, {found.unchanged} unchanged, {len(found.gone)} deleted"
            f" in s3://{bucket_of(context).name}/{context.stage.settings.prefix}"
        )

    def confirm(self, context: StageContext[Settings], _: StageResult) -> None:
        """Wait until MWAA's Airflow has parsed the DAGs."""
        name = environment.name_of(context)
        if not name:
            context.line("there is no MWAA environment: nothing to ask")
        elif self.uploaded is not None:
            bodies = {key: self.desired.bodies[key] for key in self._to_confirm(context)}
            confirm.wait_until_parsed(context, name, bodies, uploaded=self.uploaded)

    def list_owned(self, context: StageContext[Settings], result: StageResult) -> None:
        destroy.list_owned(context, result)

    def purge(self, context: StageContext[Settings], result: StageResult) -> None:
        destroy.purge(context, result)

    def _render(self, context: StageContext[Settings]) -> None:
        from cipipe.stages.dags.render import render, report

        self.rendered = render(context)
        report(context, self.rendered)
        bodies = self.rendered.contents
        outputs = {replacement.output for replacement in self.rendered.replacements}
        self.desired = Desired(
            hashes=manifest.hashes_of(bodies),
            bodies=bodies,
            made_from=manifest.made_from(context, outputs),
        )

    def _compare(self, context: StageContext[Settings], result: StageResult) -> None:
        wanted = self.desired.hashes
        state = read_state(context, result.data, wanted)
        self.difference = found = difference(wanted, state.owned, state.present)
        for key in found.adopted:
            context.line(
                f"warning: {key} is there already, and not from this stage:"
                " it is replaced, and owned from now on"
            )
        uploads = f"{len(found.uploads)} to upload"
        gone = f"{len(found.gone)} to delete"
        context.line(f"{uploads}, {found.unchanged} unchanged, {gone}")
        result.summary = f"{uploads}, {gone}"
        if context.mode is not Mode.DEPLOY:
            return

        result.data = manifest.before_writing(
            result.data,
            bucket=bucket_of(context).name,
            entries=found.manifest,
            former=state.former,
            wanted=wanted,
            made_from=self.desired.made_from,
        )
        running = installed(environment.name_of(context), result.data["manifest"], wanted)
        nothing_to_write = not (found.uploads or found.gone or state.former)
        result.up_to_date = nothing_to_write and running in (None, result.data.get("mwaa"))

    def _review(self, context: StageContext[Settings], result: StageResult) -> None:
        """Show what a deployment would change. In verify mode, the files
        were read.
        """
        from cipipe.stages.dags import diff, review

        assert self.rendered is not None  # noqa: S101
        context = review.comparable(context)
        bucket = context.stage.settings.bucket
        bodies = self.desired.bodies
        if isinstance(bucket, Reference):
            why = f"the bucket {shown(bucket)} is only known after apply"
        else:
            planned = review.is_planned(context)
            if not planned:
                sandbox_bucket.ensure(context, bucket, context.environment.region)
            try:
                self._compare(context, result)
            except AwsError as error:
                if not planned or error.code != "NoSuchBucket":
                    raise
                why = f"s3://{bucket} does not exist yet"
            else:
                changes = diff.changes_of(context, bodies, self.difference)
                review.keep(context, result, self.rendered, changes, bucket=bucket)
                return

        context.line(f"{why}: everything is new ({count(len(bodies), 'file')})")
        result.summary = f"{len(bodies)} to upload"
        new = diff.new_files(bodies)
        review.keep(context, result, self.rendered, new, bucket=None)

    def _look_again(self, context: StageContext[Settings], result: StageResult) -> None:
        """Upload also what changed since the bucket was read.

        Only now, with our record in the ledger, do other runs stop writing.
        And a stage that started at the same moment, in a bucket that turned
        out to be this one, has its record too.
        """
        if self.looked_again:
            return
        self.looked_again = True
        wanted = self.desired.hashes
        before = self.difference
        sharing.refuse_taken(context, bucket_of(context).name, wanted)
        present, lost = read_again(
            context,
            result.data["manifest"],
            kept=wanted.keys() - before.uploads,
            gone=set(before.gone),
        )
        self.difference = revised(before, wanted, present, lost=lost)
        result.data["manifest"] = dict(self.difference.manifest)

        changed = sorted(self.difference.uploads - before.uploads)
        if changed:
            context.line(f"{len(changed)} more to upload: somebody wrote them in the meantime")
            self.desired = self.desired.with_bodies(self._bodies(context, changed))

    def _bodies(
        self,
        context: StageContext[Settings],  # noqa: ARG002 - a rollback reads the bucket
        keys: Iterable[str],
    ) -> Mapping[str, bytes]:
        """The contents of keys that turn out to be uploaded."""
        return {key: self.desired.bodies[key] for key in keys}

    def _upload(
        self, context: StageContext[Settings], result: StageResult, keys: Iterable[str]
    ) -> None:
        write_objects(
            context,
            result.data["manifest"],
            keys,
            desired=self.desired,
            absent=self.difference.absent,
        )

    def _to_confirm(self, context: StageContext[Settings]) -> Iterable[str]:
        """The DAG files that Airflow has to parse again."""
        bodies = self.desired.bodies
        uploads = self.difference.uploads if _is_deployed(context) else bodies.keys()
        dags = confirm.affected(bodies, uploads)
        if self.rendered is None:
            return dags
        from cipipe.stages.dags.checks import suite

        paths = {key: path for path, key in self.rendered.keys.items()}
        below = context.stage.settings.prefix.partition("/")[2]
        ignored = suite.ignored_files(context, self.rendered.bodies, below).paths
        return [key for key in dags if paths.get(key) not in ignored]


def _is_deployed(context: StageContext[Settings]) -> bool:
    return context.previous is not None and context.previous.state is State.DEPLOYED
