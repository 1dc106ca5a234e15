"""Who calls AWS in the sandbox: the sessions that its STS began, by access key, and how a role's
trust policy sees them.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cipipe.model import PARTITIONS
from cipipe.oidc.request import Request


@dataclass(frozen=True)
class Session:
    """A session of a role. `arn` is the assumed role's, with the session's name; `secret` and
    `token` are its keys.
    """

    arn: str
    role_arn: str
    expires: datetime
    secret: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def expired(self) -> bool:
        return datetime.now(UTC) >= self.expires


class Sessions:
    """The sessions that were begun. `longest` cuts them shorter than asked for, so that a test need
    not wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, Session] = {}
        self._secrets: set[str] = set()
        self.longest: int | None = None

    def add(self, access_key_id: str, session: Session) -> None:
        with self._lock:
            self._by_key[access_key_id] = session

    def add_secret(self, secret: str) -> None:
        with self._lock:
            self._secrets.add(hashlib.sha256(secret.encode()).hexdigest())

    @property
    def secret_hashes(self) -> list[str]:
        """SHA-256 of every secret key that was given out: enough to tell whether a log holds one."""
        with self._lock:
            return sorted(self._secrets)

    def of(self, access_key_id: str) -> Session | None:
        with self._lock:
            return self._by_key.get(access_key_id)


def assume_role_request(
    policy: Mapping[str, Any], *, account: str, session: Session | None, session_name: str
) -> tuple[dict[str, Any], Request]:
    """A trust policy and a request for the evaluator, which knows one kind of principal: a name
    that is in the list.

    Here that name is the caller's; AWS principals that stand for the caller (its role, its session,
    its account) are put as that name.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    caller = session.arn if session else f"arn:aws:iam::{account}:root"
    meant = {
        "*",
        account,
        caller,
        *(f"arn:{name}:iam::{account}:root" for name in ("aws", *PARTITIONS)),
    }
    if session:
        meant.add(session.role_arn)
    statements = policy.get("Statement")
    entries = statements if isinstance(statements, list) else [statements]
    seen = [
        _as_seen(entry, meant, caller) if isinstance(entry, Mapping) else entry for entry in entries
    ]
    context = {
        "aws:principalarn": (session.role_arn if session else caller,),
        "aws:principalaccount": (account,),
        "sts:rolesessionname": (session_name,),
    }
    return {**policy, "Statement": seen}, Request(
        provider=caller, issuer="", context=context, action="sts:AssumeRole"
    )


def _as_seen(entry: Mapping[str, Any], meant: set[str], caller: str) -> dict[str, Any]:
    principal = entry.get("Principal")
    if not isinstance(principal, Mapping):
        return dict(entry)
    listed = principal.get("AWS", [])
    names = [listed] if isinstance(listed, str) else listed
    return {**entry, "Principal": {"Federated": [caller] if meant.intersection(names) else []}}
