"""Roll back: make the bucket what an earlier manifest says, from the
versions that it names.

The steps are those of a deployment; only what they want comes from the
manifest and not from the commit.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, takewhile

from cipipe.errors import RefusedError, StageError
from cipipe.model import Effect, Record, State
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.dags.bucket.desired import Desired
from cipipe.stages.dags.bucket.manifest import GOING_BACK, MADE_OF, OUTPUTS, RESTORED, hashes
from cipipe.stages.dags.bucket.objects import bucket_of
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.deploy import Deployment
from cipipe.stages.dags.settings import Settings
from cipipe.stages.dags.steps import writing
from cipipe.stages.settings import Stage, shown


def choose(history: Iterable[Record], wanted: str | None) -> Record:
    """The record to go back to: that of a commit, or of the deployment
    before the current one.

    What a rollback put there counts as deployed when it first was, so that
    another rollback goes further back. A rollback that was stopped
    continues to where it was going; a deployment that was stopped is
    undone. `history` is newest first.

    Raises RefusedError (`dags-rollback-unknown`).
    """
    # With a destroy, every version was deleted: nothing from before it can
    # be restored.
    kept = takewhile(lambda record: record.state is not State.DESTROYED, history)
    commits: dict[str, None] = {}
    current = next(kept, None)
    if current is not None:
        for record in _candidates(current, kept, wanted, commits=commits):
            if _is_wanted(record, current, wanted):
                return record
    raise _unknown(wanted, commits)


def _candidates(
    current: Record, kept: Iterable[Record], wanted: str | None, commits: dict[str, None]
) -> Iterator[Record]:
    """The deployments before the current one, and before what that one
    restored.

    Where a commit is named, the current one counts too. `commits` gets all
    that were seen.
    """
    newest = [current] if wanted is not None else []
    restored = None
    if wanted is None and _going_back_to(current) is None:
        restored = current.data.get(RESTORED)

    for record in chain(newest, kept):
        if record.state is not State.DEPLOYED or not record.commit:
            continue
        commits[record.commit] = None
        if restored is None:
            yield record
        elif record.finished_at == restored:
            restored = None


def _going_back_to(current: Record) -> str | None:
    """Where a rollback was going that was stopped."""
    return current.data.get(GOING_BACK) if current.state is not State.DEPLOYED else None


def _is_wanted(record: Record, current: Record, wanted: str | None) -> bool:
    if wanted is not None:
        return (record.commit or "").startswith(wanted)
    if (going := _going_back_to(current)) is not None:
        # Earlier versions of cipipe recorded the commit.
        return going in {record.finished_at, record.commit}
    # Several records in a row may have the same files.
    return hashes(record.data) != hashes(current.data)


def _unknown(wanted: str | None, commits: Iterable[str]) -> RefusedError:
    message = "no manifest is kept from before what is deployed now"
    if wanted:
        message = f"no manifest of commit {wanted} is kept"
    hint = (
        "Manifests are versions of the stage's record:"
        " the ledger's bucket keeps them if it is versioned."
    )
    names = ", ".join(commit[:12] for commit in commits)
    if names:
        hint = f"There are manifests of: {names}."
    return RefusedError("dags-rollback-unknown", message, hint=hint, where="--to")


def steps(stage: Stage[Settings], target: Record) -> tuple[Step, ...]:
    """What a rollback does, in order. Pure."""
    made_from = {key: target.data[key] for key in (OUTPUTS, MADE_OF) if key in target.data}
    work = Rollback(
        desired=Desired(
            hashes={key: str(sha256) for key, sha256 in hashes(target.data).items()},
            made_from=made_from,
        ),
        target=target,
    )
    folder = f"s3://{shown(stage.settings.bucket)}/{stage.settings.prefix}"
    commit = (target.commit or "")[:7]
    return (
        Step(f"compare {folder} with the manifest of {commit}", Effect.READ, work.compare),
        Step("read the versions that it names", Effect.READ, work.recall),
        *writing(stage, lambda: work),
    )


class Rollback(Deployment, kw_only=True):
    """A deployment that wants what a manifest says."""

    # The record that has the manifest.
    target: Record

    def compare(self, context: StageContext[Settings], result: StageResult) -> None:
        recorded = self.target.data.get("bucket")
        name = bucket_of(context).name
        if recorded != name:
            raise RefusedError(
                "dags-rollback-moved",
                f"that manifest is of the bucket {recorded}, and the stage deploys to {name} now",
                hint="Check out that commit and run the stage: it moves the files as well.",
                where=context.stage.name,
            )
        super().compare(context, result)
        # There is always something to write: the record is another one,
        # even if no object is.
        result.up_to_date = False
        result.data[GOING_BACK] = self.target.finished_at
        result.data[RESTORED] = self.target.data.get(RESTORED) or self.target.finished_at

    def recall(self, context: StageContext[Settings], _: StageResult) -> None:
        """Read everything before anything is written: a version may be gone."""
        bodies = self._bodies(context, self.difference.uploads)
        self.desired = self.desired.with_bodies(bodies)

    def prune(self, context: StageContext[Settings], result: StageResult) -> None:
        super().prune(context, result)
        result.data.pop(GOING_BACK, None)

    def _bodies(self, context: StageContext[Settings], keys: Iterable[str]) -> Mapping[str, bytes]:
        bucket = bucket_of(context)
        entries = self.target.data["manifest"]

        def read(key: str) -> bytes | None:
            stored = bucket.get(key, entries[key]["version"])
            if stored is None:
                return None
            digest = hashlib.sha256(stored.body).hexdigest()
            return stored.body if digest == self.desired.hashes[key] else None

        found = {}
        gone = []
        for key, body in in_parallel(read, sorted(keys)):
            if body is None:
                gone.append(key)
            else:
                found[key] = body
        if gone:
            raise _version_gone(bucket.name, sorted(gone))
        return found


def _version_gone(bucket: str, keys: list[str]) -> StageError:
    more = f", nor of {len(keys) - 3} others" if keys[3:] else ""
    return StageError(
        "dags-version-gone",
        f"the bucket no longer keeps what {', '.join(keys[:3])} contained then{more}",
        hint="Nothing was changed. Check out that commit and run the stage: it makes the files"
        " again.",
        where=f"s3://{bucket}/{keys[0]}",
    )
