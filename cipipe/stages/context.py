"""What a step gets to work with, and where it leaves what it produces.

A step reads its `StageContext` and adds to its `StageResult`; it shares
nothing else with the runner.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import msgspec

from cipipe.interrupt import Interrupt
from cipipe.model import Effect, Environment, Mode, Output, Record
from cipipe.pace import USUAL, Pace
from cipipe.redact import Redactor
from cipipe.results import Preflight
from cipipe.stages.settings import S, Stage
from cipipe.tools.git.client import Entry, Repository

if TYPE_CHECKING:
    from cipipe.ownership import Ownership
    from cipipe.rescued import RescuedStates
    from cipipe.reviews import Reviews
    from cipipe.tools.aws.clients import Aws


class EarlierStage(msgspec.Struct, frozen=True):
    """The same stage in the environment before this one (`after`)."""

    environment_name: str
    # May read there.
    aws: "Aws"
    record: Record | None


class StageContext(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """Everything that a step may use while it runs. What it produces goes into a `StageResult`."""

    project: str
    environment_name: str
    environment: Environment
    mode: Mode

    # References in its settings are resolved. In verify mode, outputs that
    # do not exist yet stay references.
    stage: Stage[S]

    # The git tree that the fingerprint was made from. Files are read from
    # there, not from disk, wherever the tool allows it; `entries` are those
    # of this stage.
    repository: Repository
    commit: str
    # Seconds since the epoch.
    commit_time: int
    tree: str
    entries: tuple[Entry, ...]
    fingerprint: str

    aws: "Aws"
    # The whole environment of child processes.
    child_env: Mapping[str, str]
    redactor: Redactor
    # Prints a line below the stage's current step.
    line: Callable[[str], None]
    # A private folder that is deleted when the run ends.
    scratch: Path

    # The outputs of the stages that this one needs, directly or
    # not.
    outputs: Mapping[str, Output] = {}
    # In verify mode: there will be no others.
    outputs_complete: bool = False
    # The stage's record as this run found it.
    previous: Record | None = None
    # The record says that all of this, outputs included, is deployed.
    is_current: bool = False

    # Set by Ctrl-C. Stages may run in threads, where nothing raises
    # KeyboardInterrupt.
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    # Raises ConflictError where a later run took over the stage, and
    # InterruptedRun after Ctrl-C. Call it before each write that AWS
    # accepts unconditionally.
    still_ours: Callable[[], None] = lambda: None
    pace: Pace = USUAL

    # What all stages of the environment own in S3, as `s3://BUCKET/KEY`. A
    # destroy deletes that, and refuses if there is more.
    owned: frozenset[str] = frozenset()
    # The images that the stages which are destroyed before this one delete,
    # as `HOST/NAME:TAG`.
    removed: Callable[[], frozenset[str]] = frozenset
    # The bucket of the ledger.
    ledger_bucket: str = ""
    # Who owns the stage's resources; None where nobody has to ask.
    ownership: "Ownership | None" = None
    # What merge requests showed; None where the environment does not compare with it.
    reviews: "Reviews | None" = None
    # Keeps a Terraform state that could not be written; None where nothing
    # is written.
    rescued: "RescuedStates | None" = None
    # The names of all other stages of the environment.
    siblings: frozenset[str] = frozenset()
    # Reads the `data` of the other stages of this kind from their current
    # records, by stage.
    beside: Callable[[], Mapping[str, Mapping[str, Any]]] = dict

    # The stage in the environment that `after` names; None where nothing
    # comes before, or the stage is not there.
    earlier: Callable[[], EarlierStage | None] = lambda: None

    sandbox: bool = False
    # The options of this run that another command needs to work on the same
    # environment.
    command_options: tuple[str, ...] = ()
    # Gives the variables that log this job in to an HTTP store of Terraform
    # states, by address.
    state_login: Callable[[str], Mapping[str, str]] = lambda _: {}
    # --allow-replace
    allow_replace: bool = False
    # --allow-empty
    allow_empty: bool = False
    # Changes need no approval: somebody tries a deployment in a sandbox.
    approval_waived: bool = False
    # --empty
    empty: bool = False
    # --dry-run: nothing is written, not even a lock.
    dry_run: bool = False

    @property
    def again(self) -> str:
        """The options with which another command works on the same environment."""
        return shlex.join(["--env", self.environment_name, *self.command_options])


class RunnerInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a `StageContext` that only the runner knows."""

    outputs: Mapping[str, Output]
    outputs_complete: bool
    previous: Record | None
    line: Callable[[str], None]
    still_ours: Callable[[], None]
    beside: Callable[[], Mapping[str, Mapping[str, Any]]]
    interrupt: Interrupt
    removed: Callable[[], frozenset[str]] = frozenset


class StageResult(msgspec.Struct, kw_only=True):
    """What the steps of one stage produce. Each step may add to it."""

    # Becomes `data` in the stage's record. It starts as what the previous
    # record has, and is first written with state `deploying`, before the
    # first step that is not READ.
    data: dict[str, Any] = {}
    # One line for the summary at the end of the run.
    summary: str = ""
    # The outputs that the stage gives to others; None if its kind gives
    # none.
    outputs: dict[str, Output] | None = None
    # There may be more of them, which were not planned.
    more_outputs: bool = False
    # What was found out, as JSON, by topic; for the report.
    findings: dict[str, Any] = {}
    # What a destroy found out before it deletes anything.
    preflight: Preflight = msgspec.field(default_factory=Preflight)
    # Set by a READ step: there is nothing left to write.
    up_to_date: bool = False

    def keep(self, data: msgspec.Struct) -> None:
        """Set `data` to a kind's own struct, as the JSON that the record stores."""
        self.data = msgspec.to_builtins(data)

    @classmethod
    def after(cls, previous: Record | None) -> "StageResult":
        """The result that a run starts from, given the stage's record."""
        return cls(data=dict(previous.data) if previous else {})


Action: TypeAlias = Callable[[StageContext[Any], StageResult], None]
"""What a step does when it runs. The context is that of the step's own kind."""


class Step(msgspec.Struct, frozen=True):
    """One thing that a stage does."""

    # As a plan shows it.
    title: str
    # What it does to the world outside this machine.
    effect: Effect
    run: Action
