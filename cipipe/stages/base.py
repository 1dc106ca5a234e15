"""What a kind of stage is: a module that parses its settings and says its steps.

`steps` is pure: a plan shows the titles of the very objects that a run executes. Effects happen in
`Step.run`, through the clients that `StageContext` has.
"""

import enum
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from cipipe.errors import Problem
from cipipe.interrupt import Interrupt
from cipipe.model import Effect, Environment, Mode, Output, Record
from cipipe.redact import Redactor
from cipipe.tools.git.client import Entry, Repository

if TYPE_CHECKING:
    from cipipe.claims import Claims
    from cipipe.tools.aws.clients import Aws

When = Literal["due", "nothing-due", "always"]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A setting whose value comes from elsewhere: a Terraform output, a stage's fingerprint, a
    variable.
    """

    output: str | None = None
    fingerprint: str | None = None
    env: str | None = None
    default: str | None = None


Setting = str | Reference
"""A literal or a reference. When a step runs, every reference has become a string: use `literal`."""


def literal(setting: Setting) -> str:
    """The value of a setting that has been resolved."""
    if isinstance(setting, Reference):
        message = f"setting {setting} was used before it was resolved"
        raise TypeError(message)
    return setting


class Settings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """Base of each kind's settings: what stands in the stage's table besides `kind`, `paths`,
    `needs` and `when`.

    Defaults stay out of the fingerprint, so that a setting that a later version adds makes nothing
    due.
    """


S = TypeVar("S", bound=Settings)
"""A kind's own type of settings."""


class Stage(msgspec.Struct, Generic[S], frozen=True):
    """One entry under `[stages]`."""

    name: str
    kind: str
    settings: S
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"
    environments: tuple[str, ...] = ()
    """The environments that have the stage; empty: all of them."""


AnyStage: TypeAlias = Stage[Any]
"""A stage whose kind is not known here."""


class ResourceType(enum.StrEnum):
    """What a resource is: S3 keys (`FOLDER`, `OBJECT`), images, Terraform state, the ledger's records."""

    FOLDER = "folder"
    OBJECT = "object"
    REPOSITORY = "repository"
    STATE = "state"
    RECORDS = "records"


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside that a stage of one environment has to itself.

    `name` is the same wherever it is the same resource (a `FOLDER` is inside another whose name its
    own begins with), `shown` is for people. `key` is the setting that says so, below the stage's
    table, and `hint` how to change it.
    """

    type: ResourceType
    name: str
    shown: str
    key: str
    hint: str


def outside(path: str, key: str) -> Iterator[Problem]:
    """The problem of a path that is not one inside the repository."""
    if path.startswith(("/", "~")) or posixpath.normpath(path).split("/")[0] == "..":
        hint = "Write it from the top of the repository, without `..`."
        yield Problem("config-bad-path", f"{path!r} leads out of the repository", key, hint)


def shown(setting: Setting) -> str:
    """A setting as a plan shows it: what is not known yet by its name, as `{ecr_repository_url}`."""
    return (
        f"{{{setting.output or setting.fingerprint or setting.env}}}"
        if isinstance(setting, Reference)
        else setting
    )


def references(value: Any, path: str = "") -> Iterator[tuple[str, Reference]]:
    """Every reference in a kind's settings, with its key path."""
    return ((key, leaf) for key, leaf in _leaves(value, path) if isinstance(leaf, Reference))


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every literal string in a kind's settings, with its key path."""
    return ((key, leaf) for key, leaf in _leaves(value, path) if isinstance(leaf, str))


def replaced(value: Any, change: Callable[[Reference | str], Any]) -> Any:
    """The same settings with every reference and every string put through `change`."""
    if isinstance(value, (Reference, str)):
        return change(value)
    if isinstance(value, dict) and value:
        return {key: replaced(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and value:
        return tuple(replaced(item, change) for item in value)
    if not isinstance(value, msgspec.Struct):
        return value

    # Most fields have their defaults, and a configuration may have thousands of stages: only what
    # the change makes different is built anew.
    changes = {}
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if item is not None:
            changed = replaced(item, change)
            if changed is not item:
                changes[name] = changed
    return msgspec.structs.replace(value, **changes) if changes else value


def _leaves(value: Any, path: str) -> list[tuple[str, "str | Reference"]]:
    """Every string and reference in a value, with its key path."""
    found: list[tuple[str, str | Reference]] = []

    def visit(item: Any, key: str) -> None:
        if isinstance(item, (str, Reference)):
            found.append((key, item))
        elif isinstance(item, msgspec.Struct):
            for name in item.__struct_fields__:
                inner = getattr(item, name)
                if inner is not None:
                    visit(inner, f"{key}.{name}" if key else name)
        elif isinstance(item, dict):
            for name, inner in item.items():
                visit(inner, f"{key}.{name}" if key else name)
        elif isinstance(item, tuple):
            for number, inner in enumerate(item):
                visit(inner, f"{key}.{number}" if key else str(number))

    visit(value, path)
    return found


class StageContext(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """Everything that a step may use while it runs. What it produces goes into a `StageResult`."""

    project: str
    environment_name: str
    environment: Environment
    mode: Mode

    # Every reference in its settings is resolved.
    stage: Stage[S]

    # The git tree that the fingerprint was made from. Files are read from there, not from disk,
    # wherever the tool allows it; `entries` are those of this stage.
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

    # The Terraform outputs of the stages that this one needs, directly or not.
    outputs: Mapping[str, Output] = {}
    # The stage's record as this run found it.
    previous: Record | None = None
    # The record says that all of this, outputs included, is deployed.
    is_current: bool = False

    # Set by Ctrl-C. Stages may run in threads, where nothing raises KeyboardInterrupt.
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    # Raises ConflictError where a later run took over the stage, and InterruptedRun after Ctrl-C.
    # Call it before each write that AWS accepts unconditionally.
    still_ours: Callable[[], None] = lambda: None

    # What all stages of the environment own in S3, as `s3://BUCKET/KEY`. A destroy deletes that,
    # and refuses if there is more.
    owned: frozenset[str] = frozenset()
    # Who owns the stage's resources; None where nobody has to ask.
    claims: "Claims | None" = None
    # The names of all other stages of the environment.
    siblings: frozenset[str] = frozenset()
    # Reads the `data` of the other stages of this kind from their current records, by stage.
    beside: Callable[[], Mapping[str, Mapping[str, Any]]] = dict

    sandbox: bool = False
    # The options of this run that another command needs to work on the same environment.
    command_options: tuple[str, ...] = ()
    # Gives the variables that log this job in to an HTTP store of Terraform states, by address.
    state_login: Callable[[str], Mapping[str, str]] = lambda _: {}
    # --allow-replace
    allow_replace: bool = False
    # --allow-empty
    allow_empty: bool = False


class StageResult(msgspec.Struct, kw_only=True):
    """What the steps of one stage produce. Each step may add to it."""

    # Becomes `data` in the stage's record. It starts as what the previous record has, and is first
    # written with state `deploying`, before the first step that is not READ.
    data: dict[str, Any] = {}
    # One line for the summary at the end of the run.
    summary: str = ""
    # The Terraform outputs that the stage produced; None if its kind produces none.
    outputs: dict[str, Output] | None = None
    # Set by a READ step: there is nothing left to write.
    up_to_date: bool = False

    @classmethod
    def after(cls, previous: Record | None) -> "StageResult":
        """The result that a run starts from, given the stage's record."""
        return cls(data=dict(previous.data) if previous else {})


Action: TypeAlias = Callable[[StageContext[Any], StageResult], None]
"""What a step does when it runs. The context is that of the step's own kind."""


class Step(msgspec.Struct, frozen=True):
    """One thing that a stage does. `title` is what a plan shows; `effect` is what it does to the
    world outside.
    """

    title: str
    effect: Effect
    run: Action


MOST_READ = 256 * 1024
"""Bytes of a file that is read for its inputs. Nobody writes longer ones by hand, and a plan does
not wait for them.
"""


class Input(msgspec.Struct, frozen=True):
    """A file or folder of the repository that a stage is made from; `told` says what takes it.

    `path` is seen from the top of the repository, and may lead out of it. Of a folder all files
    count; with `endings` only those that end so; `flat` leaves out folders below it. `some`: it is
    enough if `paths` name something of it. `wild` is a pattern for what lies below the folder, with
    the meaning of a Dockerfile's `COPY`: a folder that it matches counts with all that is in it
    (with `flat`, not at all). `exclude` are patterns as in `.dockerignore`.
    """

    path: str
    told: str
    endings: tuple[str, ...] = ()
    flat: bool = False
    some: bool = False
    wild: str = ""
    exclude: tuple[str, ...] = ()


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder that a stage cannot do without, seen from the top of the repository; `key`
    is the setting.

    `on_disk`: it is taken from disk, and not from the commit. `may_vanish`: a stage that was
    deployed can do without it.
    """

    key: str
    path: str
    folder: bool = False
    on_disk: bool = False
    may_vanish: bool = False


def consumes_nothing(
    stage: AnyStage,  # noqa: ARG001 - part of the Protocol
    entries: Iterable[Entry],  # noqa: ARG001
    repository: Repository,  # noqa: ARG001
    recorded: Mapping[str, Any],  # noqa: ARG001
) -> frozenset[str]:
    """`Kind.consumes` where files ask for no output."""
    return frozenset()


def owns_nothing(data: Mapping[str, Any]) -> frozenset[str]:  # noqa: ARG001 - part of the Protocol
    """`Kind.owns` where nothing that a stage makes is an object in S3."""
    return frozenset()


def needs_no_file(stage: AnyStage) -> Iterable[Needed]:  # noqa: ARG001 - part of the Protocol
    """`Kind.needed` where settings name no file of the repository."""
    return ()


def has_no_resources(stage: AnyStage, environment: Environment) -> Iterable[Resource]:  # noqa: ARG001 - part of the Protocol
    """`Kind.resources` where a stage has nothing outside to itself."""
    return ()


def repository_path(*parts: str) -> str:
    """A path seen from the top of the repository, which is `""`; one that leads out of it begins
    with `..`.
    """
    path = posixpath.normpath(posixpath.join(*parts).lstrip("/"))
    return "" if path == "." else path


class Kind(Protocol[S]):
    """A module in `stages/`. Listed in `stages/__init__.py`."""

    NAME: str
    Settings: type[S]
    PATHS: tuple[str, ...]
    """The settings that name a file or folder of the repository, which count into the fingerprint
    as filled in.
    """

    def problems(self, stage: Stage[S]) -> Iterable[Problem]:
        """What is wrong with the settings beyond their types; `where` is the key below the stage's
        table.
        """
        ...

    def tools(self, stage: Stage[S]) -> tuple[str, ...]:
        """The outside tools that the steps need: `terraform`, `docker`."""
        ...

    def consumes(
        self,
        stage: Stage[S],
        entries: Iterable[Entry],
        repository: Repository,
        recorded: Mapping[str, Any],
    ) -> frozenset[str]:
        """The Terraform outputs that the stage's files ask for, besides those in its settings.

        `recorded` is `data` of the record, if these very files are what is deployed.
        """
        ...

    def owns(self, data: Mapping[str, Any]) -> frozenset[str]:
        """The objects in S3 that a stage with this `data` in its record owns, as `s3://BUCKET/KEY`."""
        ...

    def resources(self, stage: Stage[S], environment: Environment) -> Iterable[Resource]:
        """What the stage has to itself, as far as its settings are known; all their placeholders
        are filled in.
        """
        ...

    def needed(self, stage: Stage[S]) -> Iterable[Needed]:
        """The files and folders that have to be there; all placeholders are filled in."""
        ...

    def inputs(self, stage: Stage[S], repository: Repository, tree: str) -> Iterable[Input]:
        """What the settings and files name as made from; a plan warns where `paths` leave it out.
        Reads `tree` only.
        """
        ...

    def steps(self, stage: Stage[S], mode: Mode, *, tag: str) -> tuple[Step, ...]:
        """What a run in that mode does, in order. Pure. `tag` is the first 20 hex digits of the
        fingerprint.
        """
        ...
