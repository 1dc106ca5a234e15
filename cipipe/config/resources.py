"""Environments that share a resource: each would overwrite what is the
other's, and destroying one would delete it.

Only what the file says is compared here: a bucket that is an output is,
when a run knows it.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from cipipe.config.settings import LedgerSettings
from cipipe.config.views import Expansion
from cipipe.errors import Problem
from cipipe.model import Environment
from cipipe.partitions import partition_of
from cipipe.stages import KINDS
from cipipe.stages.base import Resource, ResourceType
from cipipe.stages.settings import AnyStage

_MESSAGES = {
    ResourceType.RECORDS: (
        "keep their records in {}: each would treat what the other deployed as its own"
    ),
    ResourceType.STATE: (
        "keep their state in {}: each would replace the other's resources by its own"
    ),
    ResourceType.FOLDER: (
        "upload to {}: each would overwrite the other's files, and destroying one deletes them"
    ),
    ResourceType.OBJECT: "upload to {}: each would overwrite the other's",
    ResourceType.REPOSITORY: "push to {}: destroying one would delete the other's images",
}


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as one environment uses it."""

    environment: str

    # Empty for the ledger.
    stage: str = ""

    resource: Resource

    # The key path of the setting that names the resource.
    path: str

    # Whether the environment may be destroyed, and with it what is in the
    # resource.
    destroyed: bool = True


def shared(
    project: str,
    ledger: LedgerSettings,
    environments: Mapping[str, Environment],
    views: Mapping[str, Iterable[AnyStage]],
) -> Iterator[Problem]:
    """A problem for each setting by which two environments, or two states
    of one, get to the same resource. `views` are the stages of each
    environment, with all placeholders filled in.
    """
    used: dict[tuple[ResourceType, str], list[Used]] = {}
    for name, environment in environments.items():
        for one in _used(
            project=project, ledger=ledger, name=name, environment=environment, stages=views[name]
        ):
            used.setdefault((one.resource.type, one.resource.name), []).append(one)
    found = [*(group for group in used.values() if _clash(group)), *_nested(used)]
    reported: set[str] = set()
    for group in found:
        last = group[-1]
        if last.path not in reported:
            reported.add(last.path)
            message = f"{_named(group)} {_MESSAGES[last.resource.type].format(_shown(group))}"
            yield Problem("config-shared-place", message, last.path, hint=last.resource.hint)


def _used(
    project: str,
    ledger: LedgerSettings,
    name: str,
    environment: Environment,
    stages: Iterable[AnyStage],
) -> Iterator[Used]:
    expansion = Expansion(project, name, environment)
    bucket = expansion.text(ledger.bucket)
    prefix = expansion.text(ledger.prefix).rstrip("/") + "/"
    hint = 'Name the environment in it, such as prefix = "ledger/{project}/{environment}/".'
    records = Resource(
        type=ResourceType.RECORDS,
        name=f"{partition_of(environment.region)}:{bucket}/{prefix}",
        shown=f"s3://{bucket}/{prefix}",
        key="prefix",
        hint=hint,
    )
    yield Used(environment=name, resource=records, path="ledger.prefix")
    destroyed = not environment.protected or environment.allow_destroy
    for stage in stages:
        for resource in KINDS[stage.kind].resources(stage, environment):
            yield Used(
                environment=name,
                stage=stage.name,
                resource=resource,
                path=f"stages.{stage.name}.{resource.key}",
                destroyed=destroyed,
            )


def _clash(group: list[Used]) -> bool:
    """Whether the users of one resource would damage each other's work."""
    several = len({one.environment for one in group}) > 1
    match group[0].resource.type:
        case ResourceType.STATE:
            return len(group) > 1
        # Images have tags made from content, so that sharing a repository
        # does no harm until one environment is destroyed.
        case ResourceType.REPOSITORY:
            return several and any(one.destroyed for one in group)
        # Whether stages of one environment may share it is up to the kind.
        case _:
            return several


def _nested(used: Mapping[tuple[ResourceType, str], list[Used]]) -> Iterator[list[Used]]:
    """Folders of two environments of which one is inside the other."""
    folders = sorted(
        (name, group) for (type_, name), group in used.items() if type_ is ResourceType.FOLDER
    )
    # Sorted, a folder comes right after those that it is inside: those that
    # are still open.
    open_: list[tuple[str, list[Used]]] = []
    for name, group in folders:
        open_ = [(outer, users) for outer, users in open_ if name.startswith(outer)]
        for _, users in open_:
            both = next(
                (
                    [one, other]
                    for one in users
                    for other in group
                    if one.environment != other.environment
                ),
                None,
            )
            if both is not None:
                yield both
        open_.append((name, group))


def _named(group: Iterable[Used]) -> str:
    users = list(dict.fromkeys((one.environment, one.stage) for one in group))
    if len({stage for _, stage in users}) == 1:
        return "environments " + " and ".join(environment for environment, _ in users)
    return " and ".join(f"stage {stage} of {environment}" for environment, stage in users)


def _shown(group: list[Used]) -> str:
    names = list(dict.fromkeys(one.resource.shown for one in group))
    return names[0] if len(names) == 1 else f"{names[0]} and {names[1]}, which is inside it"
