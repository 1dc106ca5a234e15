"""The dbt project in the deployed image: its manifests, attached to the image or parsed in it."""

from functools import cached_property

from cipipe.errors import CipipeError, StageError
from cipipe.model import State
from cipipe.stages.context import StageContext
from cipipe.stages.image import attached_manifest
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.dbt_runs import Parsing, parse
from cipipe.stages.image.models import Manifest
from cipipe.stages.image.publishing import ImageData, deployed_image, registry_of
from cipipe.stages.image.settings import ImageSettings


class DeployedProject:
    """The project that the stage's record names."""

    def __init__(self, context: StageContext[ImageSettings], image: ImageData) -> None:
        self._context = context
        self._image = image

    def manifest(self, parsing: Parsing, newest: Manifest) -> Manifest:
        """What `dbt parse` gives. `newest` is a manifest that the new image's
        dbt has written, which has to read this one.

        Raises StageError.
        """
        context = self._context
        try:
            registry = registry_of(context, self._image.repository)
            found = attached_manifest.manifest_of(registry, self._image.digest, parsing, newest)
        except (CipipeError, ValueError) as error:
            found = None
            reason = error.message if isinstance(error, CipipeError) else str(error)
            why = f"the manifest that is attached to the deployed image cannot be used ({reason})"
        else:
            why = "the deployed image has no manifest with these settings attached"
        if found is not None:
            context.line("took the manifest that is attached to the deployed image")
            return found
        context.line(f"{why}: parsing its project")
        return parse(context, self._pulled, parsing).manifest

    @cached_property
    def _pulled(self) -> str:
        """The image's name, after a pull. Raises StageError."""
        context = self._context
        reference = f"{self._image.repository}@{self._image.digest}"
        try:
            registry = registry_of(context, self._image.repository)
            daemon(context).pull(reference, username=registry.username, password=registry.password)
        except CipipeError as error:
            raise StageError(
                "image-models-unknown",
                f"it is not known which models change: the deployed image {reference} cannot be "
                f"pulled: {error.message}",
                hint="Give the verify role ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on "
                "the repository, or remove `dbt` from the stage.",
                where=f"stages.{context.stage.name}.dbt",
            ) from error
        return reference


def deployed_project(context: StageContext[ImageSettings]) -> DeployedProject | None:
    """None where nothing is deployed."""
    record = context.previous
    image = deployed_image(context)
    if image is None or record is None or record.state is State.DESTROYED:
        return None
    return DeployedProject(context, image)
