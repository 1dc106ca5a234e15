"""A role as it is in IAM now: its trust policy, and its account's OIDC provider. Reads only."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe.errors import IdentityError, UsageError
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.findings import Finding
from cipipe.oidc.request import ROLE_ARN, provider_arn
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)


class Role(msgspec.Struct, frozen=True):
    """A role's ARN and its trust policy."""

    arn: str
    policy: Mapping[str, Any]


def read(aws: Aws, name_or_arn: str) -> Role:
    """The role of that name or ARN, in the account of these credentials.

    Raises IdentityError `oidc-role-unreadable`, StageError
    `aws-unreachable`, and UsageError for what is neither a name nor an ARN.
    """
    name = name_or_arn.rpartition("/")[2]
    is_arn = name_or_arn.startswith("arn:")
    if not _NAME.fullmatch(name) or (is_arn and not ROLE_ARN.fullmatch(name_or_arn)):
        raise UsageError(
            "usage",
            f"{name_or_arn!r} is neither the name nor the ARN of a role",
            hint="It looks like deploy or arn:aws:iam::111111111111:role/deploy.",
            where="--role",
        )
    try:
        found = aws.call("iam", "get_role", RoleName=name)["Role"]
    except AwsError as error:
        raise IdentityError(
            "oidc-role-unreadable",
            f"the role cannot be read: {error.code}: {error.text}",
            hint="Use credentials of the role's account that may call iam:GetRole, or pass the "
            "policy with --policy.",
            where=name_or_arn,
        ) from error

    # IAM is asked by name: an ARN of another account finds a role of this
    # one.
    if is_arn and found["Arn"] != name_or_arn:
        raise IdentityError(
            "oidc-role-unreadable",
            f"these credentials are of another account: its role of that name is {found['Arn']}",
            hint="Use credentials of the role's account, or pass the policy with --policy.",
            where=name_or_arn,
        )
    return Role(found["Arn"], found["AssumeRolePolicyDocument"])


def provider_problems(aws: Aws, role: Role, claims: TokenClaims) -> tuple[Finding, ...]:
    """Why STS would refuse the token because of the account's OIDC
    provider.

    There may be no provider for the issuer, or not for this audience.
    Nothing is reported where providers may not be read.
    """
    match = ROLE_ARN.fullmatch(role.arn)
    if match is None:
        return ()
    arn = provider_arn(claims.issuer, account_id=match[2], partition=match[1])
    try:
        found = aws.call("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
    except AwsError as error:
        return (_missing(arn, claims),) if error.code == "NoSuchEntity" else ()
    known = tuple(found["ClientIDList"])
    if set(known) & set(claims.audiences):
        return ()

    finding = Finding(
        id="oidc-audience-mismatch",
        severity="error",
        key=f"{arn.partition('oidc-provider/')[2]}:aud",
        expected=known,
        actual=claims.audiences,
        message="the OIDC provider in IAM does not list the token's audience",
        fix=f"add {', '.join(claims.audiences)} to the client ids of {arn}",
    )
    return (finding,)


def _missing(arn: str, claims: TokenClaims) -> Finding:
    return Finding(
        id="oidc-no-provider-for-issuer",
        severity="error",
        expected=(arn,),
        message=f"the account has no OIDC provider for {claims.issuer}",
        fix=f"create {arn}; `cipipe bootstrap` does",
    )
