"""A web-identity request as IAM sees it: the provider that vouches for the token, and the condition
keys.

IAM offers only some claims as condition keys; which ones is in condition_keys.json.
"""

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec

from cipipe.model import ANY_PARTITION
from cipipe.oidc.claims import TokenClaims

ACTION = "sts:AssumeRoleWithWebIdentity"

ROLE_ARN = re.compile(
    rf"arn:{ANY_PARTITION}:iam::(\d{{12}}):role/((?:[\x21-\x7e]+/)?[\w+=,.@-]{{1,64}})"
)
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html; groups: partition,
account, path and name.
"""


TAGS = "https://aws.amazon.com/tags"
SOURCE_IDENTITY = "https://aws.amazon.com/source_identity"
"""Claims that make the request set session tags or a source identity, which the role has to allow
as well.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp
"""

_FILLED_IN = ("aws:", "sts:")
_KNOWN = (
    "aws:requesttag/",
    "aws:tagkeys",
    "sts:transitivetagkeys",
    "sts:sourceidentity",
    "sts:externalid",
)


class Request(msgspec.Struct, frozen=True):
    """One call of AssumeRoleWithWebIdentity. `issuer` has no scheme; keys of `context` are lower
    case.

    `further` are the actions that the call needs beside its own. `claims` is all that the token
    says, for explanations: IAM sees `context` only.
    """

    provider: str
    issuer: str
    context: Mapping[str, tuple[str, ...]]
    action: str = ACTION
    further: tuple[str, ...] = ()
    claims: Mapping[str, Any] = {}

    def undecided(self, key: str) -> bool:
        """Whether AWS fills this key in on its own (`aws:SourceIp`), so that its value is not known
        here.
        """
        lower = key.lower()
        return (
            lower not in self.context
            and lower.startswith(_FILLED_IN)
            and not lower.startswith(_KNOWN)
        )


def issuer_key(issuer: str) -> str:
    """An issuer's URL as provider ARNs and condition keys have it: host and path, no scheme, no
    final slash.
    """
    return issuer.removeprefix("https://").removeprefix("http://").rstrip("/")


def provider_arn(issuer: str, *, account_id: str, partition: str = "aws") -> str:
    """The ARN that an account's OIDC provider for this issuer has."""
    return f"arn:{partition}:iam::{account_id}:oidc-provider/{issuer_key(issuer)}"


def visible(issuer: str) -> frozenset[str]:
    """The claims of an issuer that IAM offers as condition keys."""
    table, name = _table(), issuer_key(issuer).lower()
    lists = (
        claims
        for pattern, claims in table["issuers"].items()
        if _one_segment(pattern).fullmatch(name)
    )
    return frozenset(table["every"]).union(*(table["claims"][claims] for claims in lists))


def request_for(
    claims: TokenClaims, *, account_id: str, partition: str = "aws", session_name: str | None = None
) -> Request:
    """The request that a token makes in an account. With an `azp` claim, that is what IAM calls
    `aud`.
    """
    issuer, payload = issuer_key(claims.issuer), claims.payload
    context: dict[str, tuple[str, ...]] = {}
    for name in visible(issuer):
        value = payload.get("azp", payload.get("aud")) if name == "aud" else payload.get(name)
        if value not in (None, []):
            context[f"{issuer}:{name}".lower()] = _texts(value)
    if session_name is not None:
        context["sts:rolesessionname"] = (session_name,)
    further = []
    if any(name.startswith(TAGS) for name in payload):
        further.append("sts:TagSession")
        context |= _tags(payload)
    if payload.get(SOURCE_IDENTITY):
        further.append("sts:SetSourceIdentity")
        context["sts:sourceidentity"] = _texts(payload[SOURCE_IDENTITY])
    provider = provider_arn(issuer, account_id=account_id, partition=partition)
    return Request(provider, issuer, context, further=tuple(further), claims=payload)


def _tags(payload: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The session tags of a token, in the nested form or in the flat one, as condition keys."""
    nested = payload.get(TAGS)
    parts = nested if isinstance(nested, Mapping) else {}
    found = parts.get("principal_tags")
    tags = dict(found) if isinstance(found, Mapping) else {}
    flat = f"{TAGS}/principal_tags/"
    tags |= {
        name.removeprefix(flat): value for name, value in payload.items() if name.startswith(flat)
    }
    transitive = parts.get("transitive_tag_keys", payload.get(f"{TAGS}/transitive_tag_keys"))
    return {
        **{f"aws:RequestTag/{name}".lower(): _texts(value) for name, value in tags.items()},
        **({"aws:tagkeys": tuple(tags)} if tags else {}),
        **({"sts:transitivetagkeys": _texts(transitive)} if transitive else {}),
    }


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value if isinstance(value, list) else [value]))


@functools.cache
def _one_segment(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", "[^/]+"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@functools.cache
def _table() -> Any:
    return json.loads(resources.files("cipipe.oidc").joinpath("condition_keys.json").read_text())
