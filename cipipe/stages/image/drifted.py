"""What is different in the registry from what a stage's record says: the image's tag, and the tags
of the images that it was built on.
"""

from collections.abc import Iterator, Mapping

from cipipe.errors import CipipeError, StageError
from cipipe.results import DriftFinding
from cipipe.stages.context import StageContext
from cipipe.stages.image.bases import moved
from cipipe.stages.image.publishing import deployed_image, registry_of
from cipipe.stages.image.settings import ImageSettings


def findings(context: StageContext[ImageSettings]) -> Iterator[DriftFinding]:
    """Ask the registry. Raises StageError, UsageError."""
    stage = context.stage.name
    deployed = deployed_image(context)
    if deployed is None:
        raise StageError(
            "image-not-recorded",
            "the stage's record does not say which image it deployed",
            hint=f"Deploy it again: {_again(context)}",
        )

    name = f"{deployed.repository}:{deployed.tag}"
    found = registry_of(context, deployed.repository).digest(deployed.tag)
    if found is None:
        yield DriftFinding(
            stage=stage,
            kind="tag-missing",
            what=name,
            expected=deployed.digest,
            actual="the repository does not have this tag",
            hint=f"Build and push it again: {_again(context)}",
        )
    elif found != deployed.digest:
        yield DriftFinding(
            stage=stage,
            kind="tag-moved",
            what=name,
            expected=deployed.digest,
            actual=found,
            hint="Find out who pushed it, and make the tags of the repository immutable.",
        )
    yield from _bases(context, deployed.bases)


def _bases(
    context: StageContext[ImageSettings], recorded: Mapping[str, str]
) -> Iterator[DriftFinding]:
    """The images that it was built on, whose tags may be newer ones' by now."""
    for name, now in moved(context, recorded):
        if isinstance(now, CipipeError):
            hint = now.hint or "Let this job reach the registry."
            yield DriftFinding.unchecked(context.stage.name, name, now.message, hint)
            continue
        repository = name.rpartition(":")[0]
        newest = f"{name}@{now}" if now else f"{repository} with another tag"
        yield DriftFinding(
            stage=context.stage.name,
            kind="base-moved",
            what=name,
            expected=recorded[name],
            actual=now or "there is no such tag any more",
            hint=f"To build on what is there now, name it in the Dockerfile: FROM {newest}",
        )


def _again(context: StageContext[ImageSettings]) -> str:
    name = context.stage.name
    return f"cipipe run {name} --force {name} {context.again}"
