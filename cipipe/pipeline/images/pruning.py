"""`cipipe image prune`: delete the images that no rollback that is offered needs, and no task.

The limit is written to the stage's record before anything is deleted, so that `cipipe dags
rollback` stops offering what may be gone.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile

import msgspec

from cipipe.errors import ConflictError, StageError
from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import Mode, Record, State
from cipipe.pipeline.alone import Alone, Opening, in_stage, opened
from cipipe.pipeline.checks.refusals import refuse_ref
from cipipe.pipeline.session import Session
from cipipe.stages.dags.bucket.manifest import RESTORED
from cipipe.stages.image.in_use import images_in_use
from cipipe.stages.image.names import content_tag
from cipipe.stages.image.publishing import ImageData, registry_of
from cipipe.stages.image.retention import DeployedImage, Generation, Retention, retention
from cipipe.stages.image.settings import CONTENT_TAG
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.registry.client import Registry
from cipipe.tools.registry.copy import attached_tag


class KeptImage(msgspec.Struct, frozen=True):
    """An image that stays, by its tag."""

    tag: str
    # `deployed`, `rollback`, `running`, `tagged` or `cache`.
    why: str


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune deleted, or would delete."""

    stage: str
    repository: str
    # ISO 8601, UTC. Rollbacks to what was deployed before are not offered.
    # None: all are.
    offered_since: str | None
    # Tags.
    deleted: tuple[str, ...]
    kept: tuple[KeptImage, ...]
    # Tags that cipipe did not make; they are never touched.
    foreign: tuple[str, ...]


def prune(session: Session, stage: str, *, dry_run: bool) -> Pruning:
    """Delete what nothing needs; with `dry_run`, only decide what that is.

    Raises ConflictError where a run is at work on the stage.
    """
    refuse_ref(session, Mode.DEPLOY)
    with opened(session, stage, Opening(read_only=dry_run)) as alone, in_stage():
        stored = alone.ledger.read([stage])[stage]
        deployed = _image_of(stored.record) if stored else None
        if stored is None or deployed is None:
            raise StageError(
                "image-not-deployed",
                f"{session.environment_name} has no deployed image of stage {stage}",
                hint=f"Deploy it first: cipipe run {stage}",
                where=f"stages.{stage}",
            )
        _refuse_busy(stored.record)

        registry = registry_of(alone.context(), deployed.repository)
        kept = _retention(alone, stage, deployed)
        found = _Images(alone, registry, deployed, kept).sorted_out()
        if not dry_run and found.deleted:
            _delete(alone.ledger, stored, found, registry)
        return found


def _refuse_busy(record: Record) -> None:
    if record.state is State.DEPLOYING:
        raise ConflictError(
            "image-in-deployment",
            f"stage {record.stage} is being deployed since {record.started_at}: what that run "
            "needs is not known yet",
            hint="Prune again when it has finished.",
            where=record.pipeline_url,
        )


def _retention(alone: Alone, stage: str, deployed: ImageData) -> Retention:
    config = alone.contexts.session.project.config
    images = (
        DeployedImage(_time(record), data.tag, data.digest)
        for record in _generations(alone.ledger, stage)
        if (data := _image_of(record)) is not None and data.repository == deployed.repository
    )
    dags = [name for name, other in config.stages.items() if other.kind == "dags"]
    generations = (
        _generation(record) for name in dags for record in _generations(alone.ledger, name)
    )
    already = deployed.offered_since
    return retention(
        images,
        generations,
        keep=config.stages[stage].settings.keep,
        now=datetime.now(UTC),
        already=datetime.fromisoformat(already) if already else None,
    )


def _generation(record: Record) -> Generation:
    """A deployment of DAGs. After a rollback they run what they ran when
    they were first deployed.
    """
    first = record.data.get(RESTORED)
    return Generation(_time(record), datetime.fromisoformat(first) if first else _time(record))


def _generations(ledger: Ledger, stage: str) -> Iterator[Record]:
    """The deployments of a stage that one can go back to."""
    kept = takewhile(lambda record: record.state is not State.DESTROYED, ledger.history(stage))
    return (record for record in kept if record.state is State.DEPLOYED and record.finished_at)


class _Images:
    """The images of the repository, and who needs them."""

    def __init__(
        self, alone: Alone, registry: Registry, deployed: ImageData, kept: Retention
    ) -> None:
        self._context = alone.context()
        self._registry = registry
        self._deployed = deployed
        self._kept = kept

    def sorted_out(self) -> Pruning:
        tags = self._registry.tags()
        own = [tag for tag in tags if re.fullmatch(CONTENT_TAG, tag)]
        extra = [tag for tag in tags if tag in self._context.stage.settings.tags]
        digests = {tag: self._registry.digest(tag) for tag in [*own, *extra]}
        attached = {attached_tag(digest) for digest in digests.values() if digest}

        reasons = self._reasons({digests[tag] for tag in extra})
        kept = {}
        for tag in own:
            why = reasons.get(tag) or reasons.get(digests[tag] or "")
            if why is not None:
                kept[tag] = why

        deleted = [tag for tag in own if tag not in kept]
        orphans = {attached_tag(digests[tag] or "") for tag in deleted}
        needed = {attached_tag(digests[tag] or "") for tag in kept}
        return Pruning(
            stage=self._context.stage.name,
            repository=self._registry.repository,
            offered_since=self._offered_since(),
            deleted=(*deleted, *(tag for tag in tags if tag in orphans - needed)),
            kept=tuple(KeptImage(tag, why) for tag, why in kept.items()),
            foreign=tuple(tag for tag in tags if tag not in {*own, *extra, *attached}),
        )

    def _reasons(self, tagged: set[str | None]) -> dict[str, str]:
        """Tags and digests that stay, and why."""
        found = dict.fromkeys(self._deployed.layers_from, "cache")
        found |= {digest: "tagged" for digest in tagged if digest}
        for name in self._in_use():
            found[name] = "running"
        for image in self._kept.images:
            found |= {image.tag: "rollback", image.digest: "rollback"}
        # A run of this commit may be about to use it.
        found[content_tag(self._context)] = "deployed"
        return found | {self._deployed.tag: "deployed", self._deployed.digest: "deployed"}

    def _in_use(self) -> frozenset[str]:
        try:
            return images_in_use(self._context.aws, self._registry.repository)
        except AwsError as error:
            raise StageError(
                "image-use-unknown",
                f"it is not known which images ECS runs: {error.text}",
                hint="The role needs ecs:ListClusters, ecs:ListTasks, ecs:DescribeTasks, "
                "ecs:ListTaskDefinitionFamilies and ecs:DescribeTaskDefinition.",
                where=f"stages.{self._context.stage.name}",
            ) from error

    def _offered_since(self) -> str | None:
        since = self._kept.offered_since
        return since.isoformat(timespec="microseconds") if since else None


def _delete(ledger: Ledger, stored: StoredRecord, found: Pruning, registry: Registry) -> None:
    """Record the limit, then delete. A run that started meanwhile has
    changed the record, and nothing is deleted.
    """
    data = msgspec.structs.replace(
        msgspec.convert(stored.record.data, ImageData), offered_since=found.offered_since
    )
    limited = msgspec.structs.replace(stored.record, data=msgspec.to_builtins(data))
    written = ledger.write(limited, stored)
    ledger.check(written)
    registry.delete(list(found.deleted))


def _image_of(record: Record) -> ImageData | None:
    try:
        return msgspec.convert(record.data, ImageData)
    except msgspec.ValidationError:
        return None


def _time(record: Record) -> datetime:
    return datetime.fromisoformat(record.finished_at or record.started_at)
