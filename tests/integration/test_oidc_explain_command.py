"""`cipipe oidc explain`: a token and a policy in files, and the policy of a live role (moto)."""

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from support.oidc_command import LAB, OidcCommand, gitlab, jwt, policy, written


def test_an_allowed_token(oidc: OidcCommand) -> None:
    done = oidc(
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", gitlab()),
        "--format",
        "json",
    )
    assert (done.status, done.err) == (0, "")
    assert done.document["schema"] == 1
    assert done.document["verdict"] == "allowed"
    assert set(done.document) == {"schema", "verdict", "findings"}
    unprotected, finding = done.document["findings"]
    assert (unprotected["id"], unprotected["severity"]) == (
        "oidc-merge-request-indistinct",
        "warning",
    )
    assert set(finding) == {
        "id",
        "severity",
        "statement",
        "operator",
        "key",
        "expected",
        "actual",
        "message",
        "fix",
    }
    assert (finding["id"], finding["severity"]) == ("oidc-mutable-name", "warning")


def test_a_denied_token(oidc: OidcCommand) -> None:
    done = oidc(
        "explain", "--policy", written("p", policy()), "--claims", written("c", gitlab("side"))
    )
    assert (done.status, done.err) == (3, "")
    assert done.out.splitlines()[:8] == [
        "denied: this token may not assume the role",
        "",
        (
            "oidc-subject-mismatch (statement 0): the token is for the "
            "branch side, which the role does not trust"
        ),
        "  condition  StringEquals on gitlab.com:sub",
        "  expected   project_path:acme/dbt:ref_type:branch:ref:main",
        "  actual     project_path:acme/dbt:ref_type:branch:ref:side",
        "  " + " " * 53 + "^ the first difference, at character 43",
        (
            '  fix        "StringEquals": {"gitlab.com:sub": '
            '"project_path:acme/dbt:ref_type:branch:ref:side"}'
        ),
    ]


def test_a_verdict_that_is_not_known_is_warned_of(oidc: OidcCommand) -> None:
    document = policy()
    document["Statement"]["Condition"]["IpAddress"] = {"aws:SourceIp": "10.0.0.0/8"}
    done = oidc(
        "explain",
        "--policy",
        written("p", document),
        "--claims",
        written("c", gitlab()),
        "--format",
        "json",
    )
    assert done.status == 0
    assert done.document["verdict"] == "unknown"
    assert "cannot be known" in done.err


def test_a_policy_from_standard_input(oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(policy()).encode())))
    assert oidc("explain", "--policy", "-", "--claims", written("c", gitlab())).status == 0


@pytest.mark.parametrize(
    ("token", "id"),
    [
        (jwt(gitlab(), alg="none"), "oidc-token-unsigned"),
        (jwt(gitlab(exp=1700000000)), "oidc-token-expired"),
        (jwt(gitlab(nbf=9000000000, exp=9000000300)), "oidc-token-not-yet-valid"),
        (jwt(gitlab(exp=None)), "oidc-token-malformed"),
        (jwt(gitlab(iat=None)), "oidc-token-malformed"),
        (jwt(gitlab(sub=None)), "oidc-token-malformed"),
        (jwt(gitlab(sub="")), "oidc-token-malformed"),
        (jwt(gitlab(iss=["https://gitlab.com"])), "oidc-token-malformed"),
        (jwt(gitlab(iss="http://gitlab.com")), "oidc-token-malformed"),
        (jwt(gitlab(), alg="HS256"), "oidc-token-malformed"),
        ("ey.nonsense", "oidc-token-malformed"),
        ("", "oidc-no-token"),
    ],
)
def test_a_token_that_sts_refuses(
    oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch, token: str, id: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", token)
    done = oidc(
        "explain", "--policy", written("p", policy()), "--token-env", "MY_TOKEN", "--format", "json"
    )
    assert done.status == 3
    assert (done.document["verdict"], done.ids[0]) == ("denied", id)
    assert done.document["findings"][0]["fix"]


def test_a_job_of_a_fork_differs_from_one_without_a_token(
    oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GITLAB_CI": "true",
        "CI_MERGE_REQUEST_IID": "1",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "mallory/dbt",
        "CI_MERGE_REQUEST_PROJECT_PATH": "acme/dbt",
    }.items():
        monkeypatch.setenv(name, value)
    done = oidc(
        "explain", "--policy", written("p", policy()), "--token-env", "NONE", "--format", "json"
    )
    assert (done.status, done.ids) == (3, ["oidc-fork-cannot-mint"])
    assert "oidc-fork-cannot-mint" in oidc("token").err


EXPIRED = 1700000000  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize("source", ["--claims", "--token-file"])
@pytest.mark.parametrize(
    ("at", "id"),
    [
        ((), "oidc-token-expired"),
        (("--at", "2023-11-14T22:16:00Z"), "oidc-token-expired"),
        (("--at", "2023-11-15T00:00:00+01:00"), "oidc-token-expired"),
        (("--at", "2023-11-14T22:05:00Z"), None),
        (("--at", "2023-11-14T23:05:00+01:00"), None),
        (("--at", "1699999900"), None),
        (("--at", "2023-11-14T20:00"), "oidc-token-not-yet-valid"),
    ],
)
def test_a_token_is_judged_as_of_a_moment(
    oidc: OidcCommand, source: str, at: tuple[str, ...], id: str | None
) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 3600, iat=EXPIRED - 3600)
    given = written("c", claims if source == "--claims" else jwt(claims))
    done = oidc(
        "explain", "--policy", written("p", policy()), source, given, *at, "--format", "json"
    )
    assert done.document["verdict"] == ("denied" if id else "allowed")
    assert done.status == (3 if id else 0)
    assert [
        finding["id"] for finding in done.document["findings"] if finding["severity"] == "error"
    ] == [id][: bool(id)]


def test_the_fix_of_an_expired_token_is_a_moment_when_it_held(oidc: OidcCommand) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 300, iat=EXPIRED - 300)
    arguments = (
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", claims),
        "--format",
        "json",
    )
    fix = oidc(*arguments).document["findings"][0]["fix"]
    assert oidc(*arguments, *fix.split()[-2:]).document["verdict"] == "allowed"


def test_and_of_one_that_does_not_hold_yet(oidc: OidcCommand) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 300, iat=EXPIRED - 300)
    arguments = (
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", claims),
        "--format",
        "json",
    )
    fix = oidc(*arguments, "--at", str(EXPIRED - 9000)).document["findings"][0]["fix"]
    assert oidc(*arguments, *fix.split()[-2:]).document["verdict"] == "allowed"


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01", "99999999999999999999"])
def test_a_moment_has_to_be_one(oidc: OidcCommand, at: str) -> None:
    done = oidc(
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", gitlab()),
        "--at",
        at,
    )
    assert done.status == 2
    assert "--at" in done.err


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["--claims", "c"], "usage"),
        (["--policy", "p"], "usage"),
        (["--policy", "p", "--role", "r", "--claims", "c"], "usage"),
        (["--policy", "p", "--claims", "c", "--token-file", "c"], "usage"),
        (["--policy", "-", "--claims", "-"], "usage"),
        (["--policy", "nowhere", "--claims", "c"], "usage"),
        (["--policy", "p", "--claims", "c", "--provider-arn", "x"], "usage"),
        (["--policy", "p", "--claims", "c", "--role-arn", "arn:aws:iam::1:role/x"], "usage"),
        (["--policy", "broken", "--claims", "c"], "oidc-policy-malformed"),
        (["--policy", "p", "--claims", "broken"], "oidc-claims-unreadable"),
        (["--policy", "p", "--claims", "list"], "oidc-claims-unreadable"),
        (["--policy", "p", "--claims", "none"], "oidc-claims-unreadable"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(
    oidc: OidcCommand, arguments: list[str], id: str
) -> None:
    written("p", policy())
    written("c", gitlab())
    written("broken", '{"Statement": [{"Effect": "allow"}')
    written("list", [])
    written("none", {})
    done = oidc("explain", *arguments, "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (2, id)
    assert "Traceback" not in done.err


def test_a_malformed_policy_is_said_with_its_place(oidc: OidcCommand) -> None:
    document = policy()
    document["Statement"]["Condition"] = {"StringEquals": {"gitlab.com:sub": {}}}
    done = oidc(
        "explain", "--policy", written("p.json", document), "--claims", written("c", gitlab())
    )
    assert done.status == 2
    assert 'where: p.json: Statement[0].Condition.StringEquals["gitlab.com:sub"]' in done.err


def test_control_characters_of_claims_are_shown_and_not_obeyed(oidc: OidcCommand) -> None:
    claims = written("c", gitlab("x\x1b[2J\n::add-mask::main"))
    done = oidc("explain", "--policy", written("p", policy()), "--claims", claims)
    assert "\x1b" not in done.out
    assert "\n::add-mask::" not in done.out


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with mock_aws():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key-of-a-test")
        monkeypatch.setenv("MOTO_ACCOUNT_ID", "123456789012")
        yield boto3.client("iam", region_name="us-east-1")


def test_reads_a_live_role(oidc: OidcCommand, iam: Any) -> None:
    provider = LAB.replace("111111111111", "123456789012")
    document = json.dumps(
        {**policy(provider=provider), "Statement": [policy(provider=provider)["Statement"]]}
    )
    arn = iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    claims = written("c", gitlab())
    done = oidc("explain", "--role", "deploy", "--claims", claims, "--format", "json")
    assert (done.status, done.ids[0]) == (3, "oidc-no-provider-for-issuer")
    made = iam.create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=["x"], ThumbprintList=["a" * 40]
    )
    done = oidc("explain", "--role", arn, "--claims", claims, "--format", "json")
    assert (done.status, done.ids[0]) == (3, "oidc-audience-mismatch")
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=made["OpenIDConnectProviderArn"])
    ids = ["https://gitlab.com"]
    iam.create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=ids, ThumbprintList=["a" * 40]
    )
    done = oidc("explain", "--role", arn, "--claims", claims, "--format", "json")
    assert (done.status, done.document["verdict"]) == (0, "allowed")


@pytest.mark.parametrize("role", ["nobody", "arn:aws:iam::999999999999:role/deploy"])
def test_a_role_that_cannot_be_read(oidc: OidcCommand, iam: Any, role: str) -> None:
    document = json.dumps({**policy(), "Statement": [policy()["Statement"]]})
    iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=document)
    done = oidc("explain", "--role", role, "--claims", written("c", gitlab()), "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (3, "oidc-role-unreadable")


@pytest.mark.parametrize(
    "role", ["", "arn:aws:iam::1:role/", "arn:aws:iam::111111111111:role/", "de ploy"]
)
def test_what_names_no_role(oidc: OidcCommand, iam: Any, role: str) -> None:
    done = oidc("explain", "--role", role, "--claims", written("c", gitlab()), "--format", "json")
    assert (done.status, done.document["error"]["where"]) == (2, "--role")


@pytest.mark.parametrize(
    ("name", "value", "status"), [("AWS_ENDPOINT_URL", "foo", 2), ("AWS_CA_BUNDLE", "/nope", 2)]
)
def test_a_way_to_aws_that_is_none(
    oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch, name: str, value: str, status: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv(name, value)
    done = oidc(
        "explain", "--role", "deploy", "--claims", written("c", gitlab()), "--format", "json"
    )
    assert done.status == status
    assert value in done.document["error"]["message"]
