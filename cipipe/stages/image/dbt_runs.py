"""Runs dbt in an image. Unless it builds, it has neither network nor secrets, because the image may
be anybody's code.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.dbt_settings import DbtBuild, DbtProject
from cipipe.stages.image.models import Manifest, parsed
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.settings import literal

if TYPE_CHECKING:
    from cipipe.tools.docker.probe import ProbeResult

TARGET = "/tmp/cipipe-target"  # noqa: S108
"""dbt's target folder in the containers. Every user may write to /tmp."""

_PARSE = ("dbt", "parse", "--no-partial-parse")

# What a secret is while a project is only parsed.
_NO_SECRET = "unknown"  # noqa: S105

# Lines of output that an error quotes, from the end.
_QUOTED = 20


class Parsing(msgspec.Struct, frozen=True):
    """What a project is parsed with."""

    # DBT_TARGET; None: the image's own.
    target: str | None
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"target {self.target}" if self.target else "default target"

    @property
    def key(self) -> str:
        """The same for the same command, target and variables: a SHA-256."""
        command = msgspec.json.encode([_PARSE, self.target, sorted(self.environment.items())])
        return f"sha256:{hashlib.sha256(command).hexdigest()}"


class Parsed(msgspec.Struct, frozen=True):
    """A manifest, as dbt wrote it and as JSON."""

    body: bytes
    manifest: Manifest


def compared(dbt: DbtProject) -> Parsing:
    """What both projects are parsed with to be compared."""
    return Parsing(dbt.target, dbt.environment)


def built(dbt: DbtProject, build: DbtBuild) -> Parsing:
    """What the deployed project is parsed with to be compared with the one that is built."""
    no_secrets = dict.fromkeys(build.secrets, _NO_SECRET)
    return _added(dbt, build.target, {**no_secrets, **_resolved(build.environment)})


def deferred(dbt: DbtProject, build: DbtBuild) -> Parsing:
    """What the deployed project is parsed with to name the deployed relations."""
    no_secrets = dict.fromkeys(build.secrets, _NO_SECRET)
    return _added(dbt, build.defer.target, {**no_secrets, **_resolved(build.defer.environment)})


def parsings(dbt: DbtProject) -> tuple[Parsing, ...]:
    """Everything that a merge request parses the deployed project with."""
    found = [compared(dbt)]
    if dbt.build is not None:
        found += [built(dbt, dbt.build), deferred(dbt, dbt.build)]
    return tuple({parsing.key: parsing for parsing in found}.values())


def parse(context: StageContext[ImageSettings], image: str, parsing: Parsing) -> Parsed:
    """`dbt parse` in an image of this machine. Raises StageError."""
    done = run(context, image, parsing, argv=_PARSE, result=f"{TARGET}/manifest.json")
    manifest = parsed(done.file) if done.file is not None else None
    if done.status != 0 or done.file is None or manifest is None:
        raise unparsed(context, f"dbt parse in {image}", done)
    return Parsed(done.file, manifest)


def run(
    context: StageContext[ImageSettings],
    image: str,
    parsing: Parsing,
    secrets: Mapping[str, str] | None = None,
    **given: Any,
) -> "ProbeResult":
    """dbt in an image; `given` are fields of `Probe`, and `shown`. Raises StageError."""
    environment = {"DBT_TARGET_PATH": TARGET, "DBT_LOG_PATH": f"{TARGET}/logs"}
    environment |= parsing.environment
    if parsing.target is not None:
        environment["DBT_TARGET"] = parsing.target
    environment |= secrets or {}
    return daemon(context).probe(image, environment=environment, **given)


def unparsed(context: StageContext[ImageSettings], what: str, done: "ProbeResult") -> StageError:
    """The error for a dbt that failed where it has neither network nor secrets."""
    return StageError(
        "image-models-unparsed",
        f"{what} {outcome(done)}:\n{tail(context, done)}",
        hint="Variables that the project needs to be parsed go into `dbt.environment` of the "
        "stage; it runs without network and secrets.",
        where=f"stages.{context.stage.name}.dbt",
    )


def outcome(done: "ProbeResult") -> str:
    return "took too long" if done.timed_out else f"exited with status {done.status}"


def tail(context: StageContext[ImageSettings], done: "ProbeResult") -> str:
    """The last lines that it printed, masked."""
    return "\n".join(context.redactor.text(done.printed).splitlines()[-_QUOTED:])


def _added(dbt: DbtProject, target: str | None, environment: Mapping[str, str]) -> Parsing:
    return Parsing(target or dbt.target, {**dbt.environment, **environment})


def _resolved(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: literal(value) for name, value in settings.items()}
