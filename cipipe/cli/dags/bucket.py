"""`cipipe dags diff`, `deploy`, `rollback`, `status`: the `dags` stage against its bucket."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cipipe.cli.confirm import confirm, yes_option
from cipipe.cli.options import Common, common
from cipipe.cli.run import finish
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import UsageError
from cipipe.model import Plan
from cipipe.pipeline import dags as use_case
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.pipeline.session import Session
from cipipe.report import json, text
from cipipe.terminal import visible

if TYPE_CHECKING:
    from cipipe.stages.dags.bucket.inventory import Inventory
    from cipipe.stages.dags.diff import BucketDiff

# The mark and the colour of each kind of change.
_MARK = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def _stage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--stage", metavar="STAGE", help="Which dags stage, where there are several."
    )(command)


@contextlib.contextmanager
def _session(
    shared: Common, wanted: str | None, *, yes: bool | None = None
) -> Iterator[tuple[Session, str]]:
    """The session, and the name of the chosen stage.

    `yes` is None for what changes nothing, and needs no confirmation.
    """
    session = shared.session()
    stage = stage_of_kind(session.project.config, "dags", wanted)
    if yes is not None:
        confirm(shared, session, yes=yes)
    with sandboxed(shared, session) as session:
        yield session, stage


@click.command
@common(formats=("text", "json", "markdown"))
@_stage_option
@click.option(
    "--worktree",
    is_flag=True,
    help="Compare the files on disk, not those of the commit.",
)
def diff(shared: Common, stage: str | None, worktree: bool) -> None:
    """Show what a deployment would change in the bucket, with the outputs
    that the ledger has. Writes nothing.
    """
    with _session(shared, stage) as (session, name):
        found = use_case.diff(session, name, worktree=worktree)
        _show(shared, found, lines=_unified(found))


@click.command
@common()
@_stage_option
@click.option("--dry-run", is_flag=True, help="List the keys that would change, and write nothing.")
@click.option("--allow-empty", is_flag=True, help="Deploying no DAG at all is intended.")
@click.option("--allow-rollback", is_flag=True, help="Put older content over a newer pipeline's.")
@yes_option
def deploy(
    shared: Common,
    stage: str | None,
    dry_run: bool,
    allow_empty: bool,
    allow_rollback: bool,
    yes: bool,
) -> int:
    """Run the `dags` stage on its own, due or not: patch, check, upload
    what differs, delete what is gone.
    """

    def planned(plan: Plan) -> None:
        shared.console.say(text.plan(plan, shared.console.styled_stderr))

    # A dry run changes nothing, so that nobody has to confirm it.
    with _session(shared, stage, yes=None if dry_run else yes) as (session, name):
        if dry_run:
            found = use_case.dry_run(
                session, name, allow_empty=allow_empty, allow_rollback=allow_rollback
            )
            _show(shared, found, lines=_marked(shared, found), diffs=False)
            return 0
        outcome = use_case.deploy(
            session,
            name,
            allow_empty=allow_empty,
            allow_rollback=allow_rollback,
            planned=planned,
        )
    return finish(shared, outcome)


@click.command
@common()
@_stage_option
@click.option(
    "--to", metavar="COMMIT", help="The commit to go back to. Default: what was deployed before."
)
@yes_option
def rollback(shared: Common, stage: str | None, to: str | None, yes: bool) -> int:
    """Restore the object versions of an earlier manifest. HEAD is due again afterwards."""
    # An empty variable in a job's script must not mean "the one before".
    if to is not None and not to.strip():
        raise UsageError(
            "usage",
            "--to names no commit",
            hint="Is a variable empty? Without --to it is the one before.",
        )
    with _session(shared, stage, yes=yes) as (session, name):
        outcome = use_case.rollback(session, name, to)
    return finish(shared, outcome)


@click.command
@common()
@_stage_option
def status(shared: Common, stage: str | None) -> None:
    """Show what of the stage is in the bucket: commit, files, and what
    others changed, removed or put there.
    """
    with _session(shared, stage) as (session, name):
        found = use_case.status(session, name)
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(found)))
    else:
        shared.answer("\n".join(_inventory(shared, found)) + "\n")


def _inventory(shared: Common, found: "Inventory") -> Iterator[str]:
    head = f"{shared.style(found.stage, 'bold')}  {found.state}"
    if found.bucket is None:
        yield head
        return

    commit = (found.commit or "–")[:7]
    yield f"{head}, commit {commit}, {text.age(found.finished_at)} ago"
    for file in found.drifted:
        yield f"  {visible(file.key)}  {shared.style(file.state, 'yellow')}"
    yield (
        f"  {len(found.files)} files in s3://{found.bucket}/{found.prefix},"
        f" {len(found.drifted)} not as deployed, {found.foreign} objects of others"
    )


def _show(shared: Common, found: "BucketDiff", *, lines: Iterator[str], diffs: bool = True) -> None:
    """Print a difference: as JSON, with or without the diffs, as Markdown,
    or as these lines and a summary.
    """
    for warning in found.warnings:
        shared.console.warning(f"{warning.where}: {warning.message}")

    summary = found.summary()
    if shared.format == "json":
        parts = msgspec.to_builtins(found)
        for change in parts["changes"]:
            if not diffs:
                del change["diff"]
        given = {key: parts[key] for key in ("bucket", "prefix", "replacements")}
        shared.answer(json.document(**given, summary=summary, changes=parts["changes"]))
        return

    folder = f"s3://{found.bucket}/{found.prefix}"
    if shared.format == "markdown":
        from cipipe.report import dag_changes

        shared.answer(dag_changes.markdown(found.changes, where=folder, summary=summary))
        return

    counts = ", ".join(f"{number} {kind}" for kind, number in summary.items())
    shown = "".join(f"{line}\n" for line in lines)
    shared.answer(f"{shown}{counts} in {folder}\n")


def _marked(shared: Common, found: "BucketDiff") -> Iterator[str]:
    for change in found.changes:
        mark, colour = _MARK[change.change]
        yield shared.style(f"{mark} {visible(change.key)}", colour)


def _unified(found: "BucketDiff") -> Iterator[str]:
    from cipipe.stages.dags.diff import shown_lines

    for change in found.changes:
        yield from shown_lines(change.diff)
