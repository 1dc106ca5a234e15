"""`cipipe plan`. What talks to AWS is imported when it is needed, and the rest after git was
started: both take time.
"""

from typing import TYPE_CHECKING

import click

from cipipe.cli.options import Common, common
from cipipe.errors import IdentityError
from cipipe.model import Plan

if TYPE_CHECKING:
    from cipipe.ledger import Ledger
    from cipipe.pipeline.project import Project
    from cipipe.pipeline.session import Session

FORMATS = ("text", "json", "markdown", "gitlab", "github")


@click.command
@common(formats=FORMATS)
@click.option("--offline", is_flag=True, help="Never talk to AWS: compare with a commit.")
@click.option("--base", metavar="REV", help="Compare with that commit instead of the ledger.")
@click.option("--worktree", is_flag=True, help="Plan the files as they lie on disk.")
@click.option(
    "--force",
    "forced",
    metavar="STAGE",
    multiple=True,
    help="Count this stage as due. May be repeated.",
)
@click.option("--show-uncovered", is_flag=True, help="Warn of files that no stage covers.")
@click.argument("stages", nargs=-1)
def plan(
    shared: Common,
    offline: bool,
    base: str | None,
    worktree: bool,
    forced: tuple[str, ...],
    show_uncovered: bool,
    stages: tuple[str, ...],
) -> None:
    """Tell what is due and why. Changes nothing, and needs no credentials."""
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
    )
    check_names(project.config, options.named)
    with sandboxed(shared, session) as session:
        ledger = None if offline or base is not None else _ledger(shared, session)
        found = planning.plan(session, options, ledger)
        refuse_missing(project, found)
        if project.env.get("TF_WORKSPACE"):
            from cipipe.pipeline.checks.refusals import refuse_other_workspace

            refuse_other_workspace(project, found)
        made = planning.shown(project, found)
    for warning in made.warnings:
        shared.console.warning(warning)
    shared.answer(rendered(made, shared, project))


def _ledger(shared: Common, session: "Session") -> "Ledger | None":
    """The ledger; None where nobody gave this process an identity, which is a warning: a plan needs
    no credentials.

    A job whose token is refused is an error all the same: what it was to be compared with is not
    known.
    """
    from cipipe.pipeline.identity.access import can_connect, missing_token_hint

    project, mode = session.project, session.project.context.mode
    instead = "comparing with a commit, not with what is deployed"
    if not can_connect(project, session.target):
        shared.console.warning(f"no AWS credentials here: {instead}")
        return None
    if not session.sandbox and (hint := missing_token_hint(project, mode)) is not None:
        shared.console.warning(f"this job has no ID token: {instead}. {hint}")
        return None
    try:
        access = session.connect(mode, read_only=True)
    except IdentityError as error:
        if project.context.provider != "local" or session.sandbox:
            raise
        shared.console.warning(f"{instead}: {error.message}")
        return None
    return session.ledger(access)


def rendered(plan: Plan, shared: Common, project: "Project") -> str:
    """The plan in the format that was asked for."""
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
        return gitlab.render(plan, token_variable=issuer.token_variable, audience=issuer.audience)
    if shared.format == "github":
        from cipipe.report import github

        return github.render(plan)
    from cipipe.report import text

    return text.plan(plan, shared.style)
