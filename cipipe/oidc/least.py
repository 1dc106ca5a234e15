"""The smallest trust policy: one provider, one audience, the subjects of
one project, and claims where IAM sees them.

`cipipe/bootstrap/identity.tf` writes the same statement from the same
subjects and claims.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.oidc.policy import VERSIONS
from cipipe.oidc.request import ACTION


def policy(
    *,
    provider_arn: str,
    issuer: str,
    audience: str,
    subjects: Sequence[str],
    claims: Mapping[str, str | Sequence[str]],
) -> dict[str, Any]:
    """A policy that accepts tokens with one of these subjects, this
    audience and these claims.

    `issuer` has no scheme. `*` and `?` in a subject or claim are wildcards;
    a condition without wildcards compares literally.
    """
    found: dict[str, Sequence[str]] = {"aud": [audience]}
    for name, values in sorted(claims.items()):
        found[name] = [values] if isinstance(values, str) else values
    found["sub"] = subjects

    exact: dict[str, Any] = {}
    like: dict[str, Any] = {}
    for name, values in found.items():
        written = list(values)
        wild = False
        if name != "aud":
            # `${` would start a policy variable. An audience comes from the
            # configuration of IAM.
            written = [value.replace("${", "${$}{") for value in values]
            wild = any("*" in value or "?" in value for value in written)
        block = like if wild else exact
        block[f"{issuer}:{name}"] = written[0] if len(written) == 1 else written

    condition = {"StringEquals": exact}
    if like:
        condition["StringLike"] = like
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider_arn},
        "Action": ACTION,
        "Condition": condition,
    }
    return {"Version": VERSIONS[-1], "Statement": [statement]}
