"""Who calls AWS in the sandbox: the sessions that its STS issued, by access
key, and how a role's trust policy sees them.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cipipe.oidc.request import Request
from cipipe.partitions import PARTITIONS


@dataclass(frozen=True, kw_only=True)
class IssuedSession:
    """A session of a role that the sandbox issued."""

    # The assumed role's ARN, with the session's name.
    arn: str
    role_arn: str
    expires: datetime
    secret: str = field(repr=False)

    # Session policies, as JSON: the session may do only what they allow,
    # too.
    policies: tuple[str, ...] = ()
    token: str = field(repr=False)

    @property
    def expired(self) -> bool:
        return datetime.now(UTC) >= self.expires


class SessionTable:
    """The sessions that the sandbox issued. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, IssuedSession] = {}
        self._secrets: set[str] = set()

        # Seconds. Tests cut sessions short, so that they need not wait for
        # one to expire.
        self.longest: int | None = None

    def add(self, access_key_id: str, session: IssuedSession) -> None:
        with self._lock:
            self._by_key[access_key_id] = session
            self._secrets.add(hashlib.sha256(session.secret.encode()).hexdigest())

    @property
    def secret_hashes(self) -> list[str]:
        """SHA-256 of every secret key that was issued: enough to find one in a log."""
        with self._lock:
            return sorted(self._secrets)

    def of(self, access_key_id: str) -> IssuedSession | None:
        with self._lock:
            return self._by_key.get(access_key_id)


def assume_role_request(
    policy: Mapping[str, Any], *, account: str, session: IssuedSession | None, session_name: str
) -> tuple[dict[str, Any], Request]:
    """A trust policy and a request of AssumeRole for the evaluator of web
    identities.

    The evaluator knows one kind of principal: a provider's name that is in the list. Here that name
    is the caller's ARN, and AWS principals that include the caller (its role, its session, its
    account) are replaced by it.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    caller = session.arn if session else f"arn:aws:iam::{account}:root"
    including = {"*", account, caller}
    including |= {f"arn:{name}:iam::{account}:root" for name in ("aws", *PARTITIONS)}
    if session:
        including.add(session.role_arn)

    statements = policy.get("Statement")
    entries = statements if isinstance(statements, list) else [statements]
    seen = [
        _as_seen(entry, including, caller) if isinstance(entry, Mapping) else entry
        for entry in entries
    ]
    context = {
        "aws:principalarn": (session.role_arn if session else caller,),
        "aws:principalaccount": (account,),
        "sts:rolesessionname": (session_name,),
    }
    request = Request(provider=caller, issuer="", context=context, action="sts:AssumeRole")
    return {**policy, "Statement": seen}, request


def _as_seen(entry: Mapping[str, Any], including: set[str], caller: str) -> dict[str, Any]:
    principal = entry.get("Principal")
    if not isinstance(principal, Mapping):
        return dict(entry)
    listed = principal.get("AWS", [])
    names = [listed] if isinstance(listed, str) else listed
    federated = [caller] if including.intersection(names) else []
    return {**entry, "Principal": {"Federated": federated}}
