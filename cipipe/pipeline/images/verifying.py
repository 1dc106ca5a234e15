"""`cipipe image verify`: build the deployed image again from its commit, and compare."""

import msgspec

from cipipe.errors import StageError
from cipipe.model import Record, State
from cipipe.pipeline.alone import Alone, Opening, in_stage, opened
from cipipe.pipeline.deployed import deployed_context, deployed_stage
from cipipe.pipeline.session import Session
from cipipe.stages.context import StageContext
from cipipe.stages.image import builder
from cipipe.stages.image.comparison import (
    ImageDifference,
    differences,
    differing_settings,
    files_of,
)
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.publishing import ImageData, registry_of
from cipipe.stages.image.settings import ImageSettings


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """How the image that is deployed compares with the one that its commit gives now."""

    stage: str
    # `REPOSITORY:TAG@DIGEST`
    image: str
    commit: str
    files: int
    # `removed`: only the deployed image has it.
    differences: tuple[ImageDifference, ...]


def verify(session: Session, stage: str) -> Verification:
    """Compare. Raises StageError where that is not possible."""
    with opened(session, stage, Opening(read_only=True)) as alone, in_stage():
        record = alone.work.records.last(stage)
        deployed = _deployed(session, stage, record)
        assert record is not None  # noqa: S101  (nothing would be deployed)
        context = _as_then(alone, stage, record)

        docker = daemon(context)
        docker.wait(context.stage.settings.daemon_timeout)
        registry = registry_of(context, deployed.repository)
        there = f"{deployed.repository}@{deployed.digest}"
        docker.pull(there, username=registry.username, password=registry.password)
        here = f"cipipe/verify-{stage}:{deployed.tag}"
        builder.build(context, name=here)

        with docker.exported(there) as archive:
            first = files_of(archive)
        with docker.exported(here) as archive:
            second = files_of(archive)
        configurations = (docker.described(there), docker.described(here))
        found = [
            *differences(first, second),
            *differing_settings(*(image.configuration for image in configurations)),
        ]
        return Verification(
            stage=stage,
            image=f"{deployed.repository}:{deployed.tag}@{deployed.digest}",
            commit=context.commit,
            files=len(first),
            differences=tuple(found),
        )


def _deployed(session: Session, stage: str, record: Record | None) -> ImageData:
    if record is not None and record.state is State.DEPLOYED and record.commit:
        return msgspec.convert(record.data, ImageData)
    raise StageError(
        "image-not-deployed",
        f"{session.environment_name} has no deployed image of stage {stage}",
        hint=f"Deploy it first: cipipe run {stage}",
        where=f"stages.{stage}",
    )


def _as_then(alone: Alone, stage: str, record: Record) -> StageContext[ImageSettings]:
    """The stage's context with the files and the settings of the commit
    that was deployed, and without a cache.
    """
    commit = alone.contexts.session.project.repository.commit(record.commit or "")
    if commit is None:
        raise StageError(
            "image-commit-missing",
            f"this clone does not have the deployed commit {record.commit}",
            hint=f"Fetch it: git fetch origin {record.commit}",
            where=f"stages.{stage}",
        )
    deployed = deployed_stage(alone.contexts, record, commit)
    if deployed is None:
        raise StageError(
            "image-not-reproducible",
            f"commit {commit.oid[:12]} does not give the fingerprint that was deployed: "
            "environment variables that the settings use have other values here",
            hint="Set the variables as in the job that deployed it.",
            where=f"stages.{stage}",
        )
    then: StageContext[ImageSettings] = deployed_context(alone.work, deployed)
    settings = msgspec.structs.replace(then.stage.settings, cache="off", cache_image=None)
    return msgspec.structs.replace(
        then, stage=msgspec.structs.replace(then.stage, settings=settings)
    )
