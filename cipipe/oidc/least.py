"""The least trust policy: one provider, one audience, the subjects of one project, and ids where IAM sees them.

`cipipe/bootstrap/identity.tf` writes the same statement from the same subjects.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.oidc.policy import VERSIONS
from cipipe.oidc.request import ACTION


def policy(
    *, provider_arn: str, issuer: str, audience: str, subjects: Sequence[str], claims: Mapping[str, str]
) -> dict[str, Any]:
    """A policy that lets in tokens of these subjects (`*` is a wildcard) and this audience, with exactly these claims.

    `issuer` has no scheme. A plain subject is compared literally; `*` in one makes it, and those beside it, patterns.
    """
    values = [subject.replace("${", "${$}{") for subject in subjects]
    exact = {f"{issuer}:aud": audience, **{f"{issuer}:{name}": value for name, value in sorted(claims.items())}}
    subject = {f"{issuer}:sub": values[0] if len(values) == 1 else values}
    wild = any("*" in value or "?" in value for value in values)
    condition = {"StringEquals": exact, "StringLike": subject} if wild else {"StringEquals": {**exact, **subject}}
    return {
        "Version": VERSIONS[-1],
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn},
                "Action": ACTION,
                "Condition": condition,
            }
        ],
    }
