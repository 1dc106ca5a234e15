"""Everything that a destroy of a stack would delete, and all that is in its
way, found before anything is deleted.
"""

from collections.abc import Iterable
from itertools import groupby

from cipipe.errors import Problem
from cipipe.results import Loss, Preflight
from cipipe.stages.context import StageContext
from cipipe.stages.terraform.destroying import contents, guards
from cipipe.stages.terraform.destroying.going import BUCKET, REPOSITORY, Going
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.state import backend_of
from cipipe.terminal import visible
from cipipe.tools.aws.errors import AwsError

Context = StageContext[TerraformSettings]


def look(
    context: Context,
    preflight: Preflight,
    going: tuple[Going, ...],
    prevented: Iterable[Problem] = (),
) -> None:
    """Add what is lost, what blocks it, and what somebody should know.

    `prevented` is what Terraform itself refused to plan.
    """
    preflight.lost += _by_type(going, context.stage.settings.protected_types)
    preflight.blockers += prevented
    kept = list(guards.own_stores(going, **_stores(context)))
    preflight.blockers += [*kept, *guards.blockers(going)]
    preflight.warnings += guards.warnings(going)

    stores = {problem.where for problem in kept}
    for one in going:
        if one.address in stores:
            continue
        try:
            if one.type == BUCKET:
                _look_into_bucket(context, preflight, one)
            elif one.type == REPOSITORY:
                _look_into_repository(context, preflight, one)
        except AwsError as error:
            if error.status != 403:
                raise
            _unreadable(preflight, one, error)


def in_the_way(going: Iterable[Going]) -> list[Going]:
    """Buckets and repositories that Terraform deletes only if they are empty."""
    return [
        one
        for one in going
        if (one.type == BUCKET and not one.attributes.get("force_destroy"))
        or (one.type == REPOSITORY and not one.attributes.get("force_delete"))
    ]


def _by_type(going: Iterable[Going], protected: tuple[str, ...]) -> list[Loss]:
    ordered = sorted(going, key=lambda one: (one.type not in protected, one.type, one.address))
    grouped = ((name, list(found)) for name, found in groupby(ordered, lambda one: one.type))
    return [
        Loss(
            sort="resource",
            name=name,
            count=len(found),
            protected=name in protected,
            addresses=tuple(one.address for one in found),
        )
        for name, found in grouped
    ]


def _stores(context: Context) -> dict[str, str]:
    backend = backend_of(context.stage.settings, context.environment, sandbox=context.sandbox)
    settings = backend.settings if backend.type == "s3" else {}
    return {
        "state_bucket": str(settings.get("bucket", "")),
        "lock_table": str(settings.get("dynamodb_table", "")),
        "ledger_bucket": context.ledger_bucket,
    }


def _look_into_bucket(context: Context, preflight: Preflight, one: Going) -> None:
    name = one.text("bucket")
    found = contents.of_bucket(context, name)
    if found.versions:
        preflight.lost.append(
            Loss(
                sort="object",
                name=f"s3://{name}",
                count=found.objects,
                versions=found.versions,
                unowned=found.unowned,
                more=found.more,
            )
        )
    if not found.unowned:
        return

    blocks = not one.attributes.get("force_destroy")
    if blocks and not context.empty:
        preflight.blockers.append(
            Problem(
                id="destroy-foreign-objects",
                message=f"s3://{name} has {_number(found)} that no stage owns: "
                f"{_some(found.examples)}",
                where=one.address,
                hint="Move them elsewhere with all versions, or pass --empty to delete them.",
            )
        )
        return
    others = contents.others_in(context, name, found.askable)
    if others:
        key, owner = next(iter(others.items()))
        preflight.blockers.append(
            Problem(
                id="destroy-others-objects",
                message=f"s3://{name}/{visible(key)} belongs to {visible(owner)}",
                where=one.address,
                hint="Deploy that environment to a bucket of its own first, or delete what it has "
                "there.",
            )
        )


def _look_into_repository(context: Context, preflight: Preflight, one: Going) -> None:
    found = contents.of_repository(context, one)
    if found.images:
        preflight.lost.append(
            Loss(
                sort="image",
                name=one.text("repository_url"),
                count=len(found.images),
                unowned=len(found.unowned),
            )
        )
    blocks = not one.attributes.get("force_delete") and not context.empty
    if found.unowned and blocks:
        plural = "s" if len(found.unowned) > 1 else ""
        preflight.blockers.append(
            Problem(
                id="destroy-foreign-images",
                message=f"{one.text('name')} has {len(found.unowned)} image{plural} that no stage "
                f"deletes: {_some(found.examples)}",
                where=one.address,
                hint="Move them elsewhere, or pass --empty to delete them.",
            )
        )


def _unreadable(preflight: Preflight, one: Going, error: AwsError) -> None:
    """AWS does not say whether it is empty. That is a blocker where it has to be."""
    problem = Problem(
        id="destroy-unreadable",
        message=f"it is not known what is in it: {error.operation}: {error.code}",
        where=one.address,
        hint="Let the role list what it has.",
    )
    (preflight.blockers if in_the_way([one]) else preflight.warnings).append(problem)


def _number(found: contents.BucketContents) -> str:
    plural = "s" if found.unowned > 1 else ""
    more = "more than " if found.more else ""
    return f"{more}{found.unowned:,} version{plural} of objects"


def _some(names: list[str]) -> str:
    # Anybody may name an object.
    shown = ", ".join(visible(name) for name in names[: contents.SHOWN])
    return f"{shown}, …" if len(names) > contents.SHOWN else shown
