"""What STS requires of a request before it looks at who is asking: AWS's
own limits, codes, texts.

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
        self.code = code
        self.text = text
        self.status = status


@dataclass(frozen=True, kw_only=True)
class AssumeRoleParameters:
    """The parameters that AssumeRole and AssumeRoleWithWebIdentity share."""

    role_arn: str

    # Both are parts of the ARN.
    partition: str
    account: str
    session_name: str

    # Seconds.
    duration: int

    # The session policies: one as JSON or "", and the ARNs of managed ones.
    policy: str = ""
    policy_arns: tuple[str, ...] = ()


def parameters_of(form: Mapping[str, str], *, chained: bool = False) -> AssumeRoleParameters:
    """The parameters of a request. Raises StsError if STS would not accept
    one of them.

    `chained`: the caller is a role's session itself, which limits the new
    one to an hour.
    """
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
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining",
        )
    return AssumeRoleParameters(
        role_arn=form["RoleArn"],
        partition=match[1],
        account=match[2],
        session_name=form["RoleSessionName"],
        duration=duration,
        policy=form.get("Policy", ""),
        policy_arns=tuple(form[name] for name in form if _MEMBER.fullmatch(name)),
    )


def required(form: Mapping[str, str], name: str) -> str:
    """A parameter that must not be missing."""
    if not form.get(name):
        raise _constraint("null", name[0].lower() + name[1:], "Member must not be null")
    return form[name]


def _check_name(name: str) -> None:
    rule = ""
    if not re.fullmatch(r"[\w+=,.@-]*", name, re.ASCII):
        rule = r"Member must satisfy regular expression pattern: [\w+=,.@-]*"
    elif len(name) < 2:
        rule = "Member must have length greater than or equal to 2"
    elif len(name) > 64:
        rule = "Member must have length less than or equal to 64"
    if rule:
        raise _constraint(name, "roleSessionName", rule)


def _duration(text: str) -> int:
    duration = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
    if duration < SHORTEST:
        rule = f"Member must have value greater than or equal to {SHORTEST}"
        raise _constraint(text, "durationSeconds", rule)
    if duration > LONGEST:
        rule = f"Member must have value less than or equal to {LONGEST}"
        raise _constraint(text, "durationSeconds", rule)
    return duration


def _check_policies(form: Mapping[str, str]) -> None:
    policy = form.get("Policy", "")
    arns = [form[name] for name in form if _MEMBER.fullmatch(name)]
    if len(policy) > MOST_POLICY_CHARACTERS:
        rule = f"Member must have length less than or equal to {MOST_POLICY_CHARACTERS}"
        raise _constraint(policy, "policy", rule)
    if len(arns) > MOST_POLICY_ARNS:
        rule = f"Member must have length less than or equal to {MOST_POLICY_ARNS}"
        raise _constraint(f"[{', '.join(arns)}]", "policyArns", rule)
    if policy:
        _check_document(policy)

    # How AWS packs policies is not documented. That both kinds share one
    # limit is, and the text of the refusal.
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
    valid = [
        isinstance(entry, dict) and entry.get("Effect") in {"Allow", "Deny"} for entry in entries
    ]
    if not valid or not all(valid):
        raise StsError("MalformedPolicyDocument", "Syntax errors in policy.")


def _constraint(value: str, at: str, rule: str) -> StsError:
    shown = value if value == "null" else f"'{value}'"
    return StsError(
        "ValidationError",
        f"1 validation error detected: Value {shown} at '{at}' failed to satisfy constraint: "
        f"{rule}",
    )
