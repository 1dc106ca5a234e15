"""The steps of an `image` stage: look for the content's tag, build, try the image, push it."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from cipipe.model import Effect, Mode
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.image import (
    attaching,
    builder,
    promotion,
    publishing,
    removal,
    scan,
    slim,
    slim_build,
)
from cipipe.stages.image.daemon import daemon
from cipipe.stages.image.names import local_name
from cipipe.stages.image.settings import ImageSettings, copied
from cipipe.stages.settings import Stage, shown

if TYPE_CHECKING:
    from cipipe.tools.registry.client import Registry


def steps(stage: Stage[ImageSettings], mode: Mode, *, tag: str) -> tuple[Step, ...]:
    settings = stage.settings
    run = _ImageRun()
    name = shown(settings.repository)
    if mode is Mode.DESTROY:
        return (
            Step(f"list the images in {name}", Effect.READ, run.list),
            Step(f"delete the images that cipipe pushed to {name}", Effect.DESTROY, run.delete),
        )

    build = _building(stage, run, tag=tag)
    if mode is Mode.VERIFY:
        return (*build, *_slim(settings, run))

    retag = [
        Step(f"tag it {name}:{extra}", Effect.WRITE, partial(run.retag, extra))
        for extra in settings.tags
    ]
    attach = []
    if attached := attaching.title(settings):
        attach.append(Step(f"attach {attached}", Effect.WRITE, run.attach))
    scanning = []
    if settings.scan is not None:
        title = f"wait for ECR's scan of it; findings of {settings.scan.severity} or worse fail"
        # It may have to start the scan.
        scanning.append(Step(title, Effect.WRITE, run.scan))
    if copied(stage):
        # What is attached is copied, too.
        return (
            Step(f"look for {name}:{tag}; nothing is copied if it exists", Effect.READ, run.look),
            Step(f"copy the image from {stage.after} by its digest", Effect.WRITE, run.promote),
            *scanning,
            *retag,
        )
    return (
        Step(f"look for {name}:{tag}; nothing is built if it exists", Effect.READ, run.look),
        *build,
        Step(f"docker push {name}:{tag}", Effect.WRITE, run.push),
        *attach,
        *scanning,
        *retag,
    )


def build_steps(stage: Stage[ImageSettings], *, tag: str) -> tuple[Step, ...]:
    """Build the image and try it, and nothing else."""
    return _building(stage, _ImageRun(), tag=tag)


def _building(stage: Stage[ImageSettings], run: "_ImageRun", *, tag: str) -> tuple[Step, ...]:
    """Changes nothing outside this machine: a merge request does it too."""
    settings = stage.settings
    name = shown(settings.repository)
    build = Step(f"docker build {settings.context}/ as {name}:{tag}", Effect.READ, run.build)
    if not settings.smoke:
        return (build,)
    return (build, Step(f"run `{' '.join(settings.smoke)}` in it", Effect.READ, run.smoke))


def _slim(settings: ImageSettings, run: "_ImageRun") -> Iterator[Step]:
    """A merge request's look at the dbt project."""
    if settings.dbt is None:
        return
    yield Step("compare its dbt project with the deployed one", Effect.READ, run.compare)
    wanted = settings.dbt.build
    if wanted is not None:
        target = wanted.target or settings.dbt.target
        place = f"dbt's target {target}" if target else "dbt's default target"
        # It changes nothing of cipipe's, and nothing in AWS.
        title = f"`dbt build` what changed, which writes to the warehouse: {place}"
        yield Step(title, Effect.READ, run.build_changes)


class _ImageRun:
    """What the steps of one run share."""

    def __init__(self) -> None:
        # The digest of the image in the registry; None while it is not
        # there.
        self._digest: str | None = None
        # The repository as it was looked at, with the login of then.
        self._looked_at: Registry | None = None
        # Whether the image was built here.
        self._built = False
        # The digests of the images that it was built on.
        self._bases: dict[str, str] = {}
        # What changed in the dbt project; None where nothing is deployed.
        self._comparison: slim.Comparison | None = None
        # The tags that a destroy deletes.
        self._own: list[str] = []

    def look(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        self._looked_at = publishing.registry(context)
        self._digest = publishing.deployed_digest(context, self._looked_at)

    def build(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        if self._digest:
            return
        self._bases = builder.build(context)
        self._built = True
        result.summary = f"built {local_name(context)}"
        if context.mode is Mode.VERIFY:
            result.outputs = publishing.outputs_to_come(context.stage.name)

    def smoke(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        if not self._digest:
            settings = context.stage.settings
            daemon(context).run(
                local_name(context),
                settings.smoke,
                timeout=settings.smoke_timeout,
                memory=settings.smoke_memory,
            )

    def promote(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        if self._digest is None:
            found = promotion.promote(context)
        else:
            found = publishing.push(context, self._digest, self._looked_at)
        self._keep(context, result, found)
        result.summary = f"{found.repository}:{found.tag} from {context.environment.after}"

    def push(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        existed = self._digest is not None
        # A login from before a long build may not last for the push.
        target = self._looked_at if existed else None
        pushed = publishing.push(context, self._digest, target, bases=self._bases)
        self._keep(context, result, pushed)
        result.summary = f"{pushed.repository}:{pushed.tag}" + (" (existed)" if existed else "")

    def compare(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        self._comparison = slim.compare(context, result)

    def build_changes(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        slim_build.build(context, result, self._comparison)

    def _keep(
        self, context: StageContext[ImageSettings], result: StageResult, data: publishing.ImageData
    ) -> None:
        self._digest = data.digest
        result.keep(data)
        result.outputs = publishing.outputs(context.stage.name, data)

    def attach(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        attaching.attach_documents(context, self._digest or "", built=self._built)

    def scan(self, context: StageContext[ImageSettings], _: StageResult) -> None:
        scan.gate(context, self._digest or "")

    def retag(self, extra: str, context: StageContext[ImageSettings], _: StageResult) -> None:
        publishing.retag(context, self._digest or "", extra)

    def list(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        self._own = removal.own_tags(context, result.preflight)

    def delete(self, context: StageContext[ImageSettings], result: StageResult) -> None:
        removal.delete(context, self._own)
        result.summary = f"{len(self._own)} images deleted"
