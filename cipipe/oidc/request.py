"""A web-identity request as IAM sees it: the provider that vouches for the token, and the condition keys.

IAM offers only some claims as condition keys; which ones is in condition_keys.json.
"""

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec

from cipipe.oidc.claims import Claims

ACTION = "sts:AssumeRoleWithWebIdentity"

ROLE_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):role/((?:[\x21-\x7e]+/)?[\w+=,.@-]{1,64})")
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html; groups: partition, account, path and name."""


class Request(msgspec.Struct, frozen=True):
    """One call of AssumeRoleWithWebIdentity. `issuer` has no scheme; keys of `context` are lower case.

    A key that is not in `context` is absent from the request, unless its service (`aws:`, `sts:`) fills it in on its own:
    then its value is not known here.
    """

    provider: str
    issuer: str
    context: Mapping[str, tuple[str, ...]]
    action: str = ACTION


def issuer_key(issuer: str) -> str:
    """An issuer's URL as provider ARNs and condition keys have it: host and path, no scheme, no final slash."""
    return issuer.removeprefix("https://").removeprefix("http://").rstrip("/")


def provider_arn(issuer: str, *, account_id: str, partition: str = "aws") -> str:
    """The ARN that an account's OIDC provider for this issuer has."""
    return f"arn:{partition}:iam::{account_id}:oidc-provider/{issuer_key(issuer)}"


def visible(issuer: str) -> frozenset[str]:
    """The claims of an issuer that IAM offers as condition keys."""
    table = _table()
    return frozenset(table["every"]) | frozenset(table["issuers"].get(issuer_key(issuer).lower(), ()))


def request_for(claims: Claims, *, account_id: str, partition: str = "aws", session_name: str | None = None) -> Request:
    """The request that a token makes in an account. With an `azp` claim, that is what IAM calls `aud`."""
    issuer = issuer_key(claims.issuer)
    context: dict[str, tuple[str, ...]] = {}
    for name in visible(issuer):
        value = claims.payload.get("azp", claims.payload.get("aud")) if name == "aud" else claims.payload.get(name)
        if value is not None:
            context[f"{issuer}:{name}".lower()] = tuple(map(_text, value if isinstance(value, list) else [value]))
    if session_name is not None:
        context["sts:rolesessionname"] = (session_name,)
    return Request(provider_arn(issuer, account_id=account_id, partition=partition), issuer, context)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@functools.cache
def _table() -> Any:
    return json.loads(resources.files("cipipe.oidc").joinpath("condition_keys.json").read_text())
