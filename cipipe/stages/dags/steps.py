"""The steps of the `dags` stage, in order, with their titles. Pure.

A plan shows the titles and does not import what the steps do: that takes
longer than the plan.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from cipipe.model import Effect, Mode
from cipipe.stages.context import Action, StageContext, StageResult, Step
from cipipe.stages.dags.mwaa.extras import PLUGINS, REQUIREMENTS
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Stage, shown

if TYPE_CHECKING:
    from cipipe.stages.dags.deploy import Deployment

    # Makes the deployment when the first step runs, and gives the same one
    # to all others.
    Work = Callable[[], Deployment]


def steps(stage: Stage[Settings], mode: Mode, *, tag: str) -> tuple[Step, ...]:
    source = stage.settings.source.strip("/")
    folder = _folder(stage)
    work = functools.cache(_deployment)
    if mode is Mode.DESTROY:
        list_owned = _later(work, lambda it: it.list_owned)
        purge = _later(work, lambda it: it.purge)
        return (
            Step(f"list what {stage.name} owns in {folder}", Effect.READ, list_owned),
            Step(f"delete every version of it in {folder}", Effect.DESTROY, purge),
        )

    reading = (
        Step(f"patch {source}/", Effect.READ, _later(work, lambda it: it.read)),
        Step(f"compare with {folder}", Effect.READ, _later(work, lambda it: it.compare)),
        Step(f"check {source}/", Effect.READ, _later(work, lambda it: it.check)),
    )
    return reading if mode is Mode.VERIFY else (*reading, *writing(stage, work))


def writing(stage: Stage[Settings], work: "Work") -> tuple[Step, ...]:
    """The steps that make the bucket, and the MWAA environment, what a
    deployment wants.

    What MWAA installs comes before the DAGs that need it, and deleting
    comes after uploading: at no moment is there a DAG without the files
    that it imports.
    """
    settings = stage.settings
    folder = _folder(stage)
    top = f"s3://{shown(settings.bucket)}"

    extras = []
    if settings.requirements is not None:
        title = f"upload {settings.requirements} as {top}/{REQUIREMENTS}"
        extras.append(Step(title, Effect.WRITE, _upload_extra(work, REQUIREMENTS)))
    if settings.plugins is not None:
        title = f"zip {settings.plugins.strip('/')}/ and upload it as {top}/{PLUGINS}"
        extras.append(Step(title, Effect.WRITE, _upload_extra(work, PLUGINS)))

    confirming = []
    if settings.mwaa_environment is not None:
        name = shown(settings.mwaa_environment)
        if extras:
            title = f"have MWAA environment {name} install what is new"
            extras.append(Step(title, Effect.WRITE, _later(work, lambda it: it.install)))
        title = f"check that MWAA environment {name} imported the DAGs"
        confirming.append(Step(title, Effect.READ, _later(work, lambda it: it.confirm)))

    upload = _later(work, lambda it: it.upload)
    prune = _later(work, lambda it: it.prune)
    return (
        *extras,
        Step(f"upload to {folder}", Effect.WRITE, upload),
        Step(f"delete what is gone from {folder}", Effect.WRITE, prune),
        *confirming,
    )


def _folder(stage: Stage[Settings]) -> str:
    return f"s3://{shown(stage.settings.bucket)}/{stage.settings.prefix}"


def _upload_extra(work: "Work", key: str) -> Action:
    return _later(work, lambda it: functools.partial(it.upload_extra, key))


def _later(work: "Work", method: "Callable[[Deployment], Action]") -> Action:
    """An action that looks up its method when it runs."""

    def action(context: StageContext[Settings], result: StageResult) -> None:
        method(work())(context, result)

    return action


def _deployment() -> "Deployment":
    from cipipe.stages.dags.deploy import Deployment

    return Deployment()
