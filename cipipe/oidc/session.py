"""What is asked of STS: a role, a session's name, its length, its policies. All of it is checked
before AWS is asked.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import IdentityError
from cipipe.model import ANY_PARTITION, partition_of

SHORTEST, LONGEST = 900, 43200
"""Seconds that a session may last, whatever the role allows."""

LONGEST_CHAINED = 3600
"""Seconds that a session may last whose role was assumed from another role's, whatever the role
allows.
"""

MOST_POLICY_CHARACTERS, MOST_POLICY_ARNS = 2048, 10

_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_REGION = r"[a-z]{2,}(-[a-z]+)+-\d{1,2}"
_POLICY_ARN = rf"arn:{ANY_PARTITION}:iam::(aws|\d{{12}}):policy/[\w+=,.@/-]{{1,1024}}"


class SessionRequest(msgspec.Struct, frozen=True):
    """A session to be had: of `role_arn`, in `account_id`. `policy` (JSON) and `policy_arns` narrow
    what it may do.
    """

    role_arn: str
    account_id: str
    name: str
    duration: int = 3600
    policy: str = ""
    policy_arns: tuple[str, ...] = ()


def policy_text(policy: Mapping[str, Any]) -> str:
    """A session policy as it is sent, without the white space that would count; empty where there
    is none.
    """
    return json.dumps(policy, separators=(",", ":"), default=str) if policy else ""


def session_name(*parts: str) -> str:
    """A session name made of these parts: joined with `-`, other characters replaced, cut to 64, at
    least two.

    The last part is kept whole as far as it fits: it is what tells one session from the next.
    """
    *head, last = [
        re.sub(r"[^\w+=,.@-]+", "-", part, flags=re.ASCII).strip("-") for part in parts if part
    ] or [""]
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
            hint="Leave it out to have one made, or change it.",
            where=session.role_arn,
        )
    longest = LONGEST_CHAINED if chained else LONGEST
    if not SHORTEST <= session.duration <= longest:
        why = (
            "a role that is assumed from another one's session allows"
            if chained
            else "the role allows"
        )
        raise IdentityError(
            "oidc-duration",
            f"a session of {session.duration} s is not possible: {SHORTEST} to {longest} s are, and no more than {why}",
            hint="3600 is what every role allows.",
            where=session.role_arn,
        )
    _check_policies(session)


def _check_role(session: SessionRequest, region: str) -> None:
    from cipipe.oidc.request import (
        ROLE_ARN,
    )  # a plan needs the limits above, and nothing of what this one imports

    if not re.fullmatch(_REGION, region):
        raise IdentityError(
            "oidc-region",
            f"{region!r} is not an AWS region"
            if region
            else "no region is set, and STS is asked in a region",
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
    if match[2] != session.account_id:
        raise IdentityError(
            "oidc-role-of-another-account",
            f"the role is of account {match[2]}, the environment is account {session.account_id}",
            hint="Make `role_arn` and `account_id` of the environment agree.",
            where=session.role_arn,
        )
    if match[1] != partition_of(region):
        raise IdentityError(
            "oidc-role-of-another-partition",
            f"the role is of the partition {match[1]}, the region {region} is in {partition_of(region)}",
            hint="AWS in China (aws-cn), GovCloud (aws-us-gov) and the European Sovereign Cloud (aws-eusc) have accounts and "
            "roles of their own.",
            where=session.role_arn,
        )


def _check_policies(session: SessionRequest) -> None:
    wrong = [arn for arn in session.policy_arns if not re.fullmatch(_POLICY_ARN, arn, re.ASCII)]
    if len(session.policy) > MOST_POLICY_CHARACTERS:
        what = f"it has {len(session.policy)} characters, and STS takes {MOST_POLICY_CHARACTERS}"
    elif len(session.policy_arns) > MOST_POLICY_ARNS:
        what = f"it names {len(session.policy_arns)} managed policies, and STS takes {MOST_POLICY_ARNS}"
    elif wrong:
        what = f"{wrong[0]!r} is not the ARN of a managed policy"
    else:
        return
    raise IdentityError(
        "oidc-session-policy",
        f"the session policy cannot be sent: {what}",
        hint="Move what is long into a managed policy of the account, and name that in session_policy_arns.",
        where=session.role_arn,
    )
