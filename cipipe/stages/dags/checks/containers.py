"""Containers named in DAG files must exist in the task definition that the
deployment pins.

ECS reports that when the task is started; here it is found before anything
is uploaded.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.model import Mode
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks.static import failed
from cipipe.stages.dags.markers.patch import Replacement
from cipipe.stages.dags.settings import Settings
from cipipe.stages.dags.trees import constants, last_part
from cipipe.tools.aws.errors import AwsError

# How operators and boto3 name the two arguments.
_DEFINITION = ("task_definition", "taskDefinition")
_CONTAINER = ("container", "container_name")


class Override(NamedTuple):
    """A container that is named beside a task definition."""

    definition: str
    container: str
    # FILE:LINE of the container's name.
    where: str


def check(
    context: StageContext[Settings],
    bodies: Mapping[str, bytes],
    replacements: tuple[Replacement, ...],
) -> list[Problem]:
    """Look up each task definition that was put into a file; returns
    warnings.

    One that no marker put there is a value for local runs, or somebody
    else's: it is left alone. In verify mode, a family without a revision
    may be about to change: then everything is a warning. Raises
    ProblemsError.
    """
    wanted: dict[str, list[Override]] = defaultdict(list)
    for path in sorted({replacement.file for replacement in replacements}):
        pinned = {replacement.name for replacement in replacements if replacement.file == path}
        for override in overrides(bodies[path], path, pinned):
            wanted[override.definition].append(override)

    wrong: list[Problem] = []
    notes: list[Problem] = []
    for definition, found in wanted.items():
        try:
            answer = context.aws.call("ecs", "describe_task_definition", taskDefinition=definition)
        except AwsError as error:
            # ClientException: there is none. Everything else, such as a
            # missing permission, says nothing about the task definition.
            absent = error.code == "ClientException" and not _may_change(context, definition)
            (wrong if absent else notes).append(_unknown(definition, found[0].where, error))
            continue
        containers = answer["taskDefinition"]["containerDefinitions"]
        names = {container["name"] for container in containers}
        missing = [
            _absent(override, names) for override in found if override.container not in names
        ]
        (notes if _may_change(context, definition) else wrong).extend(missing)
    if wrong:
        raise failed(wrong)
    return notes


def _may_change(context: StageContext[Settings], definition: str) -> bool:
    pinned = definition.rpartition(":")[2].isdigit()
    return context.mode is Mode.VERIFY and not pinned


def overrides(body: bytes, path: str, pinned: set[str]) -> Iterator[Override]:
    """The containers named literally in calls that get a task definition from a `pinned` name."""
    try:
        tree = ast.parse(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return

    known = constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        chosen = [given[name] for name in _DEFINITION if name in given]
        if not chosen or not isinstance(chosen[0], ast.Name) or chosen[0].id not in pinned:
            continue

        definition = _text(chosen[0], known)
        named = [given[name] for name in _CONTAINER if name in given]
        for name in [*named, *_containers(given.get("overrides"), known)]:
            container = _text(name, known)
            if definition is not None and container is not None:
                yield Override(definition, container, f"{path}:{name.lineno}")


def _containers(node: ast.expr | None, known: Mapping[str, ast.expr]) -> Iterator[ast.expr]:
    """The names in `{"containerOverrides": [{"name": …}]}`, or in a call that builds that."""
    node = _value(node, known)
    if isinstance(node, ast.Call):
        if _builds_overrides(node):
            keywords = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            yield from node.args[:1] or keywords
        return

    listed = _value(_entries(node, known).get("containerOverrides"), known)
    for item in listed.elts if isinstance(listed, ast.List | ast.Tuple) else ():
        name = _entries(item, known).get("name")
        if name is not None:
            yield name


def _builds_overrides(call: ast.Call) -> bool:
    """By its name, as in `container_overrides("dbt", …)`; other functions may take anything."""
    name = last_part(call.func).lower()
    return "container" in name and "override" in name


def _entries(node: ast.expr | None, known: Mapping[str, ast.expr]) -> dict[str, ast.expr]:
    """The entries of a dict literal with literal strings as keys."""
    node = _value(node, known)
    if not isinstance(node, ast.Dict):
        return {}
    return {
        key.value: value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def _value(node: ast.expr | None, known: Mapping[str, ast.expr]) -> ast.expr | None:
    return known.get(node.id) if isinstance(node, ast.Name) else node


def _text(node: ast.expr | None, known: Mapping[str, ast.expr]) -> str | None:
    node = _value(node, known)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _absent(override: Override, names: set[str]) -> Problem:
    return Problem(
        "dag-container-unknown",
        f"names a container {override.container!r}, which {override.definition} does not have",
        override.where,
        hint=f"Its containers are: {', '.join(sorted(names))}."
        " Take the name from a Terraform output as well.",
    )


def _unknown(definition: str, where: str, error: AwsError) -> Problem:
    return Problem(
        "dag-task-definition-unknown",
        f"the task definition {definition} cannot be looked up: {error.code}: {error.text}",
        where,
        hint="Does the output that the marker names have a task definition of this account"
        " and region?",
    )
