"""Real tokens of the sandbox's issuer, exchanged at its STS front: by the client, and past the
client's own checks.
"""

import base64
import json
import socket
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from cipipe.errors import IdentityError
from cipipe.oidc.claims import decode
from cipipe.sandbox import Sandbox
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity
from support.exchanges import (
    ACCOUNT,
    AUDIENCES,
    HOSTS,
    REGION,
    SUBJECTS,
    mint,
    policy,
    run,
    sandbox_with_two_accounts,
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_two_accounts(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.mark.parametrize("flavour", ["gitlab", "github"])
@pytest.mark.parametrize("account", [ACCOUNT, "222222222222"])
def test_a_good_token_becomes_the_role(sandbox: Sandbox, flavour: str, account: str) -> None:
    token = mint(sandbox, flavour)
    credentials = run(sandbox, token, flavour, account=account)
    assert credentials.expiration is not None
    assert timedelta(minutes=59) < credentials.expiration - datetime.now(UTC) <= timedelta(hours=1)
    caller = Aws(sandbox.endpoint(REGION), credentials).call("sts", "get_caller_identity")
    assert caller["Account"] == account
    assert caller["Arn"] == f"arn:aws:sts::{account}:assumed-role/{flavour}-deploy/session"
    logged = sandbox.exchanges()[-1]
    assert datetime.fromisoformat(logged.pop("time")) <= datetime.now(UTC)
    assert logged == {
        "issuer": f"https://{HOSTS[flavour]}",
        "sub": SUBJECTS[flavour],
        "aud": AUDIENCES[flavour],
        "jti": decode(token).payload["jti"],
        "role": f"arn:aws:iam::{account}:role/{flavour}-deploy",
        "kid": decode(token).header["kid"],
        "verified": True,
    }


def test_sts_names_subject_audience_and_provider(sandbox: Sandbox) -> None:
    given = assume_role_with_web_identity(
        sandbox.endpoint(REGION),
        RoleSession(
            role_arn=f"arn:aws:iam::{ACCOUNT}:role/gitlab-deploy",
            session_name="session",
            duration=900,
        ),
        token=mint(sandbox),
    )
    assert (given.subject, given.audience) == (SUBJECTS["gitlab"], AUDIENCES["gitlab"])
    assert given.provider == f"arn:aws:iam::{ACCOUNT}:oidc-provider/gitlab.com"
    assert given.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/gitlab-deploy/session"


BAD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # what is wrong: the token, the id of the client's own check, the id with STS asked, STS's code
    "branch": ({"ref": "feature"}, "oidc-access-denied", "oidc-access-denied", "AccessDenied"),
    "project": (
        {"project": "group/fork"},
        "oidc-access-denied",
        "oidc-access-denied",
        "AccessDenied",
    ),
    "tag": ({"ref_type": "tag"}, "oidc-access-denied", "oidc-access-denied", "AccessDenied"),
    "merge request": (
        {"ref": "x", "event": "merge-request"},
        "oidc-access-denied",
        "oidc-access-denied",
        "AccessDenied",
    ),
    "expired": ({"ttl": -600}, "oidc-token-expired", "oidc-token-expired", "ExpiredTokenException"),
    "too early": (
        {"claims": {"nbf": 99999999999, "iat": 99999999999}},
        "oidc-token-not-yet-valid",
        "oidc-token-not-yet-valid",
        "InvalidIdentityToken",
    ),
    "audience": (
        {"audience": "else"},
        "oidc-audience-mismatch",
        "oidc-audience-mismatch",
        "InvalidIdentityToken",
    ),
    "signature": ({"key": "other"}, "oidc-signature", "oidc-signature", "InvalidIdentityToken"),
    "unsigned": (
        {"alg": "none"},
        "oidc-token-unsigned",
        "oidc-token-unsigned",
        "InvalidIdentityToken",
    ),
    "issuer": (
        {"claims": {"iss": "https://gitlab.example.com"}},
        "oidc-no-provider-for-issuer",
        "oidc-no-provider-for-issuer",
        "InvalidIdentityToken",
    ),
}


@pytest.mark.parametrize("precheck", [True, False])
@pytest.mark.parametrize("what", BAD)
def test_each_bad_token_is_refused_with_its_own_error(
    sandbox: Sandbox, what: str, precheck: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    changes, own, asked, code = BAD[what]
    token, before = mint(sandbox, **changes), sandbox.exchanges()
    with pytest.raises(IdentityError) as caught:
        run(sandbox, token, precheck=precheck)
    assert caught.value.id == (own if precheck else asked)
    assert (f"AWS says {code}" in caught.value.message) or precheck
    assert sandbox.exchanges() == before
    captured = capfd.readouterr()
    shown = "".join(
        [
            captured.out,
            captured.err,
            caught.value.message,
            str(caught.value.hint),
            repr(caught.value),
        ]
    )
    assert not any(part in shown for part in token.split(".") if part)


def test_a_changed_token_has_a_wrong_signature(sandbox: Sandbox) -> None:
    header, _, signature = mint(sandbox, ref="feature").split(".")
    payload = mint(sandbox).split(".")[1]
    with pytest.raises(IdentityError) as caught:
        run(sandbox, f"{header}.{payload}.{signature}")
    assert caught.value.id == "oidc-signature"


def test_the_token_is_in_no_log(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    token = mint(sandbox)
    run(sandbox, token)
    logs = list(tmp_path_factory.getbasetemp().glob("sandbox*/*.log"))
    assert logs
    assert not any(token.rpartition(".")[2] in log.read_text() for log in logs)


def test_a_denial_shows_expected_and_actual(sandbox: Sandbox) -> None:
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/gitlab.com"
    with pytest.raises(IdentityError) as caught:
        run(sandbox, mint(sandbox, ref="feature"), read_policy=lambda: policy(provider, "gitlab"))
    assert "oidc-subject-mismatch" in caught.value.message
    assert f"  expected   {SUBJECTS['gitlab']}\n" in caught.value.message
    assert f"  actual     {SUBJECTS['gitlab'].replace('main', 'feature')}\n" in caught.value.message


def test_a_listed_audience_that_the_role_does_not_name_is_denied(sandbox: Sandbox) -> None:
    with pytest.raises(IdentityError) as caught:
        run(sandbox, mint(sandbox, audience="also"), audience="also")
    assert caught.value.id == "oidc-access-denied"


def test_a_role_that_is_not_there_is_denied_like_any_other(sandbox: Sandbox) -> None:
    with pytest.raises(
        IdentityError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"
    ) as caught:
        run(sandbox, mint(sandbox), role="nobody")
    assert caught.value.id == "oidc-access-denied"


def test_the_role_limits_the_session(sandbox: Sandbox) -> None:
    assert run(sandbox, mint(sandbox), role="gitlab-long", duration=7200)
    with pytest.raises(IdentityError, match="exceeds the MaxSessionDuration") as caught:
        run(sandbox, mint(sandbox), duration=7200)
    assert caught.value.id == "oidc-duration"


@pytest.mark.parametrize(
    ("form", "status", "code", "text"),
    [
        ({"DurationSeconds": "899"}, 400, "ValidationError", "Value '899' at 'durationSeconds'"),
        (
            {"DurationSeconds": "43201"},
            400,
            "ValidationError",
            "Value '43201' at 'durationSeconds'",
        ),
        ({"RoleSessionName": "a b"}, 400, "ValidationError", "Value 'a b' at 'roleSessionName'"),
        ({"RoleSessionName": ""}, 400, "ValidationError", "Value null at 'roleSessionName'"),
        ({"RoleArn": "arn:aws:iam::1:role/x"}, 400, "ValidationError", "Request ARN is invalid"),
        (
            {"WebIdentityToken": "no.token"},
            400,
            "InvalidIdentityToken",
            "The ID Token provided is not a valid JWT",
        ),
        (
            {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/none"},
            403,
            "AccessDenied",
            "Not authorized to perform",
        ),
    ],
)
def test_the_front_checks_what_the_client_checks_too(
    sandbox: Sandbox, form: dict[str, str], status: int, code: str, text: str
) -> None:
    body = urllib.parse.urlencode(
        {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/gitlab-deploy",
            "RoleSessionName": "session",
            "WebIdentityToken": mint(sandbox),
            **form,
        }
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = http.request("POST", f"{sandbox.state.aws_url}/", headers=headers, body=body.encode())
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/xml")
    assert f"<Code>{code}</Code>" in answer.body.decode()
    assert text in answer.body.decode().replace("&apos;", "'")


def test_a_key_that_is_not_published_is_a_key_that_was_not_retrieved(sandbox: Sandbox) -> None:
    header, payload, signature = mint(sandbox).split(".")
    named = json.dumps({"alg": "RS256", "kid": "unknown"}).encode()
    token = f"{base64.urlsafe_b64encode(named).rstrip(b'=').decode()}.{payload}.{signature}"
    assert header != token.partition(".")[0]
    waits: list[float] = []
    with pytest.raises(IdentityError) as caught:
        run(sandbox, token, sleep=waits.append)
    assert caught.value.id == "oidc-keys-unreachable"
    assert len(waits) == 4


def test_no_sts_is_unreachable(sandbox: Sandbox, unused_port: int) -> None:
    with pytest.raises(IdentityError) as caught:
        run(sandbox, mint(sandbox), endpoint=Endpoint(REGION, f"http://127.0.0.1:{unused_port}"))
    assert caught.value.id == "oidc-sts-unreachable"


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east-1", "https://sts.us-east-1.amazonaws.com"),
        ("eu-central-1", "https://sts.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com"),
    ],
)
def test_the_regions_own_endpoint_is_asked(region: str, url: str) -> None:
    assert Endpoint(region).url_of("sts") == url
    botocore = boto3.Session("x", "x", region_name=region).client("sts").meta.endpoint_url
    assert botocore == url, "as AWS's own tools have it"


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
