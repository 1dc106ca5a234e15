"""The statements of bootstrap's policies: as they are written, and as the sandbox's account has
them.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cipipe.sandbox.aws.iam.evaluation import Need, Permissions, refusal
from support.tools import ROOT

# File → the policy in it that every account has.
FILES = {
    "alarm_policy.tf": "alarms",
    "deploy_policy.tf": "deploy",
    "network_policy.tf": "network",
    "read_policy.tf": "read",
    "roles.tf": "review",
}

# The policies that the deploy role does not have.
ROLES = {"review": "verify"}
NAME = "dbt-deployment-dev"


def written() -> list[tuple[str, str]]:
    """Each statement: the policy's name and its Sid."""
    return [(policy, sid) for file, policy in FILES.items() for sid in _sids(file)]


def of_role(role: str) -> tuple[str, ...]:
    """The policies that a role has."""
    if role == "verify":
        return ("read", "review")
    return tuple(name for name in FILES.values() if name not in ROLES)


def _sids(file: str) -> Iterator[str]:
    text = Path(ROOT / "cipipe/bootstrap" / file).read_text()
    found = re.findall(r'^\s+Sid\s+= "(\w+)"', text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\s+Effect\s+=", text, re.MULTILINE)), file
    yield from found


class Policies:
    """The managed policies of the project's roles."""

    def __init__(self, iam: Any, account: str = "111111111111") -> None:
        self._iam = iam
        self._account = account

    def arn(self, policy: str) -> str:
        return f"arn:aws:iam::{self._account}:policy/{NAME}-{policy}"

    def document(self, policy: str) -> dict[str, Any]:
        arn = self.arn(policy)
        version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = self._iam.get_policy_version(PolicyArn=arn, VersionId=version)
        return dict(found["PolicyVersion"]["Document"])

    @contextmanager
    def without(self, policy: str, sid: str) -> Iterator[None]:
        """Take a statement away, for a while."""
        arn = self.arn(policy)
        before = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        made = self._iam.create_policy_version(
            PolicyArn=arn,
            PolicyDocument=json.dumps(without(self.document(policy), sid)),
            SetAsDefault=True,
        )["PolicyVersion"]["VersionId"]
        try:
            yield
        finally:
            self._iam.set_default_policy_version(PolicyArn=arn, VersionId=before)
            self._iam.delete_policy_version(PolicyArn=arn, VersionId=made)


def without(document: dict[str, Any], sid: str) -> dict[str, Any]:
    kept = [one for one in document["Statement"] if one["Sid"] != sid]
    assert len(kept) == len(document["Statement"]) - 1, sid
    return {**document, "Statement": kept}


def need_of(entry: dict[str, Any]) -> Need:
    """A permission as the sandbox kept it."""
    context = {name: tuple(values) for name, values in entry["context"].items()}
    return Need(
        action=entry["action"],
        resource=entry["resource"],
        context=context,
        tags_known=entry["tags_known"],
    )


def refused(documents: list[dict[str, Any]], needed: list[Need]) -> list[Need]:
    """Those that the policies do not allow."""
    permissions = Permissions(identity=tuple(json.dumps(one) for one in documents))
    return [need for need in needed if refusal(permissions, need)]
