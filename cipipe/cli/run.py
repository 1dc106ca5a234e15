"""`cipipe run`."""

from pathlib import Path

import click

from cipipe import bounded
from cipipe.cli.confirm import confirm as confirm_at_shell
from cipipe.cli.confirm import yes_option
from cipipe.cli.options import Common, common
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import UsageError
from cipipe.model import Plan
from cipipe.pipeline import running
from cipipe.pipeline.planning.plan import PlanOptions
from cipipe.pipeline.planning.stage_lookup import check_names
from cipipe.report import json, plan_file, text


@click.command
@common(formats=("text", "json", "markdown"))
@click.option(
    "--force",
    "forced",
    metavar="STAGE",
    multiple=True,
    help="Run this stage, due or not. May be repeated.",
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run only if this is still the plan.",
)
@click.option("--worktree", is_flag=True, help="Deploy the files on disk (sandbox only).")
@click.option("--allow-rollback", is_flag=True, help="Put older content over a newer pipeline's.")
@click.option(
    "--allow-replace",
    is_flag=True,
    help="Let Terraform delete or replace resources that hold data.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Stages at the same time, at most.",
)
@click.option(
    "--if-newest",
    is_flag=True,
    help="Succeed without doing anything where a newer pipeline has deployed.",
)
@click.option(
    "--if-ready",
    is_flag=True,
    help="Succeed without doing anything where a needed stage is due and not named.",
)
@click.option(
    "--only-due", is_flag=True, help="Leave out stages that always run, and the default one."
)
@yes_option
@click.argument("stages", nargs=-1)
def run(
    shared: Common,
    forced: tuple[str, ...],
    plan_file: Path | None,
    worktree: bool,
    allow_rollback: bool,
    allow_replace: bool,
    jobs: int,
    if_newest: bool,
    if_ready: bool,
    only_due: bool,
    yes: bool,
    stages: tuple[str, ...],
) -> int:
    """Run what is due, in order. With STAGES, only those, and still only if due (see --force)."""
    if worktree and not shared.sandbox:
        raise UsageError(
            "run-worktree", "--worktree is for the sandbox only", hint="Commit the files, then run."
        )
    if only_due and stages:
        raise UsageError(
            "usage", "--only-due cannot be used with names of stages", hint="Pass one of them."
        )
    session = shared.session()
    planning = PlanOptions(
        mode=session.project.context.mode,
        worktree=worktree,
        selected=frozenset(stages),
        forced=frozenset(forced),
        only_due=only_due,
    )
    # Before the confirmation and before a sandbox is started: a typo should
    # not cost either.
    check_names(session.project.config, planning.named)
    confirm_at_shell(shared, session, yes=yes)
    options = running.RunOptions(
        planning=planning,
        jobs=jobs,
        allow_rollback=allow_rollback,
        allow_replace=allow_replace,
        expected=_read_plan(plan_file) if plan_file else None,
        if_newest=if_newest,
        if_ready=if_ready,
    )

    def planned(plan: Plan) -> None:
        shared.console.say(text.plan(plan, shared.console.styled_stderr))

    with sandboxed(shared, session) as session:
        outcome = running.run(session, options, planned=planned)
    return finish(shared, outcome)


def finish(shared: Common, outcome: running.Outcome) -> int:
    """Report a run and return its exit status, which does not depend on
    whether the report could be written.
    """
    error = outcome.error
    if shared.format == "json":
        answer = json.report(outcome.report, error)
    elif shared.format == "markdown":
        from cipipe.report import run_summary

        answer = run_summary.markdown(outcome.report, error)
    else:
        answer = "\n" + text.report(outcome.report, shared.style)
    # The report has the error in it: it is printed to standard error only.
    shared.console.machine = False
    try:
        shared.answer(answer)
    except UsageError as lost:
        shared.console.warning(f"{lost.message}; the run it reports is finished all the same")
    if error is not None:
        shared.console.error(error)
        return error.exit_status
    return 0


def _read_plan(file: Path) -> plan_file.PlanFile:
    try:
        return plan_file.parse(bounded.read(file))
    except (OSError, ValueError) as error:
        raise UsageError(
            "plan-file-unreadable",
            f"{file} is not a plan",
            hint="Make it with `cipipe plan --format json --output FILE`.",
            where="--plan",
        ) from error
