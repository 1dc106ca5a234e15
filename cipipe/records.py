"""What one run writes into the ledger: `deploying` before the first effect, how it ended after the
last.

A stage's record is looked after by the thread that runs the stage.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import SCHEMA, Context, Output, Plan, Record, StagePlan, State


class Records:
    """The records of a plan's stages: as `held` has them at first, then as this run writes them."""

    def __init__(
        self, ledger: Ledger, plan: Plan, context: Context, held: Mapping[str, StoredRecord | None]
    ) -> None:
        self._ledger = ledger
        self._plan = plan
        self._context = context
        self._held = dict(held)
        self._begun: set[str] = set()

    def last(self, stage: str) -> Record | None:
        """The stage's record, ours or the one that was there before."""
        held = self._held.get(stage)
        return held.record if held else None

    def is_current(
        self, stage: StagePlan, effective: str | None, data: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether the stage's record says already what it would say once the stage is deployed,
        `data` included if given.
        """
        last = self.last(stage.name)
        wanted = (State.DEPLOYED, stage.fingerprint, effective)
        return (
            last is not None
            and (last.state, last.fingerprint, last.effective) == wanted
            and (data is None or last.data == dict(data))
        )

    def write(
        self, stage: StagePlan, state: State, effective: str | None, data: Mapping[str, Any]
    ) -> None:
        """Write the stage's record over the last one. Raises ConflictError where that is not there
        any more.
        """
        last = self.last(stage.name)
        begun = state is State.DEPLOYING or last is None
        now = datetime.now(UTC).isoformat(timespec="microseconds")
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
            started_at=now if begun or last is None else last.started_at,
            finished_at=None if state is State.DEPLOYING else now,
            data=dict(data),
            project=self._plan.project,
            environment=self._plan.environment,
        )
        self._held[stage.name] = self._ledger.write(record, self._held.get(stage.name))
        self._begun.add(stage.name)

    def write_failed(self, stage: StagePlan, data: Mapping[str, Any]) -> None:
        """Say `failed` where we said `deploying`, with what is true by now: `data` as the steps
        left it.

        A `deploying` that this run found, and did not write, may be another run's that is still at
        it.
        """
        last = self.last(stage.name)
        if last is not None and stage.name in self._begun and last.state is State.DEPLOYING:
            self.write(stage, State.FAILED, last.effective, data)

    def write_outputs(self, stage: str, outputs: dict[str, Output]) -> None:
        self.check(stage)
        self._ledger.write_outputs(stage, outputs)

    def check(self, stage: str) -> None:
        """Raise ConflictError where a later run has taken the stage over: its effects must not be
        overwritten.
        """
        held = self._held.get(stage)
        if held is not None and stage in self._begun:
            self._ledger.check(held)
