"""`cipipe plan`.

What talks to AWS is imported when it is needed, and the rest while git
starts: both take time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cipipe import bounded
from cipipe.cli.options import Common, common
from cipipe.errors import UsageError
from cipipe.model import Approval, Plan

if TYPE_CHECKING:
    from cipipe.pipeline.project import Project

FORMATS = ("text", "json", "markdown", "gitlab", "github")


@click.command
@common(formats=FORMATS)
@click.option("--offline", is_flag=True, help="Never talk to AWS: compare with a commit.")
@click.option("--base", metavar="REV", help="Compare with that commit instead of the ledger.")
@click.option("--worktree", is_flag=True, help="Plan the files on disk.")
@click.option(
    "--force",
    "forced",
    metavar="STAGE",
    multiple=True,
    help="Count this stage as due. May be repeated.",
)
@click.option("--show-uncovered", is_flag=True, help="Warn of files that no stage covers.")
@click.option(
    "--jobs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --format gitlab: JSON with the keywords of every job, such as image and tags.",
)
@click.argument("stages", nargs=-1)
def plan(
    shared: Common,
    offline: bool,
    base: str | None,
    worktree: bool,
    forced: tuple[str, ...],
    show_uncovered: bool,
    jobs: Path | None,
    stages: tuple[str, ...],
) -> None:
    """Show what is due and why. Changes nothing, and needs no credentials."""
    keywords = _keywords(jobs, shared.format)
    # First, because it starts git, which then works during the imports.
    session = shared.session()
    from cipipe.cli.sandboxed import sandboxed
    from cipipe.pipeline.checks.paths import refuse_missing
    from cipipe.pipeline.planning import plan as planning
    from cipipe.pipeline.planning.stage_lookup import check_names

    project = session.project
    options = planning.PlanOptions(
        mode=project.context.mode,
        base=base,
        worktree=worktree,
        selected=frozenset(stages),
        forced=frozenset(forced),
        show_uncovered=show_uncovered,
        failures=True,
    )
    check_names(project.config, options.named)
    with sandboxed(shared, session) as session:
        ledger = None
        if not offline and base is None:
            from cipipe.pipeline.planning.reachable import ledger_if_reachable

            ledger = ledger_if_reachable(session)
        result = planning.plan(session, options, ledger)
        refuse_missing(project, result)
        if project.env.get("TF_WORKSPACE"):
            from cipipe.pipeline.checks.refusals import refuse_other_workspace

            refuse_other_workspace(project, result)
        shown = planning.shown(project, result)

    for warning in shown.warnings:
        shared.console.warning(warning)
    child = ChildPipeline(selected=stages, keywords=keywords)
    shared.answer(rendered(shown, shared, project, child))


class ChildPipeline(msgspec.Struct, frozen=True):
    """What the command line says of a child pipeline."""

    selected: tuple[str, ...]
    # Of every job.
    keywords: Mapping[str, Any] | None


def rendered(plan: Plan, shared: Common, project: "Project", child: ChildPipeline) -> str:
    """The plan in the format of the command line. Only the renderer of that format is imported."""
    if shared.format == "json":
        from cipipe.report import json

        return json.plan(plan)
    if shared.format == "markdown":
        from cipipe.report import markdown

        return markdown.render(plan)
    if shared.format == "gitlab":
        from cipipe.pipeline.identity.tokens import issuer_of
        from cipipe.report import gitlab

        issuer = issuer_of(project, gitlab.PROVIDER)
        return gitlab.render(
            plan,
            selected=child.selected,
            jobs=child.keywords,
            approval=_approved(plan, project),
            token_variable=issuer.token_variable,
            audience=issuer.audience,
        )
    if shared.format == "github":
        from cipipe.report import github

        return github.render(plan, approval=_approved(plan, project))
    from cipipe.report import text

    return text.plan(plan, shared.style)


def _approved(plan: Plan, project: "Project") -> frozenset[str]:
    """The stages whose changes people approve in the plan's environment."""
    from cipipe.stages.terraform import NAME

    if project.config.environment(plan.environment).approval is not Approval.MANUAL:
        return frozenset()
    return frozenset(stage.name for stage in plan.stages if stage.kind == NAME)


def _keywords(file: Path | None, format_: str) -> dict[str, Any] | None:
    """What --jobs says that every job gets."""
    if file is None:
        return None
    if format_ != "gitlab":
        raise UsageError(
            "usage", "--jobs is for --format gitlab only", hint="Pass both, or neither."
        )

    from cipipe.report import gitlab

    try:
        return gitlab.keywords(bounded.read(file))
    except (OSError, ValueError) as error:
        raise UsageError(
            "plan-jobs-unreadable",
            f"{file} does not hold the keywords of jobs: {error}",
            hint='Write an object such as {"image": "…", "tags": ["…"]}.',
            where="--jobs",
        ) from error
