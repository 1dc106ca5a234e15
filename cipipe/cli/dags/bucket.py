"""`cipipe dags diff`, `deploy`, `rollback`, `status`: the `dags` stage on its own, against its
bucket.
"""

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
from cipipe.pipeline.stage_lookup import stage_of_kind
from cipipe.report import json, text
from cipipe.terminal import visible

if TYPE_CHECKING:
    from cipipe.stages.dags.diff import BucketDiff

_MARK = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def _stage(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--stage", metavar="STAGE", help="Which dags stage, where there are several."
    )(command)


@contextlib.contextmanager
def _call(shared: Common, stage: str | None, *, yes: bool | None = None) -> Iterator[use_case.Call]:
    """What the use cases are called with. `yes` is None for what changes nothing, and needs no
    confirmation.
    """
    session = shared.session()
    chosen = stage_of_kind(session.project.config, "dags", stage)
    if yes is not None:
        confirm(shared, session, yes=yes)
    with sandboxed(shared, session) as session:
        yield use_case.Call(session, chosen)


@click.command
@common()
@_stage
@click.option(
    "--worktree",
    is_flag=True,
    help="Compare the files as they lie on disk, not those of the commit.",
)
def diff(shared: Common, stage: str | None, worktree: bool) -> None:
    """Show what a deployment would change in the bucket, with the outputs that the ledger has.
    Writes nothing.
    """
    with _call(shared, stage) as call:
        _answer(shared, use_case.diff(call, worktree=worktree), whole=True)


@click.command
@common()
@_stage
@click.option("--dry-run", is_flag=True, help="Tell which keys would change, and write nothing.")
@click.option("--allow-empty", is_flag=True, help="Deploying no DAG at all is meant.")
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
    """Run the `dags` stage on its own, due or not: patch, check, upload what differs, delete what
    is gone.
    """

    def planned(plan: Plan) -> None:
        shared.console.say(text.plan(plan, shared.console.styled_stderr))

    with _call(shared, stage, yes=None if dry_run else yes) as call:
        if dry_run:
            found = use_case.dry_run(call, allow_empty=allow_empty, allow_rollback=allow_rollback)
            _answer(shared, found, whole=False)
            return 0
        outcome = use_case.deploy(
            call, allow_empty=allow_empty, allow_rollback=allow_rollback, planned=planned
        )
    return finish(shared, outcome)


@click.command
@common()
@_stage
@click.option(
    "--to", metavar="COMMIT", help="The commit to go back to. Default: what was deployed before."
)
@yes_option
def rollback(shared: Common, stage: str | None, to: str | None, yes: bool) -> int:
    """Restore the object versions of an earlier manifest. What HEAD holds is due again afterwards."""
    if to is not None and not to.strip():
        raise UsageError(
            "usage",
            "--to names no commit",
            hint="Is a variable empty? Without --to it is the one before.",
        )
    with _call(shared, stage, yes=yes) as call:
        outcome = use_case.rollback(call, to)
    return finish(shared, outcome)


@click.command
@common()
@_stage
def status(shared: Common, stage: str | None) -> None:
    """Tell what of the stage is in the bucket: commit, files, and what others changed, removed or
    put there.
    """
    with _call(shared, stage) as call:
        found = use_case.status(call)
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(found)))
        return
    lines = [f"{shared.style(found.stage, 'bold')}  {found.state}"]
    if found.bucket is not None:
        lines[0] += f", commit {(found.commit or '–')[:7]}, {text.age(found.finished_at)} ago"
        lines += [
            f"  {visible(file.key)}  {shared.style(file.state, 'yellow')}" for file in found.drifted
        ]
        lines.append(
            f"  {len(found.files)} files in s3://{found.bucket}/{found.prefix}, {len(found.drifted)} not as deployed, "
            f"{found.foreign} objects of others"
        )
    shared.answer("\n".join(lines) + "\n")


def _answer(shared: Common, found: "BucketDiff", *, whole: bool) -> None:
    for warning in found.warnings:
        shared.console.warning(f"{warning.where}: {warning.message}")
    summary = found.summary()
    if shared.format == "json":
        parts = msgspec.to_builtins(found)
        changes = [
            {k: v for k, v in change.items() if whole or k != "diff"} for change in parts["changes"]
        ]
        given = {key: parts[key] for key in ("bucket", "prefix", "replacements")}
        shared.answer(json.document(**given, summary=summary, changes=changes))
        return
    lines = []
    for change in found.changes:
        mark, colour = _MARK[change.change]
        if not whole:
            lines.append(shared.style(f"{mark} {visible(change.key)}", colour) + "\n")
        else:
            lines += [_visible(line) + "\n" for line in change.diff.splitlines()]
    counts = ", ".join(f"{number} {kind}" for kind, number in summary.items())
    shared.answer("".join(lines) + f"{counts} in s3://{found.bucket}/{found.prefix}\n")


def _visible(line: str) -> str:
    return "\t".join(map(visible, line.split("\t")))
