"""Copies the image that the environment before this one runs, by its digest.

Nothing is built: what was tested there is what runs here.
"""

import msgspec

from cipipe.errors import RefusedError, StageError
from cipipe.model import State
from cipipe.stages.context import EarlierStage, StageContext
from cipipe.stages.image.names import content_tag
from cipipe.stages.image.publishing import ImageData, offered_since, registry, registry_of
from cipipe.stages.image.settings import ImageSettings


def promote(context: StageContext[ImageSettings]) -> ImageData:
    """Copy the image into the stage's repository. Raises RefusedError, StageError."""
    from cipipe.tools.registry.copy import Copy

    earlier = context.earlier()
    found = _image(context, earlier)
    assert earlier is not None  # noqa: S101  (there would be no image)
    source = registry_of(context, found.repository, earlier.aws)
    target = registry(context)
    copy = Copy(source=source, target=target, line=context.line, interrupt=context.interrupt)
    copy.image(found.digest, content_tag(context))
    return ImageData(
        target.repository,
        content_tag(context),
        found.digest,
        offered_since(context),
        bases=found.bases,
    )


def _image(context: StageContext[ImageSettings], earlier: EarlierStage | None) -> ImageData:
    """What the earlier environment runs, if that is this content."""
    where = f"stages.{context.stage.name}"
    name = context.environment.after
    record = earlier.record if earlier else None
    if record is None or record.state is not State.DEPLOYED:
        raise RefusedError(
            "not-in-earlier-environment",
            f"{name} has no deployed image of stage {context.stage.name}",
            hint=f"Deploy this commit to {name} first.",
            where=where,
        )
    if record.fingerprint != context.fingerprint:
        raise RefusedError(
            "image-not-the-same",
            f"the image that {name} runs is not the one of this commit and environment: "
            f"{record.fingerprint[:20]}, not {content_tag(context)}",
            hint=f"Deploy this commit to {name} first; if the image depends on the environment, "
            'such as by {values.…} in its build_args, set `promote = "build"`.',
            where=where,
        )
    try:
        return msgspec.convert(record.data, ImageData)
    except msgspec.ValidationError as error:
        raise StageError(
            "registry-image-missing",
            f"the record of {name} does not say which image it runs: {error}",
            hint=f"Run the stage in {name} again, with --force {context.stage.name}.",
            where=where,
        ) from error
