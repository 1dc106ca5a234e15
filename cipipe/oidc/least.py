"""The least trust policy: one provider, one audience, the subjects of one project, and claims where
IAM sees them.

`cipipe/bootstrap/identity.tf` writes the same statement from the same subjects and claims.
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
    """A policy that lets in tokens of these subjects and this audience, with exactly these claims.

    `issuer` has no scheme. `*` and `?` in a subject or claim are wildcards; a condition without any
    compares literally.
    """
    found = {
        "aud": [audience],
        **{name: _values(values) for name, values in sorted(claims.items())},
        "sub": subjects,
    }
    exact: dict[str, Any] = {}
    like: dict[str, Any] = {}
    for name, values in found.items():
        kept = [value.replace("${", "${$}{") for value in values] if name != "aud" else list(values)
        wild = name != "aud" and any("*" in value or "?" in value for value in kept)
        (like if wild else exact)[f"{issuer}:{name}"] = kept[0] if len(kept) == 1 else kept
    return {
        "Version": VERSIONS[-1],
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn},
                "Action": ACTION,
                "Condition": {"StringEquals": exact, **({"StringLike": like} if like else {})},
            }
        ],
    }


def _values(values: str | Sequence[str]) -> Sequence[str]:
    return [values] if isinstance(values, str) else values
