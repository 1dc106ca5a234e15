"""Attaches documents to an image in the registry: the list of its components, and the manifests of
its dbt project.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import local_name
from cipipe.stages.image.publishing import registry
from cipipe.stages.image.settings import ImageSettings

if TYPE_CHECKING:
    from cipipe.tools.registry.attach import Attachment
    from cipipe.tools.registry.client import Registry

MEDIA_TYPE = "application/vnd.cyclonedx+json"


def title(settings: ImageSettings) -> str:
    """What is attached, for the title of the step; empty if nothing is."""
    parts = ["the list of its components"] if settings.sbom else []
    parts += ["the manifest of its dbt project"] if settings.dbt else []
    return " and ".join(parts)


def attach_documents(context: StageContext[ImageSettings], digest: str, *, built: bool) -> None:
    """Attach what the settings want and the image does not have.

    `built`: the image is on this machine. Raises StageError.
    """
    from cipipe.tools.registry.attach import attach, attached

    target = registry(context)
    # With what each is.
    wanted: list[tuple[str, Attachment]] = []
    if context.stage.settings.sbom:
        if attached(target, digest, MEDIA_TYPE):
            context.line(f"{digest} has the list of its components already")
        else:
            wanted.append(_components(context, target, digest, built=built))
    listed = bool(wanted)
    # A merge request can do without: no image is pulled for it.
    if context.stage.settings.dbt is not None and built:
        wanted += _manifests(context)
    if not wanted:
        return

    try:
        attach(target, digest, [document for _, document in wanted])
    except StageError as error:
        if listed:
            raise
        context.line(f"warning: the manifest of the dbt project is not attached: {error.message}")
        return
    for what, _ in wanted:
        context.line(f"attached {what} to {digest}")


def _components(
    context: StageContext[ImageSettings], target: "Registry", digest: str, *, built: bool
) -> "tuple[str, Attachment]":
    from cipipe.stages.image import evidence
    from cipipe.tools.registry.attach import Attachment

    docker = daemon(context)
    image = local_name(context)
    if not built:
        docker.wait(context.stage.settings.daemon_timeout)
        image = f"{target.repository}@{digest}"
        docker.pull(image, username=target.username, password=target.password)
    with docker.exported(image) as archive:
        found = evidence.components(archive)
    about = evidence.ImageOfList(
        name=context.project,
        digest=digest,
        created=datetime.fromtimestamp(context.commit_time, UTC),
    )
    document = Attachment(type=MEDIA_TYPE, body=evidence.document(about, found))
    return f"the list of {len(found)} components", document


def _manifests(context: StageContext[ImageSettings]) -> "list[tuple[str, Attachment]]":
    """What merge requests would parse the project with. A project that cannot be parsed gets no
    manifest.
    """
    from cipipe.stages.image import attached_manifest, dbt_runs

    dbt = context.stage.settings.dbt
    assert dbt is not None  # noqa: S101  (checked by the caller)
    found = []
    for parsing in dbt_runs.parsings(dbt):
        try:
            parsed = dbt_runs.parse(context, local_name(context), parsing)
        except StageError as error:
            for line in f"warning: no manifest is attached: {error.message}".splitlines():
                context.line(line)
        else:
            what = f"the manifest of its dbt project, {parsing.name}"
            found.append((what, attached_manifest.document(parsed, parsing)))
    return found
