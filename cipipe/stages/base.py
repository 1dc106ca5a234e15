"""What a kind of stage is: a module that checks its settings and lists the
steps of a run.

`steps` is pure: a plan shows the titles of the very objects that a run
executes.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from cipipe.errors import Problem
from cipipe.model import Environment, Mode, Record
from cipipe.results import DriftFinding
from cipipe.stages.context import StageContext, Step
from cipipe.stages.settings import AnyStage, S, Stage
from cipipe.tools.git.client import Entry, Repository

MAX_INPUT = 256 * 1024
"""Bytes of a file that is parsed for its inputs. Files that people write
are smaller, and a plan does not wait for larger ones.
"""


class ResourceType(enum.StrEnum):
    # S3 keys
    FOLDER = "folder"
    OBJECT = "object"
    # Container images
    REPOSITORY = "repository"
    # Terraform's
    STATE = "state"
    # The ledger's
    RECORDS = "records"


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside this machine that belongs to one stage of one environment."""

    type: ResourceType
    # The same for every user of the resource. The name of a folder is a
    # prefix of the names in it.
    name: str
    # The name for people.
    shown: str
    # The setting that names it, below the stage's table, and how to change
    # it.
    key: str
    hint: str


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder of the repository that a stage is made from."""

    # Relative to the top of the repository; may lead out of it.
    path: str
    # What uses it: a setting, or `FILE:LINE`.
    used_by: str
    # Of a folder: only files with these endings count. Empty: all files do.
    endings: tuple[str, ...] = ()
    # Of a folder: files in folders below it do not count.
    flat: bool = False
    # It is enough if the stage's `paths` name some of it.
    some: bool = False
    # A pattern for what lies below the folder, as in a Dockerfile's `COPY`:
    # a folder that it matches counts with everything in it (with `flat`,
    # not at all).
    wildcard: str = ""
    # Patterns as in `.dockerignore`.
    exclude: tuple[str, ...] = ()


class RequiredPath(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder that a stage cannot work without."""

    # The setting that names it.
    key: str
    # Relative to the top of the repository.
    path: str
    folder: bool = False
    # It is read from disk and not from the commit.
    on_disk: bool = False
    # A stage that is deployed already can do without it.
    may_vanish: bool = False


class Kind(Protocol[S]):
    """A module or package in `stages/`, listed in `stages/__init__.py`."""

    NAME: str
    Settings: type[S]
    PATHS: tuple[str, ...]
    """The settings that name a file or folder of the repository. In the
    fingerprint, their placeholders are filled in.
    """
    GIVES_OUTPUTS: bool
    """Whether the steps of a deployment set `StageResult.outputs`."""
    HAS_DRIFT: bool
    """Whether a record says enough to compare it with what is there."""

    def problems(self, stage: Stage[S]) -> Iterable[Problem]:
        """What is wrong with the settings beyond their types; `where` is
        the key below the stage's table.
        """
        ...

    def tools(self, stage: Stage[S]) -> tuple[str, ...]:
        """The tools that the steps need: `terraform`, `docker`."""
        ...

    def consumes(
        self,
        stage: Stage[S],
        entries: Iterable[Entry],
        repository: Repository,
        recorded: Mapping[str, Any],
    ) -> frozenset[str]:
        """The names of the outputs that the stage's files use,
        besides those in its settings.

        `recorded` is `data` of the stage's record if these very files are
        deployed, else empty.
        """
        ...

    def owns(self, data: Mapping[str, Any]) -> frozenset[str]:
        """The objects in S3 that belong to a stage with this `data` in its
        record, as `s3://BUCKET/KEY`.
        """
        ...

    def resources(self, stage: Stage[S], environment: Environment) -> Iterable[Resource]:
        """What no other environment may use, as far as the settings are
        known. All placeholders in `stage` are filled in.
        """
        ...

    def required_paths(self, stage: Stage[S]) -> Iterable[RequiredPath]:
        """The files and folders that have to exist. All placeholders in `stage` are filled in."""
        ...

    def inputs(self, stage: Stage[S], repository: Repository, tree: str) -> Iterable[Input]:
        """What the stage is made from, by its settings and files; a plan
        warns of what `paths` leave out. Reads nothing but `tree`.
        """
        ...

    def steps(self, stage: Stage[S], mode: Mode, *, tag: str) -> tuple[Step, ...]:
        """What a run in that mode does, in order. Pure. `tag` is the first
        20 hex digits of the fingerprint.
        """
        ...

    def drift(
        self, context: StageContext[S], records: Mapping[str, Record]
    ) -> Iterable[DriftFinding]:
        """What is not as the record `context.previous` says, whose state is
        `deployed`. Reads only; an error ends the comparison of this stage.

        `records` has those of all stages of the environment. The files and
        settings are those that were deployed, if `context.fingerprint` is
        that of the record; else they are HEAD's.
        """
        ...


# What a kind uses for the functions of the Protocol that do not apply to
# it.


def consumes_nothing(
    stage: AnyStage,
    entries: Iterable[Entry],
    repository: Repository,
    recorded: Mapping[str, Any],
) -> frozenset[str]:
    """`Kind.consumes` of a kind whose files use no outputs."""
    return frozenset()


def owns_nothing(data: Mapping[str, Any]) -> frozenset[str]:
    """`Kind.owns` of a kind that writes no objects to S3."""
    return frozenset()


def requires_no_paths(stage: AnyStage) -> Iterable[RequiredPath]:
    """`Kind.required_paths` of a kind whose settings name no files."""
    return ()


def has_no_drift(
    context: StageContext[Any], records: Mapping[str, Record]
) -> Iterable[DriftFinding]:
    """`Kind.drift` of a kind that leaves nothing to compare."""
    return ()


def has_no_resources(stage: AnyStage, environment: Environment) -> Iterable[Resource]:
    """`Kind.resources` of a kind that has nothing outside to itself."""
    return ()
