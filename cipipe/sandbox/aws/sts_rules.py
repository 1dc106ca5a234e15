"""What STS asks of a request before it looks at who is asking: AWS's own limits, codes and texts.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cipipe.oidc.request import ROLE_ARN
from cipipe.oidc.session import (
    LONGEST,
    LONGEST_CHAINED,
    MOST_POLICY_ARNS,
    MOST_POLICY_CHARACTERS,
    SHORTEST,
)

_MEMBER = re.compile(r"PolicyArns\.member\.(\d+)\.arn")


class StsError(Exception):
    """A refusal, with AWS's code, text and HTTP status."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


@dataclass(frozen=True)
class AssumeRoleParameters:
    """The parameters that AssumeRole and AssumeRoleWithWebIdentity share."""

    role_arn: str
    partition: str
    account: str
    session_name: str
    duration: int


def asked(form: Mapping[str, str], *, chained: bool = False) -> AssumeRoleParameters:
    """The parameters of a request. Raises StsError where one of them is not as STS wants it."""
    for name in ("RoleArn", "RoleSessionName"):
        required(form, name)
    _check_name(form["RoleSessionName"])
    duration = _duration(form.get("DurationSeconds", "3600"))
    _check_policies(form)
    match = ROLE_ARN.fullmatch(form["RoleArn"])
    if match is None:
        raise StsError("ValidationError", "Request ARN is invalid")
    if chained and duration > LONGEST_CHAINED:
        raise StsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )
    return AssumeRoleParameters(
        form["RoleArn"], match[1], match[2], form["RoleSessionName"], duration
    )


def required(form: Mapping[str, str], name: str) -> str:
    """A parameter that has to be there."""
    if not form.get(name):
        raise _constraint("null", name[0].lower() + name[1:], "Member must not be null")
    return form[name]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w+=,.@-]*", name, re.ASCII):
        raise _constraint(
            name, "roleSessionName", r"Member must satisfy regular expression pattern: [\w+=,.@-]*"
        )
    if len(name) < 2:
        raise _constraint(
            name, "roleSessionName", "Member must have length greater than or equal to 2"
        )
    if len(name) > 64:
        raise _constraint(
            name, "roleSessionName", "Member must have length less than or equal to 64"
        )


def _duration(text: str) -> int:
    duration = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
    if duration < SHORTEST:
        raise _constraint(
            text, "durationSeconds", f"Member must have value greater than or equal to {SHORTEST}"
        )
    if duration > LONGEST:
        raise _constraint(
            text, "durationSeconds", f"Member must have value less than or equal to {LONGEST}"
        )
    return duration


def _check_policies(form: Mapping[str, str]) -> None:
    """How AWS packs policies is not known; that both kinds together are limited is, and what it
    says then.
    """
    policy, arns = form.get("Policy", ""), [form[name] for name in form if _MEMBER.fullmatch(name)]
    if len(policy) > MOST_POLICY_CHARACTERS:
        raise _constraint(
            policy,
            "policy",
            f"Member must have length less than or equal to {MOST_POLICY_CHARACTERS}",
        )
    if len(arns) > MOST_POLICY_ARNS:
        raise _constraint(
            f"[{', '.join(arns)}]",
            "policyArns",
            f"Member must have length less than or equal to {MOST_POLICY_ARNS}",
        )
    if policy:
        _check_document(policy)
    packed = (len(policy) + sum(map(len, arns))) * 100 // MOST_POLICY_CHARACTERS
    if packed > 100:
        text = f"Packed policy consumes {packed}% of allotted space, please use smaller policy."
        raise StsError("PackedPolicyTooLarge", text)


def _check_document(policy: str) -> None:
    try:
        document = json.loads(policy)
    except ValueError:
        raise StsError("MalformedPolicyDocument", "This policy contains invalid Json") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    entries = statements if isinstance(statements, list) else [statements]
    good = [
        isinstance(entry, dict) and entry.get("Effect") in {"Allow", "Deny"} for entry in entries
    ]
    if not good or not all(good):
        raise StsError("MalformedPolicyDocument", "Syntax errors in policy.")


def _constraint(value: str, at: str, rule: str) -> StsError:
    shown = value if value == "null" else f"'{value}'"
    text = (
        f"1 validation error detected: Value {shown} at '{at}' failed to satisfy constraint: {rule}"
    )
    return StsError("ValidationError", text)
