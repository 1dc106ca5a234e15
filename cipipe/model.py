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


class DeployFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refs that may deploy to an environment, as shell patterns."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
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


class Context(msgspec.Struct, frozen=True, kw_only=True):
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


class Record(msgspec.Struct, frozen=True, omit_defaults=False, kw_only=True):
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


class Newest(msgspec.Struct, frozen=True, kw_only=True):
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


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
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


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which stages are due, and why; pure data. Stages stand in the order in which they run."""

    project: str
    environment: str
    mode: Mode
    provider: str
    commit: str
    baseline: Baseline
    stages: tuple[StagePlan, ...]
    warnings: tuple[str, ...] = ()
