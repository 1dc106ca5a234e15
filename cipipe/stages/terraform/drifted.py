"""What Terraform finds to be different from the configuration that is deployed.

It is planned anew, with a refresh and without a lock, from the files of the
deployed commit. What the plan would leave as it is counts as no drift, but
for what was deleted: attributes that nobody configured, what
`ignore_changes` names, values that the provider takes for the same.

Values never leave this module: only the addresses and the paths of
attributes do.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cipipe.results import DriftFinding
from cipipe.stages.checkout import check_out
from cipipe.stages.context import StageContext
from cipipe.stages.paths import repository_path
from cipipe.stages.settings import literal
from cipipe.stages.terraform.settings import TerraformSettings
from cipipe.stages.terraform.stage_client import client_of
from cipipe.tools.terraform.shown import ResourceChange, ShownPlan

# Paths of attributes that a finding names.
_MAX_PATHS = 5

_DOES: dict[tuple[str, ...], str] = {
    ("create",): "create it",
    ("update",): "change it",
    ("delete",): "delete it",
    ("forget",): "remove it from the state",
    ("no-op",): "move or import it in the state",
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

    plan = context.scratch / "drift.tfplan"
    # Variables go into a file, because every user of the machine can read a
    # command line.
    variables = context.scratch / "drift.tfvars.json"
    settings = context.stage.settings
    values = {name: literal(value) for name, value in settings.variables.items()}
    variables.write_bytes(msgspec.json.encode(values))
    terraform.plan(plan, var_files=(*settings.var_files, str(variables)), lock=False)
    yield from differences(
        terraform.show(plan), stage=context.stage.name, environment=context.environment_name
    )


def differences(shown: ShownPlan, *, stage: str, environment: str) -> Iterator[DriftFinding]:
    """What a plan says, with one finding for each resource."""
    outside = {entry.address: entry for entry in shown.resource_drift if entry.mode == "managed"}
    planned = {entry.address: entry for entry in shown.changes()}
    hint = f"Apply what is deployed again: cipipe run {stage} --force {stage} --env {environment}"

    deleted = {address for address, entry in outside.items() if entry.destroys}
    causes = deleted | {address for address, entry in planned.items() if _known(entry)}
    for address in sorted(causes or planned.keys()):
        paths = [] if address in deleted else _known(planned[address])
        if address in deleted:
            kind, expected, actual = "resource-deleted", "there", "deleted outside of Terraform"
        elif address in outside and _attributes(paths) & _attributes(_known(outside[address])):
            kind, expected = "resource-changed", "as Terraform left it"
            actual = f"changed outside of Terraform{_shown(paths)}"
        else:
            kind, expected = "resource-differs", "as the deployed configuration says"
            actual = f"Terraform would {_verb(planned[address])}{_shown(paths)}"
        yield DriftFinding(
            stage=stage, kind=kind, what=address, expected=expected, actual=actual, hint=hint
        )

    # Outputs of resources that differ do so too.
    if deleted or planned:
        return
    for name, change in sorted(shown.output_changes.items()):
        if change.actions != ("no-op",):
            yield DriftFinding(
                stage=stage,
                kind="output-differs",
                what=f"output {name}",
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


def _verb(entry: ResourceChange) -> str:
    return _DOES.get(entry.actions, "replace it")


def _known(entry: ResourceChange) -> list[str]:
    """The paths of what changes in a resource.

    What is known only after an apply is left out: it changes because
    something else does. A resource that is created or deleted has the empty
    path.
    """
    change = entry.change
    if change.before is None or change.after is None or entry.actions == ("no-op",):
        return [""]
    marks = (change.before_sensitive, change.after_sensitive, change.after_unknown)
    return sorted(set(_changed("", change.before, change.after, marks)))


def _attributes(paths: list[str]) -> set[str]:
    """The names of the attributes that paths lead into."""
    return {re.split(r"[.\[]", path, maxsplit=1)[0] for path in paths}


def _changed(path: str, before: Any, after: Any, marks: Sequence[Any]) -> Iterator[str]:
    *sensitive, unknown = marks
    if unknown is True or _same(before, after):
        return
    # Below a sensitive value, its very keys may be secret.
    if True not in sensitive and isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inner = f"{path}.{key}" if path else key
            below = [_below(mark, key) for mark in marks]
            yield from _changed(inner, before.get(key), after.get(key), below)
    elif True not in sensitive and isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield path
            return
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            below = [_below(mark, index) for mark in marks]
            yield from _changed(f"{path}[{index}]", one, other, below)
    else:
        yield path


def _below(mark: Any, key: str | int) -> Any:
    """What `before_sensitive` or the like says of a value inside of another."""
    if isinstance(mark, dict):
        return mark.get(key, False)
    if isinstance(mark, list) and isinstance(key, int) and key < len(mark):
        return mark[key]
    return mark is True


def _same(before: Any, after: Any) -> bool:
    """Equal, or both empty: providers read an empty value back as null."""
    empty: tuple[Any, ...] = (None, "", [], {})
    return before == after or (before in empty and after in empty)


def _shown(paths: list[str]) -> str:
    if paths in ([], [""]):
        return ""
    more = len(paths) - _MAX_PATHS
    return f": {', '.join(paths[:_MAX_PATHS])}" + (f" and {more} more" if more > 0 else "")
