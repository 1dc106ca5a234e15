from typing import Any

import pytest

from cipipe.errors import UsageError
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.request import Request, issuer_key, provider_arn, request_for, visible
from cipipe.oidc.trust_policy import evaluate, parse

PROVIDER = "arn:aws:iam::111111111111:oidc-provider/gitlab.com"
SUBJECT = "project_path:group/project:ref_type:branch:ref:main"
REQUEST = Request(
    provider=PROVIDER,
    issuer="gitlab.com",
    context={
        "gitlab.com:sub": (SUBJECT,),
        "gitlab.com:aud": ("https://gitlab.com",),
        "sts:rolesessionname": ("main",),
    },
)


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"gitlab.com:sub": SUBJECT}},
        **changes,
    }


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> dict[str, Any]:
    return {"Version": version, "Statement": list(statements)}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "allowed"),
        ({"Action": "sts:*"}, "allowed"),
        ({"Action": "STS:assumerolewithWEBidentity"}, "allowed"),
        ({"Action": ["sts:TagSession", "sts:AssumeRole*"]}, "allowed"),
        ({"Action": "*"}, "allowed"),
        ({"Action": "sts:AssumeRole"}, "denied"),
        ({"Principal": "*"}, "allowed"),
        ({"Principal": {"AWS": "*"}}, "allowed"),
        (
            {
                "Principal": {
                    "Federated": ["arn:aws:iam::111111111111:oidc-provider/other", PROVIDER]
                }
            },
            "allowed",
        ),
        ({"Principal": {"Federated": PROVIDER.upper()}}, "denied"),
        ({"Principal": {"Federated": "*"}}, "unknown"),
        ({"Principal": {"Service": "ec2.amazonaws.com"}}, "denied"),
        ({"Principal": {"AWS": "arn:aws:iam::111111111111:root"}}, "denied"),
        ({"NotPrincipal": {"Federated": PROVIDER}}, "unknown"),
        ({"NotAction": "sts:AssumeRole"}, "unknown"),
        ({"Condition": {}}, "allowed"),
        ({"Condition": {"StringEquals": {"GitLab.com:SUB": SUBJECT}}}, "allowed"),
        ({"Condition": {"StringEquals": {"gitlab.com:sub": ["x", SUBJECT]}}}, "allowed"),
        (
            {"Condition": {"StringEquals": {"gitlab.com:sub": SUBJECT, "gitlab.com:aud": "x"}}},
            "denied",
        ),
        (
            {
                "Condition": {
                    "StringEquals": {"gitlab.com:sub": SUBJECT},
                    "Null": {"gitlab.com:amr": "true"},
                }
            },
            "allowed",
        ),
        ({"Condition": {"Null": {"gitlab.com:sub": False}}}, "allowed"),
        ({"Condition": {"Null": {"gitlab.com:sub": "yes"}}}, "unknown"),
        ({"Condition": {"Null": {"gitlab.com:sub": ["false", ""]}}}, "unknown"),
        ({"Condition": {"Made Up": {"gitlab.com:sub": SUBJECT}}}, "unknown"),
        (
            {
                "Condition": {
                    "Made Up": {"gitlab.com:sub": "x"},
                    "StringEquals": {"gitlab.com:aud": "x"},
                }
            },
            "denied",
        ),
        ({"Condition": {"StringEquals": {"github.com:sub": SUBJECT}}}, "denied"),
        ({"Condition": {"StringNotEquals": {"gitlab.com:user_login": "mallory"}}}, "allowed"),
        ({"Condition": {"ForAllValues:StringEquals": {"gitlab.com:subb": "x"}}}, "allowed"),
        ({"Condition": {"ForAnyValue:StringEquals": {"gitlab.com:subb": "x"}}}, "denied"),
        ({"Condition": {"StringEqualsIfExists": {"gitlab.com:subb": "x"}}}, "allowed"),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, "unknown"),
        ({"Condition": {"StringEquals": {"sts:RoleSessionName": "main"}}}, "allowed"),
        (
            {"Condition": {"StringLike": {"gitlab.com:sub": "*:ref:${sts:RoleSessionName}"}}},
            "allowed",
        ),
        ({"Condition": {"StringLike": {"gitlab.com:sub": "*:ref:${nothing, 'main'}"}}}, "allowed"),
        ({"Condition": {"StringLike": {"gitlab.com:sub": "*${aws:username}"}}}, "unknown"),
    ],
)
def test_one_statement(changes: dict[str, Any], verdict: str) -> None:
    entry = statement(**changes)
    if "NotPrincipal" in changes:
        del entry["Principal"]
    if "NotAction" in changes:
        del entry["Action"]
    assert evaluate(policy(entry), REQUEST).verdict == verdict


def test_accepts_a_statement_without_a_list() -> None:
    assert (
        evaluate({"Version": "2012-10-17", "Statement": statement()}, REQUEST).verdict == "allowed"
    )


def test_variables_are_literal_before_2012() -> None:
    entry = statement(Condition={"StringLike": {"gitlab.com:sub": "*:ref:${sts:RoleSessionName}"}})
    assert evaluate(policy(entry, version="2008-10-17"), REQUEST).verdict == "denied"


def test_wildcards_in_a_variables_value_are_literal() -> None:
    request = Request(
        provider=PROVIDER,
        issuer="gitlab.com",
        context={"gitlab.com:sub": ("main",), "sts:rolesessionname": ("m*",)},
    )
    entry = statement(Condition={"StringLike": {"gitlab.com:sub": "${sts:RoleSessionName}"}})
    assert evaluate(policy(entry), request).verdict == "denied"


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        ([], "denied"),
        ([statement(Action="x"), statement()], "allowed"),
        ([statement(), statement(Effect="Deny")], "denied"),
        ([statement(), statement(Effect="Deny", Action="x")], "allowed"),
        (
            [
                statement(),
                statement(Effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}}),
            ],
            "unknown",
        ),
        (
            [statement(Effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})],
            "denied",
        ),
        ([statement(Condition={"X": {"a": "b"}}), statement(Effect="Deny")], "denied"),
        ([statement(Condition={"X": {"a": "b"}}), statement()], "allowed"),
    ],
)
def test_deny_overrides_allow(statements: list[dict[str, Any]], verdict: str) -> None:
    assert evaluate(policy(*statements), REQUEST).verdict == verdict


def test_reports_each_failing_condition() -> None:
    entry = statement(
        Condition={
            "StringEquals": {"gitlab.com:sub": "x", "gitlab.com:aud": "https://gitlab.com"},
            "StringLike": {"gitlab.com:namespace_id": ["1", "2"]},
        }
    )
    (found,) = evaluate(policy(entry), REQUEST).statements
    assert [(c.operator, c.key, c.expected, c.actual) for c in found.failing] == [
        ("StringEquals", "gitlab.com:sub", ("x",), (SUBJECT,)),
        ("StringLike", "gitlab.com:namespace_id", ("1", "2"), None),
    ]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"Statement": "x"},
        {"Statement": [statement(Effect="allow")]},
        {"Statement": [statement(Condition=["x"])]},
        {"Statement": [statement(Condition={"StringEquals": "x"})]},
        {"Statement": [statement(Condition={"StringEquals": {"a": {}}})]},
        {"Statement": [statement(Action={})]},
    ],
)
def test_refuses_documents_that_are_not_policies(document: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(document, REQUEST)
    assert caught.value.id == "oidc-policy-malformed"


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_refuses_text_that_is_not_a_policy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.id == "oidc-policy-malformed"


def test_a_request_contains_only_what_iam_sees() -> None:
    payload = {
        "iss": "https://gitlab.com",
        "sub": SUBJECT,
        "aud": "https://gitlab.com",
        "project_path": "group/project",
        "project_id": "7",
        "ref_protected": "true",
    }
    request = request_for(TokenClaims({}, payload), account_id="111111111111", session_name="s")
    assert request.provider == PROVIDER
    assert request.context == {
        "gitlab.com:sub": (SUBJECT,),
        "gitlab.com:aud": ("https://gitlab.com",),
        "gitlab.com:project_id": ("7",),
        "gitlab.com:ref_protected": ("true",),
        "sts:rolesessionname": ("s",),
    }


def test_aws_sees_subject_and_audience_of_a_self_managed_issuer() -> None:
    assert visible("https://gitlab.example.com") == {"sub", "aud", "amr"}
    payload = {
        "iss": "https://gitlab.example.com/gl",
        "sub": "s",
        "aud": ["a", "b"],
        "ref_protected": "true",
    }
    request = request_for(TokenClaims({}, payload), account_id="111111111111", partition="aws-cn")
    assert request.provider == "arn:aws-cn:iam::111111111111:oidc-provider/gitlab.example.com/gl"
    assert request.context == {
        "gitlab.example.com/gl:sub": ("s",),
        "gitlab.example.com/gl:aud": ("a", "b"),
    }


def test_the_authorised_party_replaces_the_audience() -> None:
    payload = {"iss": "https://gitlab.com", "aud": ["a", "b"], "azp": "b"}
    assert request_for(TokenClaims({}, payload), account_id="1").context == {
        "gitlab.com:aud": ("b",)
    }


def test_issuer_key_has_no_scheme_and_no_final_slash() -> None:
    assert issuer_key("https://host/path/") == "host/path"
    assert provider_arn("https://host/", account_id="1") == "arn:aws:iam::1:oidc-provider/host"
