"""The nouns: environment, context, plan, record. Frozen data, no behaviour beyond what can be
derived from it.
"""

import enum
from typing import Any

import msgspec

SCHEMA = 1

FINGERPRINT_TAG_LENGTH = 20
"""Hex digits of a fingerprint that `{ fingerprint = … }` and image tags use: 80 bits, short enough
to read.
"""


class Mode(enum.StrEnum):
    """What a run may do: `verify` reads only (merge and pull requests)."""

    VERIFY = "verify"
    DEPLOY = "deploy"
    DESTROY = "destroy"


class Effect(enum.StrEnum):
    """What a step does to the world outside this machine."""

    READ = "read"
    WRITE = "write"
    DESTROY = "destroy"


class Status(enum.StrEnum):
    """A stage in a plan. `conditional`: due only if a needed stage's outputs turn out different."""

    DUE = "due"
    CONDITIONAL = "conditional"
    UNCHANGED = "unchanged"


class Reason(enum.StrEnum):
    """Why a stage has its status."""

    NEVER_DEPLOYED = "never-deployed"
    CHANGED = "changed"
    NOT_FINISHED = "not-finished"
    DESTROYED = "destroyed"
    FORCED = "forced"
    UPSTREAM = "upstream"
    NOTHING_DUE = "nothing-due"
    UNCHANGED = "unchanged"
    NO_BASELINE = "no-baseline"


class State(enum.StrEnum):
    """A stage in the ledger."""

    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    FAILED = "failed"
    DESTROYED = "destroyed"


class Result(enum.StrEnum):
    """A stage after a run."""

    DONE = "done"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_RUN = "not-run"


class DeployFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refs that may deploy to an environment, as shell patterns."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One AWS account and region to deploy to. `after` names the environment that content has to
    pass first.

    `via_role_arn` is a role, of whatever account, that the token is exchanged for, and from which
    `role_arn` is then assumed; `verify_via_role_arn` the same for `verify_role_arn`. `values` are
    what `{values.NAME}` stands for.
    """

    account_id: str
    region: str
    role_arn: str
    verify_role_arn: str | None = None
    via_role_arn: str | None = None
    verify_via_role_arn: str | None = None
    session_seconds: int = 3600
    session_policy: dict[str, Any] = {}
    session_policy_arns: tuple[str, ...] = ()
    deploy_from: DeployFrom = DeployFrom()
    after: str | None = None
    protected: bool = False
    allow_destroy: bool = False
    values: dict[str, str] = {}


PARTITIONS = {
    "aws-cn": "cn-",
    "aws-us-gov": "us-gov-",
    "aws-eusc": "eusc-",
    "aws-iso": "us-iso-",
    "aws-iso-b": "us-isob-",
    "aws-iso-e": "eu-isoe-",
    "aws-iso-f": "us-isof-",
}
"""How the regions of each AWS partition begin; all others are in `aws`."""

ANY_PARTITION = rf"(aws|{'|'.join(PARTITIONS)})"
"""A regular expression for the second field of an ARN, with one group."""


def partition_of(region: str) -> str:
    """The AWS partition that a region is in, such as `aws` or `aws-cn`."""
    return next(
        (name for name, beginning in PARTITIONS.items() if region.startswith(beginning)), "aws"
    )


class Context(msgspec.Struct, frozen=True):
    """What the provider says of this job. `sequence` is the provider's own order of pipelines, None
    where it has none.

    `provider` is `gitlab`, `github` or `local`; `event` is `push`, `merge-request`, `schedule` or
    `manual`; `ref` is a short name (`main`, `v1.2`), `ref_type` says whether it is a `branch` or a
    `tag`.
    """

    provider: str
    event: str
    ref: str | None
    ref_type: str
    commit: str | None = None
    base: str | None = None
    before: str | None = None
    default_branch: str | None = None
    merge_request: int | None = None
    protected: bool = False
    sequence: int | None = None
    pipeline_url: str | None = None
    actor: str | None = None
    project: str | None = None
    fork: bool = False

    @property
    def mode(self) -> Mode:
        return Mode.VERIFY if self.event == "merge-request" else Mode.DEPLOY


class Owner(msgspec.Struct, frozen=True):
    """Whose an object is. `text` is how the object itself says so; names have no slash."""

    project: str
    environment: str
    stage: str

    @property
    def text(self) -> str:
        return f"{self.project}/{self.environment}/{self.stage}"

    @property
    def named(self) -> str:
        """The owner for people."""
        return f"stage {self.stage} of {self.project}'s environment {self.environment}"

    @classmethod
    def read(cls, text: str) -> "Owner | None":
        """The owner that a text names; None for a text of another form."""
        parts = text.split("/")
        return cls(*parts) if len(parts) == 3 and all(parts) else None


class Record(msgspec.Struct, frozen=True, omit_defaults=False):
    """What the ledger holds of one stage in one environment. Times are ISO 8601, UTC.

    Records of earlier versions name no `project` and `environment`.
    """

    schema: int
    stage: str
    fingerprint: str
    effective: str | None
    state: State
    commit: str | None
    ref: str | None
    provider: str | None
    sequence: int | None
    pipeline_url: str | None
    started_at: str
    finished_at: str | None
    data: dict[str, Any] = {}
    project: str | None = None
    environment: str | None = None

    @property
    def since(self) -> str:
        """When it got into its state, for people."""
        return f"{(self.finished_at or self.started_at)[:19].replace('T', ' ')} UTC"


class Newest(msgspec.Struct, frozen=True):
    """The newest of a provider's pipelines that found, or left, a whole environment as its commit
    says.

    A stage's record says this only of stages that were due. An older pipeline that comes late must
    not deploy over a newer one for which nothing was due either.
    """

    schema: int
    provider: str
    sequence: int
    commit: str
    pipeline_url: str | None = None

    def newer_than(self, other: "Newest") -> bool:
        return self.provider == other.provider and self.sequence > other.sequence


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Terraform output. The value of a sensitive one is UNSET wherever it came out of the ledger."""

    type: Any = None
    value: Any = msgspec.UNSET
    sensitive: bool = False


class Baseline(msgspec.Struct, frozen=True):
    """What a plan compares with: `ledger`, `revision` (a commit) or `none`."""

    kind: str
    revision: str | None = None


class StagePlan(msgspec.Struct, frozen=True):
    """One stage of a plan. `paths` are repository paths as bytes, rendered by `report`."""

    name: str
    kind: str
    status: Status
    reason: Reason
    detail: str
    fingerprint: str
    deployed_fingerprint: str | None
    paths: tuple[bytes, ...]
    needs: tuple[str, ...]
    steps: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """Which stages are due, and why; pure data. Stages stand in the order in which they run."""

    project: str
    environment: str
    mode: Mode
    provider: str
    commit: str
    baseline: Baseline
    stages: tuple[StagePlan, ...]
    warnings: tuple[str, ...] = ()


class StageStatus(msgspec.Struct, frozen=True):
    """One stage in one environment. `drift` says whether this commit holds other content than what
    is deployed.
    """

    name: str
    kind: str
    state: str
    commit: str | None
    ref: str | None
    pipeline_url: str | None
    finished_at: str | None
    fingerprint: str | None
    drift: bool


class EnvironmentStatus(msgspec.Struct, frozen=True):
    """What is deployed in one environment; `unreadable` says why it is not known, where this job
    may not look.
    """

    name: str
    account_id: str
    region: str
    stages: tuple[StageStatus, ...] = ()
    unreadable: str | None = None


class Verdict(enum.StrEnum):
    """What came of one check of `cipipe doctor`."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Check(msgspec.Struct, frozen=True):
    """One check. `fix` is what to do about a warning or a failure, `id` a failure's section in
    docs/errors.md.
    """

    name: str
    result: Verdict
    detail: str
    fix: str | None = None
    id: str | None = None


class StageReport(msgspec.Struct, frozen=True):
    """What became of one stage. `seconds` is wall time; `made` is one line on what it made."""

    name: str
    kind: str
    result: Result
    reason: str
    detail: str
    seconds: float
    made: str = ""


class Report(msgspec.Struct, frozen=True):
    """What became of a run."""

    project: str
    environment: str
    mode: Mode
    commit: str
    stages: tuple[StageReport, ...]

    @property
    def failed(self) -> bool:
        return any(stage.result in {Result.FAILED, Result.NOT_RUN} for stage in self.stages)
