"""What a kind of stage is: a module that parses its settings and says its steps.

`steps` is pure: a plan shows the titles of the very objects that a run executes. Effects happen in
`Step.run`, through the doors that `StageRun` carries.
"""

import enum
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

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


class Stage(msgspec.Struct, frozen=True):
    """One entry under `[stages]`. `settings` is the kind's own type."""

    name: str
    kind: str
    settings: Any
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    when: When = "due"
    environments: tuple[str, ...] = ()
    """The environments that have the stage; empty: all of them."""


class PlaceType(enum.StrEnum):
    """What a place is: S3 keys (`FOLDER`, `OBJECT`), images, Terraform state, the ledger's records."""

    FOLDER = "folder"
    OBJECT = "object"
    REPOSITORY = "repository"
    STATE = "state"
    RECORDS = "records"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside that a stage of one environment has to itself.

    `name` is the same wherever it is the same place (a `FOLDER` is inside another whose name its
    own begins with), `shown` is for people. `key` is the setting that says so, below the stage's
    table, and `hint` how to change it.
    """

    type: PlaceType
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
    if isinstance(value, Reference):
        yield path, value
    for key, item in _parts(value):
        yield from references(item, f"{path}.{key}" if path else key)


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every literal string in a kind's settings, with its key path."""
    if isinstance(value, str):
        yield path, value
    for key, item in _parts(value):
        yield from strings(item, f"{path}.{key}" if path else key)


def replaced(value: Any, change: Callable[[Reference | str], Any]) -> Any:
    """The same settings with every reference and every string put through `change`."""
    if isinstance(value, (Reference, str)):
        return change(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{key: replaced(item, change) for key, item in _parts(value)}
        )
    if isinstance(value, dict):
        return {key: replaced(item, change) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(replaced(item, change) for item in value)
    return value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct) and not isinstance(value, Reference):
        yield from ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, tuple):
        yield from ((str(number), item) for number, item in enumerate(value))


class StageRun(msgspec.Struct):
    """Everything that a step may use while it runs, and where it leaves what it made.

    `stage.settings` has every reference resolved. `tree` names the git tree that the fingerprint
    was made from; file contents are read from there, not from disk, wherever the tool allows it.
    `entries` are the stage's files in that tree. `outputs` are the Terraform outputs of the stages
    that this one needs. `data` becomes `data` in the stage's record; it starts as what the previous
    record held, and is written with the `deploying` record before the first step that is not READ.
    `made` is one line for the summary. `made_outputs` is set by a kind that produces outputs.
    `standing`: the record says that all of this, outputs included, is deployed. `settled` says,
    after the steps that read, that nothing is left to write. `allow_empty` lets a stage deploy
    nothing. `still_ours` raises ConflictError where a later run has taken the stage over: ask
    before each write that AWS takes unconditionally. `interrupt` is told of Ctrl-C: stages may run
    in threads, where nothing raises it; `still_ours` asks it too. `scratch` is a private folder
    that goes when the run ends. `owned` is what all stages of the environment own in S3, as
    `s3://BUCKET/KEY`: a destroy deletes that, and refuses where there is more. `beside` gives what
    the records of the other stages of this kind hold at that moment, by stage. `command_options`
    are those of this run that a command has to repeat to work on the same environment.
    `state_login` gives the variables that let this job in to a store of Terraform states, by its
    address. `claims` says whose the stage's places are, where that is asked; `siblings` are the
    names of all other stages of the environment.
    """

    project: str
    environment_name: str
    environment: Environment
    mode: Mode
    stage: Stage
    repository: Repository
    commit: str
    commit_time: int
    tree: str
    entries: tuple[Entry, ...]
    fingerprint: str
    aws: "Aws"
    child_env: Mapping[str, str]
    outputs: Mapping[str, Output]
    previous: Record | None
    redactor: Redactor
    line: Callable[[str], None]
    scratch: Path
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    still_ours: Callable[[], None] = lambda: None
    owned: frozenset[str] = frozenset()
    siblings: frozenset[str] = frozenset()
    claims: "Claims | None" = None
    beside: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    sandbox: bool = False
    command_options: tuple[str, ...] = ()
    state_login: Callable[[str], Mapping[str, str]] = lambda _: {}
    allow_replace: bool = False
    allow_empty: bool = False
    standing: bool = False
    settled: bool = False
    data: dict[str, Any] = {}
    made: str = ""
    made_outputs: dict[str, Output] | None = None


class Step(msgspec.Struct, frozen=True):
    """One thing that a stage does. `title` is what a plan shows; `effect` is what it does to the
    world outside.
    """

    title: str
    effect: Effect
    run: Callable[[StageRun], None]


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
    stage: Stage,  # noqa: ARG001 - part of the Protocol
    entries: Iterable[Entry],  # noqa: ARG001
    repository: Repository,  # noqa: ARG001
    recorded: Mapping[str, Any],  # noqa: ARG001
) -> frozenset[str]:
    """`Kind.consumes` where files ask for no output."""
    return frozenset()


def owns_nothing(data: Mapping[str, Any]) -> frozenset[str]:  # noqa: ARG001 - part of the Protocol
    """`Kind.owns` where nothing that a stage makes is an object in S3."""
    return frozenset()


def needs_no_file(stage: Stage) -> Iterable[Needed]:  # noqa: ARG001 - part of the Protocol
    """`Kind.needed` where settings name no file of the repository."""
    return ()


def has_no_place(stage: Stage, environment: Environment) -> Iterable[Place]:  # noqa: ARG001 - part of the Protocol
    """`Kind.places` where a stage has nothing outside to itself."""
    return ()


def repository_path(*parts: str) -> str:
    """A path seen from the top of the repository, which is `""`; one that leads out of it begins
    with `..`.
    """
    path = posixpath.normpath(posixpath.join(*parts).lstrip("/"))
    return "" if path == "." else path


class Kind(Protocol):
    """A module in `stages/`. Listed in `stages/__init__.py`."""

    NAME: str
    Settings: type[Settings]
    PATHS: tuple[str, ...]
    """The settings that name a file or folder of the repository, which count into the fingerprint
    as filled in.
    """

    def problems(self, stage: Stage) -> Iterable[Problem]:
        """What is wrong with the settings beyond their types; `where` is the key below the stage's
        table.
        """
        ...

    def tools(self, stage: Stage) -> tuple[str, ...]:
        """The outside tools that the steps need: `terraform`, `docker`."""
        ...

    def consumes(
        self,
        stage: Stage,
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

    def places(self, stage: Stage, environment: Environment) -> Iterable[Place]:
        """What the stage has to itself, as far as its settings are known; all their placeholders
        are filled in.
        """
        ...

    def needed(self, stage: Stage) -> Iterable[Needed]:
        """The files and folders that have to be there; all placeholders are filled in."""
        ...

    def inputs(self, stage: Stage, repository: Repository, tree: str) -> Iterable[Input]:
        """What the settings and files name as made from; a plan warns where `paths` leave it out.
        Reads `tree` only.
        """
        ...

    def steps(self, stage: Stage, mode: Mode, *, tag: str) -> tuple[Step, ...]:
        """What a run in that mode does, in order. Pure. `tag` is the first 20 hex digits of the
        fingerprint.
        """
        ...
