"""What commands report: the state of environments, checks of the doctor,
what a run has done.

Frozen data, rendered by `report`.
"""

import enum
from typing import Any

import msgspec

from cipipe.errors import Problem
from cipipe.model import FailedAttempt, Mode


class Result(enum.StrEnum):
    """A stage after a run."""

    DONE = "done"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_RUN = "not-run"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a destroy deletes: things of one sort, in one place."""

    # `resource`, `object` or `image`.
    sort: str

    # Of resources their type, of objects and images where they are.
    name: str

    count: int

    # Resources of this type hold data, or take long to rebuild.
    protected: bool = False

    # The addresses of resources.
    addresses: tuple[str, ...] = ()

    # Of objects: all versions and delete markers, the current ones
    # included. None: only what a stage owns was counted.
    versions: int | None = None

    # How many of the objects' versions, or of the images, no stage owns.
    unowned: int = 0

    # There are more: counting stopped there.
    more: bool = False


class Preflight(msgspec.Struct, kw_only=True):
    """What was found out about a stage before it is destroyed. Steps add to it."""

    lost: list[Loss] = []

    # What the destroy would fail with, or must not delete.
    blockers: list[Problem] = []

    # What somebody should know before it is too late.
    warnings: list[Problem] = []

    # The images that the stage deletes itself, as `HOST/NAME:TAG`.
    removes: set[str] = set()

    @property
    def document(self) -> dict[str, Any]:
        """What was found out, as JSON."""
        found = {"lost": self.lost, "blockers": self.blockers, "warnings": self.warnings}
        return {name: msgspec.to_builtins(entries) for name, entries in found.items()}


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has done with one stage."""

    name: str
    kind: str
    result: Result

    # Why it ran, as in the plan, or why it did not.
    reason: str
    detail: str

    # Wall time.
    seconds: float

    # One line on what was built or deployed.
    made: str = ""

    # What was found out, as JSON, by topic: `models` are those of a dbt
    # project that a merge request changes.
    findings: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has done."""

    project: str
    environment: str
    mode: Mode
    commit: str

    stages: tuple[StageReport, ...]

    @property
    def failed(self) -> bool:
        return any(stage.result in {Result.FAILED, Result.NOT_RUN} for stage in self.stages)


class StageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One stage in one environment."""

    name: str
    kind: str

    # That of the record, or `never-deployed`.
    state: str

    # What was deployed, from which ref, by which pipeline; None where it
    # never was.
    commit: str | None = None
    ref: str | None = None
    pipeline_url: str | None = None

    # ISO 8601, UTC.
    finished_at: str | None = None

    fingerprint: str | None = None

    # This commit has other content than what is deployed.
    drift: bool

    # The last attempt to deploy the stage, if it failed.
    last_failure: FailedAttempt | None = None


class EnvironmentStatus(msgspec.Struct, frozen=True):
    """What is deployed in one environment."""

    name: str
    account_id: str
    region: str
    stages: tuple[StageStatus, ...] = ()

    # Why it is not known what is deployed, where this job may not read it.
    unreadable: str | None = None


UNCHECKED = "unchecked"
"""The kind of a finding that says what could not be compared, and why."""


class DriftFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in an environment that is not as the ledger says."""

    stage: str

    # A slug, such as `object-changed`; or `unchecked`.
    kind: str

    # The address, key, tag or name of what it is about.
    what: str

    expected: str
    actual: str

    # One thing to do about it.
    hint: str

    @classmethod
    def unchecked(cls, stage: str, what: str, why: str, hint: str) -> "DriftFinding":
        """For what cannot be compared."""
        return cls(
            stage=stage,
            kind=UNCHECKED,
            what=what,
            expected="to be compared with the ledger",
            actual=why,
            hint=hint,
        )


class StageDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A stage whose deployment was compared with its record."""

    name: str
    kind: str

    # That of the record, or `never-deployed`; only what is `deployed` can be
    # compared.
    state: str
    commit: str | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """An environment, compared with its ledger."""

    project: str
    environment: str
    stages: tuple[StageDrift, ...]

    # In the order of the stages.
    findings: tuple[DriftFinding, ...]

    @property
    def drifted(self) -> int:
        """How many things differ."""
        return sum(finding.kind != UNCHECKED for finding in self.findings)

    @property
    def unchecked(self) -> int:
        """How many comparisons were not possible."""
        return len(self.findings) - self.drifted


class Verdict(enum.StrEnum):
    """The result of one check of `cipipe doctor`."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of `cipipe doctor`."""

    name: str
    result: Verdict
    detail: str

    # What to do about a warning or a failure.
    fix: str | None = None

    # Of a failure: its section in docs/errors.md.
    id: str | None = None
