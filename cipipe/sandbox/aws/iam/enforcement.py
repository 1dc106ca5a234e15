"""Every request of a role's session: does the role allow it?

Administrators and IAM users may do everything. What the sandbox cannot
decide is refused as well, in words of its own.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cipipe.sandbox.aws.callers import IssuedSession
from cipipe.sandbox.aws.iam import ec2, roles, s3, services, tasks
from cipipe.sandbox.aws.iam.call import Call
from cipipe.sandbox.aws.iam.evaluation import (
    Need,
    UndecidableError,
    allows_everything,
    refusal,
)
from cipipe.sandbox.aws.iam.existing import MotoResources
from cipipe.sandbox.aws.refusals import Refusal

_NEEDS: Mapping[str, Callable[[Call], Iterable[Need]]] = {
    "ec2": ec2.needs,
    "iam": roles.needs,
    "s3": s3.needs,
    "sts": roles.sts_needs,
}


class Enforcement:
    """Decides requests, and keeps which permissions each role needed. Thread-safe."""

    def __init__(self, resources: MotoResources) -> None:
        self._resources = resources
        self._lock = threading.Lock()

        # In the order of the first request.
        self._needed: dict[str, dict[str, Any]] = {}

    @property
    def resources(self) -> MotoResources:
        return self._resources

    @property
    def needed(self) -> list[dict[str, Any]]:
        """Each permission once: role, action, resource, context, tags_known, and the refusal.

        A request that could not be decided has no action.
        """
        with self._lock:
            return list(self._needed.values())

    def refused(self, call: Call, session: IssuedSession) -> Refusal | None:
        """The refusal of a request; None if it is allowed."""
        permissions = self._resources.permissions(session.role_arn, session.policies)
        if permissions is None:
            return _denied(session, "sts:AssumeRole", session.role_arn, "because it is gone")
        try:
            if allows_everything(permissions):
                return None
            for need in needs_of(call):
                filled = _filled(need, call, session)
                why = refusal(permissions, filled)
                self._keep(session.role_arn, filled, why)
                if why is not None:
                    return _denied(session, need.action, need.resource, why)
        except UndecidableError as error:
            text = f"The sandbox cannot decide {error}"
            self._keep(session.role_arn, Need(action="", resource=""), text)
            return _undecided(text)
        return None

    def _keep(self, role: str, need: Need, why: str | None) -> None:
        entry = {
            "role": role,
            "action": need.action,
            "resource": need.resource,
            "context": {name: list(values) for name, values in need.context.items()},
            "tags_known": need.tags_known,
            "refused": why,
        }
        with self._lock:
            self._needed.setdefault(json.dumps(entry, sort_keys=True), entry)


def needs_of(call: Call) -> Iterable[Need]:
    """The permissions that a request needs, in the order in which AWS checks them.

    Raises UndecidableError.
    """
    if tasks.has(call):
        return tasks.needs(call)
    if call.service in services.SERVICES:
        return services.needs(call)
    if call.service not in _NEEDS:
        raise call.unknown()
    return _NEEDS[call.service](call)


def _filled(need: Need, call: Call, session: IssuedSession) -> Need:
    """The permission with the condition keys that every request has."""
    everywhere = {
        "aws:principalarn": (session.role_arn,),
        "aws:principalaccount": (call.account,),
        # Loopback stands in for HTTPS.
        "aws:securetransport": ("true",),
        "aws:viaawsservice": ("false",),
    }
    return Need(
        action=need.action,
        resource=need.resource,
        context={**everywhere, **need.context},
        tags_known=need.tags_known,
    )


def _denied(session: IssuedSession, action: str, resource: str, why: str) -> Refusal:
    place = f" on resource: {resource}" if resource != "*" else ""
    text = f"User: {session.arn} is not authorized to perform: {action}{place} {why}"
    return _refusal(text, "You are not authorized to perform this operation. ")


def _undecided(text: str) -> Refusal:
    return _refusal(text, "")


def _refusal(text: str, ec2_start: str) -> Refusal:
    return Refusal(
        s3="AccessDenied",
        ec2="UnauthorizedOperation",
        query="AccessDenied",
        json="AccessDeniedException",
        text=text,
        ec2_text=ec2_start + text,
    )
