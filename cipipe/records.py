"""What one run writes into the ledger: `deploying` before a stage's first
effect, and how the stage finished after the last one.

A stage's record is written only by the thread that runs the stage.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import SCHEMA, Context, FailedAttempt, Output, Plan, Record, StagePlan, State


class Records:
    """The records of a plan's stages: first as they were stored, then as this run writes them."""

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        context: Context,
        *,
        stored: Mapping[str, StoredRecord | None],
    ) -> None:
        self._ledger = ledger
        self._plan = plan
        self._context = context
        self._stored = dict(stored)
        # The stages whose record this run has written.
        self._ours: set[str] = set()

    def last(self, stage: str) -> Record | None:
        """The stage's record: what this run wrote last, or else what it found."""
        stored = self._stored.get(stage)
        return stored.record if stored else None

    def is_current(
        self, stage: StagePlan, effective: str | None, data: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether the record already says what it would say after a
        deployment of the stage, `data` included if given.
        """
        last = self.last(stage.name)
        wanted = (State.DEPLOYED, stage.fingerprint, effective)
        return (
            last is not None
            and (last.state, last.fingerprint, last.effective) == wanted
            and (data is None or last.data == dict(data))
        )

    def write(
        self, stage: StagePlan, state: State, *, effective: str | None, data: Mapping[str, Any]
    ) -> None:
        """Replace the stage's record. Raises ConflictError where another run has replaced it."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        last = self.last(stage.name)
        # Every later record of the same deployment keeps the time at which
        # it started.
        started_at = now if state is State.DEPLOYING or last is None else last.started_at

        record = Record(
            schema=SCHEMA,
            stage=stage.name,
            fingerprint=stage.fingerprint,
            effective=effective,
            state=state,
            commit=self._plan.commit,
            ref=self._context.ref,
            provider=self._context.provider,
            sequence=self._context.sequence,
            pipeline_url=self._context.pipeline_url,
            started_at=started_at,
            finished_at=None if state is State.DEPLOYING else now,
            data=dict(data),
            project=self._plan.project,
            environment=self._plan.environment,
        )
        self._stored[stage.name] = self._ledger.write(record, self._stored.get(stage.name))
        self._ours.add(stage.name)

    def write_failed(self, stage: StagePlan, data: Mapping[str, Any]) -> None:
        """Write `failed` over our own `deploying`, with `data` as the steps
        left it.

        A `deploying` that this run only found may belong to a run that is
        still at work.
        """
        last = self.last(stage.name)
        if last is not None and stage.name in self._ours and last.state is State.DEPLOYING:
            self.write(stage, State.FAILED, effective=last.effective, data=data)

    def note_failure(self, stage: str, error: str) -> None:
        """Keep the id of the error that this attempt failed with, whether
        or not the record says `failed`.
        """
        failure = FailedAttempt(
            error=error,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            commit=self._plan.commit,
            ref=self._context.ref,
            provider=self._context.provider,
            sequence=self._context.sequence,
            pipeline_url=self._context.pipeline_url,
        )
        self._ledger.note_failure(stage, failure)

    def write_outputs(self, stage: str, outputs: dict[str, Output]) -> None:
        self.check(stage)
        self._ledger.write_outputs(stage, outputs)

    def check(self, stage: str) -> None:
        """Raise ConflictError where a later run took over the stage: this
        one must not overwrite what that one does.
        """
        stored = self._stored.get(stage)
        if stored is not None and stage in self._ours:
            self._ledger.check(stored)
