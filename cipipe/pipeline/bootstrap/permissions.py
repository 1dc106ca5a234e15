"""What the roles of an environment may do, stage by stage, and what they need beyond the resources
that are named after project and environment.

What a stage's settings name literally is known here; what an output names has
to have the usual name, or be listed under `[bootstrap]`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cipipe.config import Config
from cipipe.errors import UsageError
from cipipe.model import Environment
from cipipe.partitions import ANY_PARTITION, partition_of
from cipipe.stages import KINDS
from cipipe.stages.base import Resource, ResourceType
from cipipe.stages.settings import AnyStage

_POLICY_ARN = re.compile(rf"arn:{ANY_PARTITION}:iam::(aws|\d{{12}}):policy/[\w+=,.@/-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REPOSITORY_NAME = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")

# A repository of Amazon ECR: account, region, name.
_ECR = re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.[a-z0-9.]+/([^:@]+)")

# Policies with which a role could give itself everything.
_UNLIMITED = ("AdministratorAccess", "IAMFullAccess")

_OF_KIND: Mapping[str, tuple[str, str]] = {
    "terraform": (
        (
            "read and write its state; create, change and delete the network, and what is named "
            "{name} or {name}-…: buckets, ECR, ECS, MWAA, Athena, logs, parameters, secrets; "
            "roles below {path}/, with the boundary"
        ),
        "read its state and what is named {name} or {name}-…, but no values of secrets",
    ),
    "image": ("push, pull and delete images of its repository", "pull them, and read scans"),
    "dags": ("upload, list and delete objects of its bucket", "list and read them"),
    "command": ("nothing of its own", "nothing of its own"),
}


class StagePermissions(msgspec.Struct, frozen=True, kw_only=True):
    """What the two roles may do for one stage."""

    stage: str
    kind: str
    # For people.
    deploy: str
    verify: str
    # Places that the settings name, such as s3://bucket/key.
    places: tuple[str, ...] = ()


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """ARNs of what the roles may use beyond the usual names; variables of the Terraform root."""

    # Terraform states. Empty: the usual one.
    state_arns: list[str] = []
    # Buckets, and the objects in them.
    bucket_arns: list[str] = []
    object_arns: list[str] = []
    repository_arns: list[str] = []
    mwaa_arns: list[str] = []
    # What locks and encrypts the states.
    lock_table_arns: list[str] = []
    key_arns: list[str] = []
    deploy_policy_arns: list[str] = []
    verify_policy_arns: list[str] = []
    boundary_additional_actions: list[str] = []
    # The environment may be destroyed, and so its own buckets emptied.
    destroyable: bool = False


def by_stage(config: Config, name: str) -> tuple[StagePermissions, ...]:
    """The permissions for each stage of the environment, in the order of the stages."""
    own = {
        "name": f"{config.project.name}-{name}",
        "path": f"{config.project.name}/{name}",
    }
    found = []
    for stage, kind, resources in _stages(config, name):
        deploy, verify = (text.format(**own) for text in _OF_KIND[kind])
        if kind == "terraform" and _destroyable(config.environment(name)):
            deploy += "; empty those buckets, to destroy the environment"
        places = tuple(resource.shown for resource in resources)
        found.append(
            StagePermissions(stage=stage, kind=kind, deploy=deploy, verify=verify, places=places)
        )
    return tuple(found)


def extra(config: Config, name: str) -> Extra:
    """What the settings of stages name, and what `[bootstrap]` lists. Raises UsageError."""
    environment = config.environment(name)
    settings = config.bootstrap
    partition = partition_of(environment.region)

    def filled(key: str) -> list[str]:
        return [config.expanded(text, name) for text in getattr(settings, key)]

    places: dict[ResourceType, list[str]] = {kind: [] for kind in ResourceType}
    for _, _, resources in _stages(config, name):
        for resource in resources:
            places[resource.type].append(resource.name)

    folders = _s3(places[ResourceType.FOLDER], partition)
    objects = _s3(places[ResourceType.OBJECT], partition)
    listed = [_checked(_BUCKET, text, "buckets", "a bucket") for text in filled("buckets")]
    buckets = {place.partition("/")[0] for place in (*folders, *objects)} | set(listed)
    own = f"{config.project.name}-{name}-"
    within = [f"{place.rstrip('/')}/*" for place in folders] + objects
    within += [f"{bucket}/*" for bucket in listed]

    ecr = f"arn:{partition}:ecr:{environment.region}:{environment.account_id}:repository"
    repositories = [
        f"{ecr}/{match[3]}"
        for repository in places[ResourceType.REPOSITORY]
        if (match := _ECR.fullmatch(repository))
        and (match[1], match[2]) == (environment.account_id, environment.region)
    ]
    repositories += [
        f"{ecr}/{_checked(_REPOSITORY_NAME, text, 'repositories', 'the name of a repository')}"
        for text in filled("repositories")
    ]
    return Extra(
        state_arns=_arns(_s3(places[ResourceType.STATE], f"{partition}:s3/"), partition),
        bucket_arns=_arns((one for one in buckets if not one.startswith(own)), partition),
        object_arns=_arns((one for one in within if not one.startswith(own)), partition),
        repository_arns=sorted({arn for arn in repositories if f"/{own}" not in arn}),
        mwaa_arns=sorted(_mwaa_arns(config, name)),
        lock_table_arns=sorted(_lock_table_arns(config, name)),
        key_arns=sorted(_key_arns(config, name)),
        deploy_policy_arns=_policies(filled("deploy_policies"), "deploy_policies", environment),
        verify_policy_arns=_policies(filled("verify_policies"), "verify_policies", environment),
        boundary_additional_actions=list(settings.boundary_actions),
        destroyable=_destroyable(environment),
    )


def _destroyable(environment: Environment) -> bool:
    return not environment.protected or environment.allow_destroy


def _mwaa_arns(config: Config, name: str) -> set[str]:
    """The MWAA environments that settings name and that do not have the usual name."""
    here = _here(config, name, "airflow")
    own = f"{config.project.name}-{name}"
    found = {stage.settings.mwaa_environment for stage in _of_kind(config, name, "dags")}
    return {f"{here}:environment/{one}" for one in found if one != own and isinstance(one, str)}


def _lock_table_arns(config: Config, name: str) -> set[str]:
    here = _here(config, name, "dynamodb")
    return {f"{here}:table/{table}" for table in _backend_values(config, name, "dynamodb_table")}


def _key_arns(config: Config, name: str) -> set[str]:
    """The keys that states are encrypted with. S3 takes no alias there."""
    here = _here(config, name, "kms")
    keys = _backend_values(config, name, "kms_key_id")
    return {key if key.startswith("arn:") else f"{here}:key/{key}" for key in keys}


def _backend_values(config: Config, name: str, key: str) -> set[str]:
    """The values of a setting of the S3 backend."""
    backends = (stage.settings.backend for stage in _of_kind(config, name, "terraform"))
    return {str(one[key]) for one in backends if one.get("type", "s3") == "s3" and one.get(key)}


def _of_kind(config: Config, name: str, kind: str) -> Iterator[AnyStage]:
    """The environment's stages of a kind, with all placeholders filled in."""
    here = config.at(name)
    return (here.for_run(stage, name) for stage in here.stages.values() if stage.kind == kind)


def _here(config: Config, name: str, service: str) -> str:
    """How ARNs of a service start in the environment's account and region."""
    environment = config.environment(name)
    partition = partition_of(environment.region)
    return f"arn:{partition}:{service}:{environment.region}:{environment.account_id}"


def _stages(config: Config, name: str) -> Iterator[tuple[str, str, list[Resource]]]:
    """Each stage of the environment, its kind, and what its settings name."""
    environment = config.environment(name)
    here = config.at(name)
    for stage in here.stages.values():
        whole = here.for_run(stage, name)
        yield stage.name, stage.kind, list(KINDS[stage.kind].resources(whole, environment))


def _s3(names: list[str], before: str) -> list[str]:
    """`bucket/key` of resources of S3, whose names begin with the partition."""
    start = before if before.endswith("/") else f"{before}:"
    return [name.removeprefix(start) for name in names if name.startswith(start)]


def _arns(places: Any, partition: str) -> list[str]:
    return [f"arn:{partition}:s3:::{place}" for place in sorted(set(places))]


def _policies(arns: list[str], key: str, environment: Environment) -> list[str]:
    """The ARNs, if they are those of managed policies of the account, or of
    AWS, that leave a limit.
    """
    partition = partition_of(environment.region)
    for number, arn in enumerate(arns):
        found = _POLICY_ARN.fullmatch(arn)
        where = f"bootstrap.{key}[{number}]"
        if not found or found[1] != partition:
            raise UsageError(
                "bootstrap-bad-permission",
                f"{arn!r} is not the ARN of a managed policy in partition {partition}",
                hint=f"Write it as arn:{partition}:iam::ACCOUNT:policy/NAME.",
                where=where,
            )
        if found[2] not in {"aws", environment.account_id}:
            raise UsageError(
                "bootstrap-bad-permission",
                f"{arn} is in account {found[2]}, the environment in {environment.account_id}, and "
                "IAM attaches policies of the same account only",
                hint="Create the policy in each account, and write its ARN with {account_id}.",
                where=where,
            )
        if arn.rpartition("/")[2] in _UNLIMITED:
            raise UsageError(
                "bootstrap-bad-permission",
                f"with {arn.rpartition('/')[2]}, a pipeline could give itself every permission",
                hint="Name a policy with the actions that the stack needs.",
                where=where,
            )
    return arns


def _checked(pattern: re.Pattern[str], text: str, key: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise UsageError(
            "bootstrap-bad-permission",
            f"{text!r} is not {what}",
            hint="Write the name alone, without an ARN or an address.",
            where=f"bootstrap.{key}",
        )
    return text
