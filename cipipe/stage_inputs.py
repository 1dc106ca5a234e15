"""What a stage of a run starts from: its settings, with the outputs of the
stages before it filled in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cipipe import outputs
from cipipe.candidates import Candidate
from cipipe.errors import StageError
from cipipe.model import Mode, Output, StagePlan
from cipipe.planner import ExecutablePlan
from cipipe.results import Result, StageReport
from cipipe.stages import KINDS
from cipipe.stages.context import RunnerInputs, StageContext, StageResult
from cipipe.stages.settings import AnyStage, Reference, resolved


class ContextFactory(Protocol):
    """What a run has to know of the project, and how it makes the contexts of stages."""

    def upstream(self, stage: str) -> Sequence[str]:
        """All stages that this one needs, directly or not."""
        ...

    def missing_tools(self, stage: AnyStage) -> Sequence[str]:
        """The tools that the stage needs and that are not installed here."""
        ...

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        """The names of the outputs that the stage uses."""
        ...

    def state_outputs(self, stage: str) -> Mapping[str, Output]:
        """The outputs in the state of a stage that is deployed, sensitive values included."""
        ...

    def expand(self, text: str) -> str:
        """The text of a setting with `{environment}` and the like filled in."""
        ...

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        """The context of a stage; `stage` is the candidate's, with every setting resolved."""
        ...


class InputSkipped(Exception):
    """A stage needs what a skipped stage would have given."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """What a run knows when a stage starts."""

    plan: ExecutablePlan
    candidates: Mapping[str, Candidate]
    factory: ContextFactory

    # Of other stages: their outputs, how they finished, what they produced.
    outputs: Mapping[str, Mapping[str, Output]]
    reports: Mapping[str, StageReport]
    results: Mapping[str, StageResult]

    # Outputs as they are in the states of stages, where a stage needs a
    # sensitive value that the ledger does not keep. Filled here.
    from_states: dict[str, Mapping[str, Output]]

    def settings(self, stage: StagePlan, known: Mapping[str, Output]) -> Any:
        """The settings of a stage, with the outputs that are `known` filled in.

        Raises StageError where one is missing, InputSkipped.
        """

        def text(value: Reference | str) -> Any:
            return self._resolved(value, stage, known, typed=False)

        def typed(value: Reference | str) -> Any:
            return self._resolved(value, stage, known, typed=True)

        return resolved(self.candidates[stage.name].stage.settings, text, typed)

    def are_complete(self, stage: StagePlan) -> bool:
        """Whether each stage that gives outputs stays as it is, or has been
        planned or deployed by this run.
        """
        return all(
            self._are_known(need)
            for need in self.factory.upstream(stage.name)
            if KINDS[self.candidates[need].stage.kind].GIVES_OUTPUTS
        )

    def _are_known(self, stage: str) -> bool:
        report = self.reports.get(stage)
        unchanged = report is not None and report.result is Result.UNCHANGED
        made = self.results.get(stage)
        planned = made is not None and made.outputs is not None and not made.more_outputs
        return stage in self.plan.kept or unchanged or planned

    def _resolved(
        self, value: Reference | str, stage: StagePlan, known: Mapping[str, Output], *, typed: bool
    ) -> Any:
        """A setting's value: a string, or the reference itself where a dry
        run cannot know it. `typed`: the output's own value, of any type.
        """
        if isinstance(value, str):
            return self.factory.expand(value)

        name = value.output or ""
        # Terraform omits outputs that are null. Where no output is known,
        # nothing was applied yet.
        is_null = name not in known or known[name].value is None
        if value.default is not None and known and is_null:
            return value.default
        if self.plan.plan.mode is Mode.VERIFY:
            if name not in known and not self.are_complete(stage):
                return value
            if name in known and known[name].unknown:
                if not typed:
                    outputs.refuse_unusable(name, known[name], stage=stage.name)
                return value

        try:
            if typed:
                return self._typed(name, known, stage=stage.name)
            return outputs.text(name, known, stage=stage.name)
        except StageError:
            upstream = self.factory.upstream(stage.name)
            reports = [self.reports[need] for need in upstream if need in self.reports]
            if any(report.result is Result.SKIPPED for report in reports):
                reason = f"its input {name} comes from a stage that was skipped"
                raise InputSkipped(reason) from None
            raise

    def _typed(self, name: str, known: Mapping[str, Output], *, stage: str) -> Any:
        found = outputs.value(name, known, stage=stage)
        if found is not msgspec.UNSET:
            return found
        # A sensitive one, which the ledger does not keep.
        given_by = [n for n in self.factory.upstream(stage) if name in self.outputs.get(n, {})]
        need = given_by[-1]
        if need not in self.from_states:
            self.from_states[need] = self.factory.state_outputs(need)
        return outputs.value(name, self.from_states[need], stage=stage)
