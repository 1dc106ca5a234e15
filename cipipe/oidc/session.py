"""The session that is requested from STS: role, name, length, policies. All
of it is checked before AWS is called.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import IdentityError
from cipipe.partitions import ANY_PARTITION, partition_of

# Seconds that a session may last, whatever the role allows.
SHORTEST = 900
LONGEST = 43200

# The same where the role is assumed from another role's session.
LONGEST_CHAINED = 3600

MOST_POLICY_CHARACTERS = 2048
MOST_POLICY_ARNS = 10

_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_REGION = r"[a-z]{2,}(-[a-z]+)+-\d{1,2}"
_POLICY_ARN = rf"arn:{ANY_PARTITION}:iam::(aws|\d{{12}}):policy/[\w+=,.@/-]{{1,1024}}"


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A session to request."""

    role_arn: str

    # The account that the role has to be in.
    account_id: str
    name: str

    # Seconds.
    duration: int = 3600

    # What narrows the role's permissions: a policy (JSON; empty for none),
    # and managed policies.
    policy: str = ""
    policy_arns: tuple[str, ...] = ()


def policy_text(policy: Mapping[str, Any]) -> str:
    """A session policy as it is sent, without whitespace, which would count; empty for none."""
    return json.dumps(policy, separators=(",", ":"), default=str) if policy else ""


def session_name(*parts: str) -> str:
    """A session name from these parts, joined with `-`: 2 to 64 characters
    that STS accepts.

    The last part is kept whole as far as it fits: it distinguishes one
    session from the next.
    """
    clean = [
        re.sub(r"[^\w+=,.@-]+", "-", part, flags=re.ASCII).strip("-") for part in parts if part
    ]
    *head, last = clean or [""]
    last = last[:64]
    front = "-".join(part for part in head if part)[: max(0, 63 - len(last))].strip("-")
    name = "-".join(part for part in (front, last) if part)
    return name if len(name) >= 2 else f"cipipe-{name}".strip("-")


def check(session: SessionRequest, *, region: str, chained: bool = False) -> None:
    """Refuse what STS would certainly refuse. Raises IdentityError."""
    _check_role(session, region)
    if not _NAME.fullmatch(session.name):
        raise IdentityError(
            "oidc-session-name",
            f"{session.name!r} is not a session name: 2 to 64 letters, digits and any of _+=,.@-",
            hint="Change it, or omit it and a name is made from the job.",
            where=session.role_arn,
        )

    longest = LONGEST_CHAINED if chained else LONGEST
    if not SHORTEST <= session.duration <= longest:
        limit = "role chaining allows" if chained else "the role allows"
        raise IdentityError(
            "oidc-duration",
            f"a session cannot last {session.duration} s: {SHORTEST} to {longest} s are possible, "
            f"and no more than {limit}",
            hint="Every role allows 3600.",
            where=session.role_arn,
        )
    _check_policies(session)


def _check_role(session: SessionRequest, region: str) -> None:
    # Imported here: a plan needs the limits above, and none of what that
    # module imports.
    from cipipe.oidc.request import ROLE_ARN

    # The region becomes part of a host name, so nothing else may be in it.
    if not re.fullmatch(_REGION, region):
        what = f"{region!r} is not an AWS region" if region else "no region is set, STS needs one"
        raise IdentityError(
            "oidc-region",
            what,
            hint="Set `region` of the environment in cipipe.toml, such as eu-central-1.",
            where=session.role_arn,
        )
    if not session.role_arn:
        raise IdentityError(
            "oidc-role-missing",
            "no role is set for this environment",
            hint="Set `role_arn` in cipipe.toml.",
            where=f"account {session.account_id}",
        )

    match = ROLE_ARN.fullmatch(session.role_arn)
    if match is None:
        raise IdentityError(
            "oidc-role-malformed",
            f"{session.role_arn!r} is not the ARN of a role",
            hint="It looks like arn:aws:iam::111111111111:role/NAME.",
            where=f"account {session.account_id}",
        )
    partition = match[1]
    account = match[2]
    if account != session.account_id:
        raise IdentityError(
            "oidc-role-of-another-account",
            f"the role is in account {account}, the environment in account {session.account_id}",
            hint="Make `role_arn` and `account_id` of the environment agree.",
            where=session.role_arn,
        )
    if partition != partition_of(region):
        raise IdentityError(
            "oidc-role-of-another-partition",
            f"the role is in partition {partition}, the region {region} in {partition_of(region)}",
            hint="AWS in China (aws-cn), GovCloud (aws-us-gov) and the European Sovereign Cloud "
            "(aws-eusc) have accounts and roles of their own.",
            where=session.role_arn,
        )


def _check_policies(session: SessionRequest) -> None:
    wrong = [arn for arn in session.policy_arns if not re.fullmatch(_POLICY_ARN, arn, re.ASCII)]
    if len(session.policy) > MOST_POLICY_CHARACTERS:
        what = f"it has {len(session.policy)} characters, STS accepts {MOST_POLICY_CHARACTERS}"
    elif len(session.policy_arns) > MOST_POLICY_ARNS:
        what = (
            f"it names {len(session.policy_arns)} managed policies, STS accepts {MOST_POLICY_ARNS}"
        )
    elif wrong:
        what = f"{wrong[0]!r} is not the ARN of a managed policy"
    else:
        return
    raise IdentityError(
        "oidc-session-policy",
        f"the session policy cannot be sent: {what}",
        hint="Move the long part into a managed policy of the account, and add its ARN to "
        "session_policy_arns.",
        where=session.role_arn,
    )
