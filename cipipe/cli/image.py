"""`cipipe image`: the parts of the `image` stage, each on its own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec

from cipipe.cli.confirm import confirm, yes_option
from cipipe.cli.lazy import Group
from cipipe.cli.options import Common, common
from cipipe.cli.run import finish
from cipipe.cli.sandboxed import sandboxed
from cipipe.errors import StageError
from cipipe.model import Plan
from cipipe.pipeline.images import pruning, single, verifying
from cipipe.pipeline.planning.stage_lookup import stage_of_kind
from cipipe.pipeline.session import Session
from cipipe.report import json, text
from cipipe.terminal import visible

# Differences that the text shows; JSON has all of them.
_MAX_SHOWN = 50


@click.group(cls=Group)
def image() -> None:
    """The parts of the `image` stage, each on its own."""


def _stage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--stage", metavar="STAGE", help="Which image stage, where there are several."
    )(command)


@contextlib.contextmanager
def _session(
    shared: Common, wanted: str | None, *, yes: bool | None = None
) -> Iterator[tuple[Session, str]]:
    """The session, and the name of the chosen stage.

    `yes` is None for what changes nothing, and needs no confirmation.
    """
    session = shared.session()
    stage = stage_of_kind(session.project.config, "image", wanted)
    if yes is not None:
        confirm(shared, session, yes=yes)
    with sandboxed(shared, session) as session:
        yield session, stage


@image.command
@common()
@_stage_option
def build(shared: Common, stage: str | None) -> None:
    """Build the image of the commit on this machine, and run its smoke
    command. Pushes nothing, and needs no AWS.
    """
    with _session(shared, stage) as (session, name):
        built = single.build(session, name)
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(built)))
    else:
        shared.answer(f"{built.name}  {built.size / 1_000_000:.1f} MB\n")


@image.command
@common()
@_stage_option
@click.option("--allow-rollback", is_flag=True, help="Put older content over a newer pipeline's.")
@yes_option
def push(shared: Common, stage: str | None, allow_rollback: bool, yes: bool) -> int:
    """Run the `image` stage on its own, due or not: build, try, push. An
    image that the repository has is not built again.
    """

    def planned(plan: Plan) -> None:
        shared.console.say(text.plan(plan, shared.console.styled_stderr))

    with _session(shared, stage, yes=yes) as (session, name):
        outcome = single.push(session, name, allow_rollback=allow_rollback, planned=planned)
    return finish(shared, outcome)


@image.command
@common()
@_stage_option
def verify(shared: Common, stage: str | None) -> int:
    """Build the deployed image again from its commit, and compare every
    file. Exit status 4 if they differ.
    """
    with _session(shared, stage) as (session, name):
        found = verifying.verify(session, name)
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(found)))
    else:
        shared.answer("".join(f"{line}\n" for line in _verified(shared, found)))
    if not found.differences:
        return 0
    error = StageError(
        "image-differs",
        f"{found.image} is not what commit {found.commit[:12]} gives now",
        hint="Packages or a base image without a fixed version are the usual cause. A change that "
        "nobody can explain means that somebody else pushed the image.",
        where=f"stages.{found.stage}",
    )
    # The answer is on standard output already.
    shared.console.machine = False
    shared.console.error(error)
    return error.exit_status


@image.command
@common()
@_stage_option
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@yes_option
def prune(shared: Common, stage: str | None, dry_run: bool, yes: bool) -> None:
    """Delete the images that no rollback that is offered needs, and no
    running task.
    """
    with _session(shared, stage, yes=None if dry_run else yes) as (session, name):
        found = pruning.prune(session, name, dry_run=dry_run)
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(found), dry_run=dry_run))
    else:
        lines = _pruned(shared, found, dry_run=dry_run)
        shared.answer("".join(f"{line}\n" for line in lines))


def _verified(shared: Common, found: verifying.Verification) -> Iterator[str]:
    for difference in found.differences[:_MAX_SHOWN]:
        changed = shared.style(f"{difference.change:<13}", "yellow")
        yield f"{changed} {visible(difference.name)}"
    more = len(found.differences) - _MAX_SHOWN
    if more > 0:
        yield f"… and {more} more; --format json has all of them"
    number = len(found.differences)
    outcome = f"{number} difference{'s' if number > 1 else ''}" if number else "the same"
    yield f"{found.image}, commit {found.commit[:12]}: {found.files} files, {outcome}"


def _pruned(shared: Common, found: pruning.Pruning, *, dry_run: bool) -> Iterator[str]:
    for kept in found.kept:
        yield f"  {kept.tag}  {kept.why}"
    for tag in found.deleted:
        yield shared.style(f"- {tag}", "red")
    for tag in found.foreign:
        yield f"  {visible(tag)}  not made by cipipe"
    verb = "would be deleted from" if dry_run else "deleted from"
    yield f"{len(found.deleted)} tags {verb} {found.repository}, {len(found.kept)} kept"
    if found.offered_since:
        yield f"rollbacks are offered to what was deployed since {found.offered_since}"
