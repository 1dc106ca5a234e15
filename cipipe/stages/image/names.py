"""What an image is called: its tag in the registry, and its name on this machine."""

from cipipe.model import FINGERPRINT_TAG_LENGTH
from cipipe.stages.context import StageContext
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.settings import Reference


def content_tag(context: StageContext[ImageSettings]) -> str:
    """The tag of the content: the first 20 hex digits of the fingerprint."""
    return context.fingerprint[:FINGERPRINT_TAG_LENGTH]


def local_name(context: StageContext[ImageSettings]) -> str:
    """The image's name on this machine. Where the repository is not known
    yet, in a merge request, it gets a local one.
    """
    setting = context.stage.settings.repository
    unknown = isinstance(setting, Reference)
    repository = f"cipipe/{context.stage.name}" if unknown else str(setting)
    return f"{repository}:{content_tag(context)}"
