"""Permissions as IAM decides them: identity policies, boundary and session policies together."""

import json
from typing import Any

import pytest

from cipipe.sandbox.aws.iam.evaluation import (
    Need,
    Permissions,
    UndecidableError,
    allows_everything,
    refusal,
)

BUCKET = "arn:aws:s3:::shop-dev-dags"
PUT = Need(action="s3:PutObject", resource=f"{BUCKET}/dags/a.py")


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(action: Any = "s3:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "s3:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def why(*statements: dict[str, Any], need: Need = PUT) -> str | None:
    return refusal(Permissions(identity=(policy(*statements),)), need)


@pytest.mark.parametrize(
    "statement",
    [
        allow(),
        allow("s3:PutObject", f"{BUCKET}/*"),
        allow("S3:Put*", f"{BUCKET}/dags/?.py"),
        allow(["s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::other/*", f"{BUCKET}/*"]),
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:PutObject", "NotResource": "arn:aws:s3:::other/*"},
    ],
)
def test_what_allows(statement: dict[str, Any]) -> None:
    assert why(statement) is None


@pytest.mark.parametrize(
    "statement",
    [
        allow("s3:GetObject"),
        allow(resource="arn:aws:s3:::other/*"),
        allow(resource=BUCKET),
        # A star stays within one of the six parts of an ARN.
        allow(resource="arn:aws:*/dags/a.py"),
        {"Effect": "Allow", "NotAction": "s3:Put*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "NotResource": f"{BUCKET}/*"},
    ],
)
def test_what_does_not_allow(statement: dict[str, Any]) -> None:
    assert why(statement) == "because no identity-based policy allows the s3:PutObject action"


def test_an_action_without_resources_needs_a_star() -> None:
    need = Need(action="ecr:GetAuthorizationToken", resource="*")
    assert why(allow("ecr:*"), need=need) is None
    assert why(allow("ecr:*", "arn:aws:ecr:eu-central-1:111111111111:*"), need=need) is not None


def test_a_deny_wins() -> None:
    assert why(allow(), deny("s3:Put*")) == "with an explicit deny in an identity-based policy"
    assert why(allow(), deny("s3:Get*")) is None
    # An ARN with missing parts covers all of them.
    assert why(allow(), deny(resource="arn:aws:s3")) is not None
    assert why(allow(), deny(resource="arn:aws:ec2")) is None


def test_every_layer_has_to_allow() -> None:
    everything, nothing = policy(allow()), policy()
    assert (
        refusal(Permissions(identity=(everything,), boundary=nothing), PUT)
        == "because no permissions boundary allows the s3:PutObject action"
    )
    assert (
        refusal(Permissions(identity=(everything,), session=(nothing,)), PUT)
        == "because no session policy allows the s3:PutObject action"
    )
    assert (
        refusal(Permissions(identity=(everything,), boundary=policy(allow(), deny())), PUT)
        == "with an explicit deny in a permissions boundary"
    )
    both = Permissions(identity=(nothing, everything), boundary=everything, session=(everything,))
    assert refusal(both, PUT) is None


def tagged(**tags: str) -> Need:
    context = {f"aws:resourcetag/{name}": (value,) for name, value in tags.items()}
    return Need(action="ec2:DeleteVpc", resource="*", context=context, tags_known=True)


def test_conditions() -> None:
    statement = allow("ec2:*", Condition={"StringEquals": {"aws:ResourceTag/project": "shop"}})
    assert why(statement, need=tagged(project="shop")) is None
    assert why(statement, need=tagged(project="other")) is not None
    assert why(statement, need=tagged()) is not None


def test_a_policy_variable_is_replaced() -> None:
    statement = allow(resource="arn:aws:s3:::${aws:PrincipalAccount}-*")
    need = Need(
        action="s3:CreateBucket",
        resource="arn:aws:s3:::111111111111-x",
        context={"aws:principalaccount": ("111111111111",)},
    )
    assert why(statement, need=need) is None


@pytest.mark.parametrize(
    "statement",
    [
        allow(Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}}),
        allow(Condition={"StringEquals": {"aws:ResourceTag/project": "shop"}}),
        allow(Condition={"NewOperator": {"s3:prefix": "x"}}),
        allow(resource="arn:aws:s3:::${aws:userid}/*"),
    ],
)
def test_what_is_not_known_is_an_error(statement: dict[str, Any]) -> None:
    with pytest.raises(UndecidableError):
        why(statement)


def test_a_condition_that_is_not_known_does_not_matter_elsewhere() -> None:
    unknown = {"StringEquals": {"aws:SourceVpc": "vpc-1"}}
    assert why(allow(), allow("s3:GetObject", Condition=unknown)) is None
    # Nor where another condition of the statement fails anyway.
    fails = {"StringEquals": {"aws:SourceVpc": "vpc-1", "s3:prefix": "x"}}
    assert why(allow(Condition=fails)) is not None


def test_an_old_version_is_an_error() -> None:
    old = policy(allow(), version="2008-10-17")
    with pytest.raises(UndecidableError):
        refusal(Permissions(identity=(old,)), PUT)


ADMINISTRATOR = policy(allow("*"))


def test_who_may_do_everything() -> None:
    assert allows_everything(Permissions(identity=(policy(allow()), ADMINISTRATOR)))
    assert allows_everything(
        Permissions(identity=(ADMINISTRATOR,), boundary=ADMINISTRATOR, session=(ADMINISTRATOR,))
    )


@pytest.mark.parametrize(
    "permissions",
    [
        Permissions(identity=()),
        Permissions(identity=(policy(allow()),)),
        Permissions(identity=(policy(allow("*", BUCKET)),)),
        Permissions(identity=(policy(allow("*", Condition={"Null": {"aws:a": "true"}})),)),
        Permissions(identity=(policy({"Effect": "Allow", "NotAction": "a:b", "Resource": "*"}),)),
        Permissions(identity=(ADMINISTRATOR, policy(deny("s3:DeleteObject", BUCKET)))),
        Permissions(identity=(ADMINISTRATOR,), boundary=policy(allow())),
        Permissions(identity=(ADMINISTRATOR,), session=(policy(allow()),)),
    ],
)
def test_who_may_not(permissions: Permissions) -> None:
    assert not allows_everything(permissions)
