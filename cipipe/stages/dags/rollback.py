"""Rolling back: the bucket is made what an earlier manifest says, out of the versions that it names.

The steps are those of a deployment; only what they want comes from the manifest and not from the commit.
"""

import hashlib
from collections.abc import Iterable

from cipipe.errors import RefusedError, StageError
from cipipe.model import Effect, Record, State
from cipipe.stages.base import Stage, StageRun, Step, shown
from cipipe.stages.dags.deploy import Deployment, bucket_of, writing
from cipipe.stages.dags.manifest import GOING_BACK, OUTPUTS, RESTORED, hashes
from cipipe.stages.dags.parallel import in_parallel


def choose(history: Iterable[Record], wanted: str | None) -> Record:
    """The record to go back to: the one of a commit, or the last that was deployed before what is there now.

    What a rollback put there counts as deployed when it was first, so that another one goes further back. A rollback that
    was cut off goes on to where it was going; a deployment that was cut off is undone. `history` is newest first. Raises RefusedError (`dags-rollback-unknown`).
    """
    current: Record | None = None
    known: dict[str, None] = {}
    restored: str | None = None
    for record in history:
        if record.state is State.DESTROYED:
            break  # every version went with it
        if current is None:
            current = record
            wanted = wanted or (record.data.get(GOING_BACK) if record.state is not State.DEPLOYED else None)
            restored = record.data.get(RESTORED) if wanted is None else None
            if record.state is State.DEPLOYED and wanted is None:
                continue
        if record.state is not State.DEPLOYED or not record.commit:
            continue
        known[record.commit] = None
        if wanted is not None:
            if record.commit.startswith(wanted):
                return record
        elif restored is not None:
            restored = None if record.finished_at == restored else restored
        elif hashes(record.data) != hashes(current.data):
            return record
    raise RefusedError(
        "dags-rollback-unknown",
        f"no manifest of commit {wanted} is kept" if wanted else "no manifest is kept from before what is deployed now",
        hint=f"There are manifests of: {', '.join(commit[:12] for commit in known)}."
        if known
        else "Manifests are versions of the stage's record: the ledger's bucket keeps them if it is versioned.",
        where="--to",
    )


def steps(stage: Stage, target: Record) -> tuple[Step, ...]:
    """What a rollback does, in order. Pure."""
    wanted = {key: str(sha256) for key, sha256 in hashes(target.data).items()}
    work = _Rollback(wanted=wanted, outputs=target.data.get(OUTPUTS), target=target)
    there = f"s3://{shown(stage.settings.bucket)}/{stage.settings.prefix}"
    return (
        Step(f"compare {there} with the manifest of {(target.commit or '')[:7]}", Effect.READ, work.compare),
        Step("read the versions that it names", Effect.READ, work.recall),
        *writing(stage, work),
    )


class _Rollback(Deployment, kw_only=True):
    """A deployment that wants what a manifest says."""

    target: Record

    def compare(self, run: StageRun) -> None:
        there = self.target.data.get("bucket")
        if there != bucket_of(run).name:
            raise RefusedError(
                "dags-rollback-moved",
                f"that manifest is of the bucket {there}, and the stage deploys to {bucket_of(run).name} now",
                hint="Check out that commit and run the stage: it moves the files as well.",
                where=run.stage.name,
            )
        super().compare(run)
        run.settled = False  # the record is another one, even where all objects are there
        run.data[GOING_BACK] = self.target.commit
        run.data[RESTORED] = self.target.data.get(RESTORED) or self.target.finished_at

    def recall(self, run: StageRun) -> None:
        self.bodies = self.fetched(run, self.uploads)

    def fetched(self, run: StageRun, keys: Iterable[str]) -> dict[str, bytes]:
        bucket = bucket_of(run)
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

    def prune(self, run: StageRun) -> None:
        super().prune(run)
        run.data.pop(GOING_BACK, None)
