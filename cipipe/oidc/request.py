"""A web-identity request as IAM sees it: the provider that vouches for the
token, and the condition keys.

IAM offers only some claims as condition keys. Which ones is in
condition_keys.json.
"""

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec

from cipipe.oidc.claims import TokenClaims
from cipipe.partitions import ANY_PARTITION

ACTION = "sts:AssumeRoleWithWebIdentity"

# Groups: partition, account, path and name.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
ROLE_ARN = re.compile(
    rf"arn:{ANY_PARTITION}:iam::(\d{{12}}):role/((?:[\x21-\x7e]+/)?[\w+=,.@-]{{1,64}})"
)

# Claims with which the request sets session tags or a source identity. The role has to allow that
# as well.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
TAGS = "https://aws.amazon.com/tags"
SOURCE_IDENTITY = "https://aws.amazon.com/source_identity"

# Keys that AWS fills in itself, and those of them whose values the token
# decides.
_FILLED_IN = ("aws:", "sts:")
_KNOWN = (
    "aws:requesttag/",
    "aws:tagkeys",
    "sts:transitivetagkeys",
    "sts:sourceidentity",
    "sts:externalid",
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call of AssumeRoleWithWebIdentity."""

    # The ARN of the OIDC provider in IAM.
    provider: str

    # Without a scheme.
    issuer: str

    # Condition key in lower case → values.
    context: Mapping[str, tuple[str, ...]]
    action: str = ACTION

    # The actions that the call needs besides its own.
    further: tuple[str, ...] = ()

    # All claims of the token, for explanations: IAM sees `context` only.
    claims: Mapping[str, Any] = {}

    def undecided(self, key: str) -> bool:
        """Whether AWS fills in this key (`aws:SourceIp`), so that its value is not known here."""
        lower = key.lower()
        if lower in self.context or lower.startswith(_KNOWN):
            return False
        return lower.startswith(_FILLED_IN)


def issuer_key(issuer: str) -> str:
    """An issuer's URL as in provider ARNs and condition keys: no scheme, no final slash."""
    return issuer.removeprefix("https://").removeprefix("http://").rstrip("/")


def provider_arn(issuer: str, *, account_id: str, partition: str = "aws") -> str:
    """The ARN of an account's OIDC provider for this issuer."""
    return f"arn:{partition}:iam::{account_id}:oidc-provider/{issuer_key(issuer)}"


def visible(issuer: str) -> frozenset[str]:
    """The claims of an issuer that IAM offers as condition keys."""
    table = _table()
    name = issuer_key(issuer).lower()
    lists = [
        claims
        for pattern, claims in table["issuers"].items()
        if _one_segment(pattern).fullmatch(name)
    ]
    return frozenset(table["every"]).union(*(table["claims"][claims] for claims in lists))


def request_for(
    claims: TokenClaims, *, account_id: str, partition: str = "aws", session_name: str | None = None
) -> Request:
    """The request that a token makes in an account."""
    issuer = issuer_key(claims.issuer)
    payload = claims.payload

    context: dict[str, tuple[str, ...]] = {}
    for name in visible(issuer):
        value = payload.get(name)
        if name == "aud":
            # A token with an `azp` claim has that for IAM's `aud`.
            value = payload.get("azp", payload.get("aud"))
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

    return Request(
        provider=provider_arn(issuer, account_id=account_id, partition=partition),
        issuer=issuer,
        context=context,
        further=tuple(further),
        claims=payload,
    )


def _tags(payload: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The session tags of a token as condition keys.

    A token may have them in one nested claim or in a claim for each tag.
    """
    nested = payload.get(TAGS)
    parts = nested if isinstance(nested, Mapping) else {}
    found = parts.get("principal_tags")
    tags = dict(found) if isinstance(found, Mapping) else {}

    flat = f"{TAGS}/principal_tags/"
    for name, value in payload.items():
        if name.startswith(flat):
            tags[name.removeprefix(flat)] = value
    transitive = parts.get("transitive_tag_keys", payload.get(f"{TAGS}/transitive_tag_keys"))

    keys = {f"aws:RequestTag/{name}".lower(): _texts(value) for name, value in tags.items()}
    if tags:
        keys["aws:tagkeys"] = tuple(tags)
    if transitive:
        keys["sts:transitivetagkeys"] = _texts(transitive)
    return keys


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value if isinstance(value, list) else [value]))


@functools.cache
def _one_segment(pattern: str) -> re.Pattern[str]:
    """A pattern whose `*` matches within one segment of a path."""
    return re.compile(re.escape(pattern).replace(r"\*", "[^/]+"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@functools.cache
def _table() -> Any:
    return json.loads(resources.files("cipipe.oidc").joinpath("condition_keys.json").read_text())
