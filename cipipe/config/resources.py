"""Environments that share a resource: each would overwrite what is the other's, and its destroy would
delete it.

Only what the file tells: a bucket that is an output is compared when a run knows it.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from cipipe.config.settings import LedgerSettings, expanded, filled, stages_of
from cipipe.errors import Problem
from cipipe.model import Environment, partition_of
from cipipe.stages import KINDS
from cipipe.stages.base import Resource, ResourceType
from cipipe.stages.settings import AnyStage

_MESSAGES = {
    ResourceType.RECORDS: "keep their records in {}: each would take what the other deployed for its own",
    ResourceType.STATE: "keep their state in {}: each would replace the other's resources by its own",
    ResourceType.FOLDER: "upload to {}: each would overwrite the other's files, and destroying one deletes them",
    ResourceType.OBJECT: "upload to {}: each would overwrite the other's",
    ResourceType.REPOSITORY: "push to {}: destroying one would delete the other's images",
}


class Used(msgspec.Struct, frozen=True):
    """A resource as one environment uses it. `stage` is empty for the ledger; `path` is the key path
    of the setting.
    """

    environment: str
    stage: str
    resource: Resource
    path: str
    destroyed: bool = True


def shared(
    project: str,
    ledger: LedgerSettings,
    environments: Mapping[str, Environment],
    stages: Mapping[str, AnyStage],
) -> Iterator[Problem]:
    """A problem for each setting by which two environments, or two states of one, get to the same
    resource.
    """
    used: dict[tuple[ResourceType, str], list[Used]] = {}
    for name, environment in environments.items():
        for one in _used(project, ledger, name, environment, stages):
            used.setdefault((one.resource.type, one.resource.name), []).append(one)
    found = [*(group for group in used.values() if _clash(group)), *_nested(used)]
    told: set[str] = set()
    for group in found:
        last = group[-1]
        if last.path not in told:
            told.add(last.path)
            message = f"{_named(group)} {_MESSAGES[last.resource.type].format(_shown(group))}"
            yield Problem("config-shared-place", message, last.path, last.resource.hint)


def _used(
    project: str,
    ledger: LedgerSettings,
    name: str,
    environment: Environment,
    stages: Mapping[str, AnyStage],
) -> Iterator[Used]:
    known = {
        "project": project,
        "environment": name,
        "account_id": environment.account_id,
        "region": environment.region,
    }
    bucket, prefix = (
        expanded(ledger.bucket, known),
        expanded(ledger.prefix, known).rstrip("/") + "/",
    )
    hint = 'Name the environment in it, such as prefix = "ledger/{project}/{environment}/".'
    records = Resource(
        type=ResourceType.RECORDS,
        name=f"{partition_of(environment.region)}:{bucket}/{prefix}",
        shown=f"s3://{bucket}/{prefix}",
        key="prefix",
        hint=hint,
    )
    yield Used(name, "", records, "ledger.prefix")
    destroyed = not environment.protected or environment.allow_destroy
    for stage in stages_of(stages, name).values():
        whole = filled(stage, project, name, environment, everything=True)
        for resource in KINDS[stage.kind].resources(whole, environment):
            yield Used(name, stage.name, resource, f"stages.{stage.name}.{resource.key}", destroyed)


def _clash(group: list[Used]) -> bool:
    """Whether users of one resource get in each other's way."""
    several = len({one.environment for one in group}) > 1
    match group[0].resource.type:
        case ResourceType.STATE:
            return len(group) > 1
        case ResourceType.REPOSITORY:  # with images of the same tags, which are the same
            return several and any(one.destroyed for one in group)
        case _:  # what stages of one environment share is the kind's own to tell
            return several


def _nested(used: Mapping[tuple[ResourceType, str], list[Used]]) -> Iterator[list[Used]]:
    """Folders of two environments of which one is inside the other."""
    folders = sorted(
        (name, group) for (type_, name), group in used.items() if type_ is ResourceType.FOLDER
    )
    open_: list[tuple[str, list[Used]]] = []
    for name, group in folders:
        open_ = [(outer, users) for outer, users in open_ if name.startswith(outer)]
        for _, users in open_:
            both = [
                (one, other)
                for one in users
                for other in group
                if one.environment != other.environment
            ]
            if both:
                yield list(both[0])
        open_.append((name, group))


def _named(group: Iterable[Used]) -> str:
    users = list(dict.fromkeys((one.environment, one.stage) for one in group))
    if len({stage for _, stage in users}) == 1:
        return "environments " + " and ".join(environment for environment, _ in users)
    return " and ".join(f"stage {stage} of {environment}" for environment, stage in users)


def _shown(group: list[Used]) -> str:
    names = list(dict.fromkeys(one.resource.shown for one in group))
    return names[0] if len(names) == 1 else f"{names[0]} and {names[1]}, which is inside it"
