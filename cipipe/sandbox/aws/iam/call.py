"""One request to AWS, as the permissions that it needs are derived from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cipipe.partitions import partition_of
from cipipe.sandbox.aws.iam.evaluation import Need, UndecidableError

Context = Mapping[str, tuple[str, ...]]


class Existing(Protocol):
    """What is asked about resources that exist."""

    def role_arn(self, account: str, name: str) -> str | None: ...

    def boundary_of(self, account: str, name: str) -> str | None: ...

    def ec2_tags(self, account: str, region: str, identifier: str) -> Mapping[str, str]: ...

    def ec2_association(self, account: str, region: str, identifier: str) -> tuple[str, ...]: ...

    def secret_arn(self, account: str, region: str, name: str) -> str | None: ...

    def query_workgroup(self, account: str, region: str, identifier: str) -> str | None: ...

    def key_of(self, account: str, region: str, name: str) -> tuple[str, Mapping[str, str]]: ...

    def has_object(self, account: str, bucket: str, key: str, version: str | None) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. `operation` and `parameters` are empty where the protocol is REST."""

    # The name in the signature's scope.
    service: str
    operation: str
    account: str
    region: str
    existing: Existing

    # The form of the query protocol, or the JSON document.
    parameters: Mapping[str, Any] = field(default_factory=dict)

    method: str = "POST"

    # Decoded, without the query.
    path: str = "/"
    query: Mapping[str, str] = field(default_factory=dict)

    # Names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def partition(self) -> str:
        return partition_of(self.region)

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def iam_arn(self, resource: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    def unknown(self) -> UndecidableError:
        """The error for a request that nothing here knows."""
        name = self.operation or f"{self.method} {self.path}"
        return UndecidableError(f"which permissions {self.service} {name} needs")


def pass_role(call: Call, role: str, service: str) -> Need:
    """The permission to give a role, by its ARN or name, to a service."""
    arn = role if role.startswith("arn:") else call.existing.role_arn(call.account, role) or role
    context = {"iam:passedtoservice": (service,)}
    return Need(action="iam:PassRole", resource=arn, context=context)


def request_tags(tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The tags of a request as condition keys."""
    context: dict[str, tuple[str, ...]] = {"aws:tagkeys": tuple(tags)} if tags else {}
    for name, value in tags.items():
        context[f"aws:RequestTag/{name}".lower()] = (value,)
    return context


def resource_tags(tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {f"aws:ResourceTag/{name}".lower(): (value,) for name, value in tags.items()}


def members(form: Mapping[str, Any], name: str) -> Iterator[str]:
    """The values of a list in the query protocol: `Name`, `Name.1`, `Name.member.1`."""
    for key, value in form.items():
        head, _, rest = key.partition(".")
        if head == name and (not rest or rest.removeprefix("member.").isdecimal()):
            yield str(value)


def form_tags(form: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Tags in the query protocol, from `PREFIX.N.Key` and `PREFIX.N.Value`."""
    found = {}
    for key, value in form.items():
        if key.startswith(f"{prefix}.") and key.endswith(".Key"):
            found[str(value)] = str(form.get(f"{key.removesuffix('.Key')}.Value", ""))
    return found


def json_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Tags in the JSON protocols, which write them in four ways."""
    found = parameters.get("tags") or parameters.get("Tags") or {}
    if isinstance(found, Mapping):
        return {str(name): str(value) for name, value in found.items()}
    tags = {}
    for entry in found:
        lower = {name.lower().removeprefix("tag"): value for name, value in entry.items()}
        tags[str(lower["key"])] = str(lower.get("value", ""))
    return tags
