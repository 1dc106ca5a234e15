"""Slim verification: which models of the dbt project a merge request changes.

The deployed image and the new one each parse their own project, with the same target and the same
variables: what depends on the environment is the same in both, and cancels out. Neither has
network or secrets, because the new one may be anybody's code.
"""

import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.errors import CipipeError, StageError
from cipipe.model import State
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.models import (
    Manifest,
    ModelChanges,
    changes,
    large_seeds,
    listed,
    parsed,
    shown,
    summary,
)
from cipipe.stages.image.names import local_name
from cipipe.stages.image.publishing import ImageData, registry_of
from cipipe.stages.image.settings import DbtProject, ImageSettings
from cipipe.stages.paths import repository_path

if TYPE_CHECKING:
    from cipipe.tools.docker.probe import ProbeResult

# Folders in the containers. Every user may write to /tmp.
_TARGET = "/tmp/cipipe-target"  # noqa: S108
_STATE = "/cipipe-state"

# Lines of output that an error quotes, from the end.
_QUOTED = 20


def compare(context: StageContext[ImageSettings], result: StageResult) -> None:
    """Name the models that change. Raises StageError if the new project cannot be parsed."""
    dbt = context.stage.settings.dbt
    assert dbt is not None  # noqa: S101  (there would be no such step)
    new = _parsed(context, local_name(context), dbt)
    old = _deployed(context, dbt)
    if old is None:
        result.summary = "built; every model is new"
        return

    found = _changes(context, dbt, old=old, new=new)
    for line in shown(found):
        context.line(line)
    result.summary = summary(found)
    result.findings["models"] = msgspec.to_builtins(found)


def _changes(
    context: StageContext[ImageSettings], dbt: DbtProject, *, old: Manifest, new: Manifest
) -> ModelChanges:
    argv = ["dbt", "ls", "--select", "state:modified", "--state", _STATE, "--output", "json"]
    argv += ["--output-keys", "unique_id"]
    done = _run(
        context,
        local_name(context),
        dbt,
        argv=argv,
        files={f"{_STATE}/manifest.json": msgspec.json.encode(old)},
    )
    # dbt succeeds, too, where nothing matches.
    if done.status != 0:
        raise _failed(context, "dbt ls --select state:modified", done)
    modified = listed(done.printed) | _changed_seeds(context, large_seeds(old, new))
    return changes(old, new, modified)


def _changed_seeds(context: StageContext[ImageSettings], seeds: dict[str, str]) -> set[str]:
    """Those of the large seeds whose files differ from the deployed commit's."""
    record = context.previous
    if not seeds or record is None or not record.commit:
        return set()
    folder = repository_path(context.stage.settings.context)
    here = {entry.path: entry.oid for entry in context.entries}
    names = list(seeds)
    paths = [posixpath.normpath(posixpath.join(folder, seeds[name])) for name in names]
    there = context.repository.objects([f"{record.commit}:{path}" for path in paths])
    changed = set()
    for name, path, found in zip(names, paths, there, strict=True):
        if found is None:
            context.line(
                f"warning: {name} is too large for dbt to compare, and the deployed commit "
                f"{record.commit[:12]} is not in this clone: it counts as modified"
            )
        if found is None or here.get(path.encode(errors="surrogateescape")) != found.oid.encode():
            changed.add(name)
    return changed


def _deployed(context: StageContext[ImageSettings], dbt: DbtProject) -> Manifest | None:
    """The manifest of the deployed image; None where nothing is deployed."""
    record = context.previous
    try:
        image = msgspec.convert(record.data if record else {}, ImageData)
    except msgspec.ValidationError:
        image = None
    if record is None or image is None or record.state is State.DESTROYED:
        return None
    reference = f"{image.repository}@{image.digest}"
    try:
        registry = registry_of(context, image.repository)
        daemon(context).pull(reference, username=registry.username, password=registry.password)
    except CipipeError as error:
        raise StageError(
            "image-models-unknown",
            f"it is not known which models change: the deployed image {reference} cannot be "
            f"pulled: {error.message}",
            hint="Give the verify role ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on the "
            "repository, or remove `dbt` from the stage.",
            where=f"stages.{context.stage.name}.dbt",
        ) from error
    return _parsed(context, reference, dbt)


def _parsed(context: StageContext[ImageSettings], image: str, dbt: DbtProject) -> Manifest:
    argv = ["dbt", "parse", "--no-partial-parse"]
    done = _run(context, image, dbt, argv=argv, result=f"{_TARGET}/manifest.json")
    manifest = parsed(done.file) if done.file is not None else None
    if done.status != 0 or manifest is None:
        raise _failed(context, f"dbt parse in {image}", done)
    return manifest


def _run(
    context: StageContext[ImageSettings], image: str, dbt: DbtProject, **given: Any
) -> "ProbeResult":
    environment = {"DBT_TARGET_PATH": _TARGET, "DBT_LOG_PATH": f"{_TARGET}/logs", **dbt.environment}
    if dbt.target is not None:
        environment["DBT_TARGET"] = dbt.target
    return daemon(context).probe(image, environment=environment, **given)


def _failed(context: StageContext[ImageSettings], what: str, done: "ProbeResult") -> StageError:
    tail = "\n".join(context.redactor.text(done.printed).splitlines()[-_QUOTED:])
    outcome = "took too long" if done.timed_out else f"exited with status {done.status}"
    return StageError(
        "image-models-unparsed",
        f"{what} {outcome}:\n{tail}",
        hint="Variables that the project needs to be parsed go into `dbt.environment` of the "
        "stage; it runs without network and secrets.",
        where=f"stages.{context.stage.name}.dbt",
    )
