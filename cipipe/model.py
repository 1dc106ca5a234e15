"""The nouns: environment, context, plan, record. Frozen data, with no
behaviour but what can be derived from it.
"""

import enum
from typing import Any

import msgspec

SCHEMA = 1

# Hex digits of a fingerprint that `{ fingerprint = … }` and image tags use:
# 80 bits, short enough to read.
FINGERPRINT_TAG_LENGTH = 20


class Mode(enum.StrEnum):
    """What a run may do: `verify` reads only (merge and pull requests)."""

    VERIFY = "verify"
    DEPLOY = "deploy"
    DESTROY = "destroy"


class Effect(enum.StrEnum):
    """What a step does to the world outside this machine."""

    READ = "read"
    # Records what a merge request showed: all that `verify` may write.
    REVIEW = "review"
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


class Review(enum.StrEnum):
    """What a deployment does about changes that no merge request showed."""

    OFF = "off"
    WARN = "warn"
    REQUIRED = "required"


class Approval(enum.StrEnum):
    """Whether people approve changes of infrastructure before they are applied."""

    NONE = "none"
    MANUAL = "manual"


class DeployFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refs that may deploy to an environment, as shell patterns."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[environments.NAME]`: one AWS account and region to deploy to."""

    # Twelve digits.
    account_id: str
    region: str

    # The role that runs assume, and the one that runs in `verify` mode do.
    role_arn: str
    verify_role_arn: str | None = None

    # Roles, of whatever account, that the token is exchanged for, and from
    # which the two above are then assumed.
    via_role_arn: str | None = None
    verify_via_role_arn: str | None = None

    session_seconds: int = 3600

    # An IAM policy, and ARNs of managed ones, that limit what the role may
    # do in a session.
    session_policy: dict[str, Any] = {}
    session_policy_arns: tuple[str, ...] = ()

    deploy_from: DeployFrom = DeployFrom()

    # The environment at the provider that every job which deploys here
    # names, such as one of GitHub's with reviewers.
    job_environment: str | None = None

    # The environment that content has to be deployed to before it comes
    # here.
    after: str | None = None

    # Whether Terraform may do more than what merge requests showed.
    review: Review = Review.OFF

    # With `manual`, a Terraform plan that changes something is applied only
    # if it was saved and approved.
    approval: Approval = Approval.NONE

    # People are asked before they deploy here; nothing is destroyed unless
    # `allow_destroy` says so.
    protected: bool = False
    allow_destroy: bool = False

    # What `{values.NAME}` stands for, by NAME.
    values: dict[str, str] = {}


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says of this job."""

    # `gitlab`, `github` or `local`.
    provider: str

    # `push`, `merge-request`, `schedule` or `manual`.
    event: str

    # A short name, such as `main` or `v1.2`, and whether it is a `branch`
    # or a `tag`.
    ref: str | None
    ref_type: str

    commit: str | None = None

    # The target of a request: a commit or a branch.
    base: str | None = None

    # The commit that was at the ref before this push.
    before: str | None = None

    default_branch: str | None = None
    merge_request: int | None = None

    # Whether the ref is protected.
    protected: bool = False

    # The provider's own order of pipelines, None where it has none.
    sequence: int | None = None

    pipeline_url: str | None = None
    actor: str | None = None

    # The project's path at the provider.
    project: str | None = None

    # The request comes from a fork.
    fork: bool = False

    @property
    def mode(self) -> Mode:
        return Mode.VERIFY if self.event == "merge-request" else Mode.DEPLOY


class Owner(msgspec.Struct, frozen=True):
    """The stage that an object belongs to. Names have no slash."""

    project: str
    environment: str
    stage: str

    @property
    def text(self) -> str:
        """How the object itself names its owner."""
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
    """What the ledger has of one stage in one environment."""

    schema: int
    stage: str
    fingerprint: str

    # The digest of the fingerprint and the outputs that were consumed; None
    # until those are known.
    effective: str | None

    state: State

    # Where it was deployed from: commit, ref, provider, and that one's
    # order of pipelines.
    commit: str | None
    ref: str | None
    provider: str | None
    sequence: int | None
    pipeline_url: str | None

    # ISO 8601, UTC.
    started_at: str
    finished_at: str | None

    # What the stage's kind keeps, in a form of its own.
    data: dict[str, Any] = {}

    # The owner. Records of earlier versions do not name it.
    project: str | None = None
    environment: str | None = None

    @property
    def since(self) -> str:
        """When it got into its state, for people."""
        return f"{(self.finished_at or self.started_at)[:19].replace('T', ' ')} UTC"


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to deploy or destroy a stage that did not succeed. It
    decides nothing: the record does.
    """

    # The error's id, a section of docs/errors.md.
    error: str

    # ISO 8601, UTC.
    at: str

    # What was to be deployed, and by which pipeline.
    commit: str
    ref: str | None
    provider: str | None
    sequence: int | None
    pipeline_url: str | None

    def is_newer_than(self, record: Record | None) -> bool:
        """Whether the record says nothing of a later attempt."""
        return record is None or self.at > (record.finished_at or record.started_at)


class Newest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest of a provider's pipelines that found, or left, a whole
    environment as its commit says.

    A stage's record says this only of stages that were due. An older
    pipeline that comes late must not deploy over a newer one for which
    nothing was due either.
    """

    schema: int
    provider: str
    sequence: int
    commit: str
    pipeline_url: str | None = None

    def newer_than(self, other: "Newest") -> bool:
        return self.provider == other.provider and self.sequence > other.sequence


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Terraform output."""

    # As Terraform writes types: a word, or a list.
    type: Any = None

    # UNSET for a sensitive one that was read from the ledger, which does
    # not store it.
    value: Any = msgspec.UNSET

    sensitive: bool = False

    # It is only known after apply: in verify mode, where the plan says so.
    # The value is UNSET, and the type None where nobody knows it.
    unknown: bool = False


class Baseline(msgspec.Struct, frozen=True):
    """What a plan compares with."""

    # `ledger`, `revision` or `none`.
    kind: str

    # Of a revision: the commit's id.
    revision: str | None = None


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a plan."""

    name: str
    kind: str
    status: Status
    reason: Reason

    # The reason for people.
    detail: str

    fingerprint: str

    # That of what is deployed, or was in the commit that is compared with;
    # None where nothing is.
    deployed_fingerprint: str | None

    # Repository paths that changed, as bytes; `report` renders them.
    paths: tuple[bytes, ...]

    needs: tuple[str, ...]

    # The titles of its steps.
    steps: tuple[str, ...]

    # The last attempt, if it failed; `cipipe plan` looks for it.
    last_failure: FailedAttempt | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which stages are due, and why; pure data."""

    project: str
    environment: str
    mode: Mode
    provider: str
    commit: str
    baseline: Baseline

    # In the order in which they run.
    stages: tuple[StagePlan, ...]

    warnings: tuple[str, ...] = ()
