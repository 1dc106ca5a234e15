"""Rolling back: the bucket is made what an earlier manifest says, out of the versions that it
names.

The steps are those of a deployment; only what they want comes from the manifest and not from the
commit.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, takewhile

from cipipe.errors import RefusedError, StageError
from cipipe.model import Effect, Record, State
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.dags.bucket.manifest import GOING_BACK, MADE_OF, OUTPUTS, RESTORED, hashes
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.deploy import Deployment, bucket_of, writing
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Stage, shown


def choose(history: Iterable[Record], wanted: str | None) -> Record:
    """The record to go back to: the one of a commit, or the last that was deployed before what is
    there now.

    What a rollback put there counts as deployed when it was first, so that another one goes further
    back. A rollback that was cut off goes on to where it was going; a deployment that was cut off
    is undone. `history` is newest first. Raises RefusedError (`dags-rollback-unknown`).
    """
    known: dict[str, None] = {}
    kept = takewhile(
        lambda record: record.state is not State.DESTROYED, history
    )  # with it every version went
    current = next(kept, None)
    if current is not None:
        for record in _candidates(current, kept, wanted, known):
            if _meant(record, current, wanted):
                return record
    raise RefusedError(
        "dags-rollback-unknown",
        f"no manifest of commit {wanted} is kept"
        if wanted
        else "no manifest is kept from before what is deployed now",
        hint=f"There are manifests of: {', '.join(commit[:12] for commit in known)}."
        if known
        else "Manifests are versions of the stage's record: the ledger's bucket keeps them if it is versioned.",
        where="--to",
    )


def _candidates(
    current: Record, kept: Iterable[Record], wanted: str | None, known: dict[str, None]
) -> Iterator[Record]:
    """The deployments that are older than what is there now, and than what that restored; `known`
    gets all commits.
    """
    newest = [current] if wanted is not None else []
    restored = current.data.get(RESTORED) if wanted is None and _going(current) is None else None
    for record in chain(newest, kept):
        if record.state is State.DEPLOYED and record.commit:
            known[record.commit] = None
            if restored is None:
                yield record
            elif record.finished_at == restored:
                restored = None


def _going(current: Record) -> str | None:
    """Where a rollback was going that was cut off."""
    return current.data.get(GOING_BACK) if current.state is not State.DEPLOYED else None


def _meant(record: Record, current: Record, wanted: str | None) -> bool:
    if wanted is not None:
        return (record.commit or "").startswith(wanted)
    if (going := _going(current)) is not None:
        return going in {record.finished_at, record.commit}
    return hashes(record.data) != hashes(current.data)


def steps(stage: Stage[Settings], target: Record) -> tuple[Step, ...]:
    """What a rollback does, in order. Pure."""
    wanted = {key: str(sha256) for key, sha256 in hashes(target.data).items()}
    work = _Rollback(
        wanted=wanted,
        outputs=target.data.get(OUTPUTS),
        made_of=target.data.get(MADE_OF),
        target=target,
    )
    there = f"s3://{shown(stage.settings.bucket)}/{stage.settings.prefix}"
    return (
        Step(
            f"compare {there} with the manifest of {(target.commit or '')[:7]}",
            Effect.READ,
            work.compare,
        ),
        Step("read the versions that it names", Effect.READ, work.recall),
        *writing(stage, work),
    )


class _Rollback(Deployment, kw_only=True):
    """A deployment that wants what a manifest says."""

    target: Record

    def compare(self, context: StageContext[Settings], result: StageResult) -> None:
        there = self.target.data.get("bucket")
        if there != bucket_of(context).name:
            raise RefusedError(
                "dags-rollback-moved",
                f"that manifest is of the bucket {there}, and the stage deploys to {bucket_of(context).name} now",
                hint="Check out that commit and run the stage: it moves the files as well.",
                where=context.stage.name,
            )
        super().compare(context, result)
        result.up_to_date = False  # the record is another one, even where all objects are there
        result.data[GOING_BACK] = self.target.finished_at
        result.data[RESTORED] = self.target.data.get(RESTORED) or self.target.finished_at

    def recall(self, context: StageContext[Settings], _: StageResult) -> None:
        self.bodies = self.fetched(context, self.uploads)

    def fetched(self, context: StageContext[Settings], keys: Iterable[str]) -> dict[str, bytes]:
        bucket = bucket_of(context)
        entries = self.target.data["manifest"]

        def read(key: str) -> bytes | None:
            stored = bucket.get(key, entries[key]["version"])
            if stored is None or hashlib.sha256(stored.body).hexdigest() != self.wanted[key]:
                return None
            return stored.body

        found = dict(in_parallel(read, sorted(keys)))
        gone = sorted(key for key, body in found.items() if body is None)
        if gone:
            raise StageError(
                "dags-version-gone",
                f"the bucket no longer keeps what {', '.join(gone[:3])} held then"
                + (f", nor of {len(gone) - 3} others" if gone[3:] else ""),
                hint="Nothing was changed. Check out that commit and run the stage: it makes the files anew.",
                where=f"s3://{bucket.name}/{gone[0]}",
            )
        return {key: body for key, body in found.items() if body is not None}

    def prune(self, context: StageContext[Settings], result: StageResult) -> None:
        super().prune(context, result)
        result.data.pop(GOING_BACK, None)
