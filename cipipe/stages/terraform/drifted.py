"""What Terraform finds to be different from the configuration that is deployed.

It is planned anew, with a refresh and without a lock, from the files of the
deployed commit. What the plan would leave as it is counts as no drift, but
for what was deleted: attributes that nobody configured, what
`ignore_changes` names, values that the provider takes for the same.

Values never leave this module: only the addresses and the paths of
attributes do.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cipipe.results import DriftFinding
from cipipe.stages.checkout import check_out
from cipipe.stages.context import StageContext
from cipipe.stages.paths import repository_path
from cipipe.stages.terraform.changes.model import (
    Action,
    AttributeChange,
    ChangeSet,
    ResourceEntry,
    Unknown,
)
from cipipe.stages.terraform.changes.reading import change_set
from cipipe.stages.terraform.saving import save_plan
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.stage_client import client_of
from cipipe.terminal import some
from cipipe.tools.terraform.shown import ShownPlan

# Paths of attributes that a finding names.
_MAX_PATHS = 5

_DOES = {
    Action.CREATE: "create it",
    Action.UPDATE: "change it",
    Action.REPLACE: "replace it",
    Action.REPLACE_CREATE_FIRST: "replace it",
    Action.DELETE: "delete it",
    Action.FORGET: "remove it from the state",
    Action.MOVE: "move it in the state",
    Action.IMPORT: "import it",
}


def findings(context: StageContext[TerraformSettings]) -> Iterator[DriftFinding]:
    """Plan, and say what is different. Raises StageError, UsageError."""
    record = context.previous
    assert record is not None  # noqa: S101  (without one there is nothing to compare)
    if record.fingerprint != context.fingerprint:
        yield _files_unknown(context, record.commit)
        return

    top = context.scratch / "deployed"
    _check_out(context, top)
    terraform = client_of(context, top)
    terraform.init()
    if not terraform.has_workspace():
        yield DriftFinding(
            stage=context.stage.name,
            kind="state-missing",
            what=f"workspace {context.stage.settings.workspace}",
            expected="there, with the deployed state",
            actual="there is no such workspace",
            hint="Restore the state from an earlier version of its object.",
        )
        return

    plan = save_plan(context, terraform, lock=False)
    shown = terraform.show(plan)
    yield from differences(
        without_unknown(change_set(shown, context.redactor), shown),
        stage=context.stage.name,
        again=context.again,
    )


def differences(changes: ChangeSet, *, stage: str, again: str) -> Iterator[DriftFinding]:
    """What a plan says, with one finding for each resource."""
    outside = {entry.address: entry for entry in changes.drift}
    planned = {entry.address: entry for entry in changes.resources}
    hint = f"Apply what is deployed again: cipipe run {stage} --force {stage} {again}"

    deleted = {address for address, entry in outside.items() if entry.action is Action.DELETE}
    causes = deleted | {address for address, entry in planned.items() if _is_cause(entry)}
    for address in sorted(causes or planned.keys()):
        paths = _paths(planned[address]) if address in planned else []
        if address in deleted:
            kind, expected, actual = "resource-deleted", "there", "deleted outside of Terraform"
        elif address in outside and _attributes(paths) & _attributes(_paths(outside[address])):
            kind, expected = "resource-changed", "as Terraform left it"
            actual = f"changed outside of Terraform{_shown(paths)}"
        else:
            action = planned[address].action
            kind, expected = "resource-differs", "as the deployed configuration says"
            shown = "" if action is Action.CREATE else _shown(paths)
            actual = f"Terraform would {_DOES[action]}{shown}"
        yield DriftFinding(
            stage=stage, kind=kind, what=address, expected=expected, actual=actual, hint=hint
        )

    # Outputs of resources that differ do so too.
    if not causes and not planned:
        for output in changes.outputs:
            yield DriftFinding(
                stage=stage,
                kind="output-differs",
                what=f"output {output.name}",
                expected="as it was applied",
                actual="Terraform would change it",
                hint=hint,
            )


def _files_unknown(context: StageContext[TerraformSettings], commit: str | None) -> DriftFinding:
    """The finding where neither HEAD nor the deployed commit has what was deployed."""
    shown = (commit or "unknown")[:12]
    if commit is None or context.repository.commit(commit) is None:
        why = f"this clone does not have the deployed commit {shown}, and HEAD has other content"
        hint = (
            "Fetch the history: on GitHub `fetch-depth: 0` for actions/checkout, on GitLab the "
            'variable GIT_DEPTH: "0".'
        )
    else:
        why = (
            f"the deployed commit {shown} does not give the fingerprint that was deployed: "
            "variables that the settings use have other values here"
        )
        hint = "Set the variables as in the job that deployed it."
    return DriftFinding.unchecked(context.stage.name, context.stage.settings.root, why, hint)


def _check_out(context: StageContext[TerraformSettings], folder: Path) -> None:
    """Write the deployed commit's files; those of the stage have to be here."""
    own = {entry.path for entry in context.entries}
    root = repository_path(context.stage.settings.root).encode(errors="surrogateescape")

    def needed(path: bytes) -> bool:
        # The root may also be, or lie in, a submodule.
        return path in own or not root or path == root or _nested(path, root)

    folder.mkdir()
    check_out(context.repository, context.tree, folder, needed=needed)


def _nested(one: bytes, other: bytes) -> bool:
    return one.startswith(other + b"/") or other.startswith(one + b"/")


def without_unknown(changes: ChangeSet, shown: ShownPlan) -> ChangeSet:
    """The change set without attributes that are known only after an apply.

    They change because something else does. A change set does not tell it
    of sensitive ones.
    """
    unknown = {
        (entry.address, name)
        for entry in shown.resource_changes
        if isinstance(entry.change.after_unknown, dict)
        for name, mark in entry.change.after_unknown.items()
        if mark is True
    }

    def known(address: str, change: AttributeChange) -> bool:
        hidden = any((address, name) in unknown for name in _attributes([change.path]))
        return not hidden and not isinstance(change.after, Unknown)

    resources = [
        msgspec.structs.replace(
            entry, attributes=tuple(a for a in entry.attributes if known(entry.address, a))
        )
        for entry in changes.resources
    ]
    return msgspec.structs.replace(changes, resources=tuple(resources))


def _paths(entry: ResourceEntry) -> list[str]:
    """The paths of what changes in a resource."""
    return sorted({change.path for change in entry.attributes})


def _is_cause(entry: ResourceEntry) -> bool:
    """Whether more than what follows from other changes happens to a resource."""
    changes = entry.action is Action.UPDATE or entry.action.replaces
    return not changes or bool(_paths(entry))


def _attributes(paths: list[str]) -> set[str]:
    """The names of the attributes that paths lead into."""
    return {re.split(r"[.\[]", path, maxsplit=1)[0] for path in paths}


def _shown(paths: list[str]) -> str:
    return f": {some(paths, _MAX_PATHS)}" if paths else ""
