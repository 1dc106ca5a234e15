"""What STS refuses, with AWS's own codes: asked by AWS's own client, past every check of ours."""

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest

from cipipe.sandbox import Sandbox
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity
from support.jobs import ACCOUNT, AUDIENCES, OTHER, REGION, ROLE, role, sandbox_with_roles

LONG = json.dumps(
    {
        "Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::bucket/" + "x" * 1400]}
        ]
    }
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_roles(tmp_path_factory.mktemp("sandbox")) as running:
        other = Aws(running.endpoint(REGION), running.admin_of(OTHER))
        only = {"StringEquals": {"sts:RoleSessionName": "only"}}
        for name, principal, more in (
            ("by-account", {"AWS": ACCOUNT}, {}),
            ("by-root", {"AWS": [f"arn:aws:iam::{ACCOUNT}:root"]}, {}),
            ("by-session", {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/session"}, {}),
            ("by-other", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/verify"}, {}),
            ("by-name", {"AWS": ROLE}, {"Condition": only}),
        ):
            statement = {
                "Effect": "Allow",
                "Principal": principal,
                "Action": "sts:AssumeRole",
                **more,
            }
            role(other, name, [statement], MaxSessionDuration=43200)
        denied = [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*"},
            {"Effect": "Deny", "Principal": {"AWS": ROLE}, "Action": "sts:AssumeRole"},
        ]
        role(other, "by-all-but-one", denied)
        yield running


@pytest.fixture(scope="module")
def first(sandbox: Sandbox) -> Credentials:
    """A session of the first account's role."""
    given = assume_role_with_web_identity(
        sandbox.endpoint(REGION),
        RoleSession(role_arn=ROLE, session_name="session", duration=3600),
        token=mint(sandbox),
    )
    return given.credentials


def mint(sandbox: Sandbox) -> str:
    return sandbox.mint(
        project="group/shop", ref="main", ref_type="branch", audience=AUDIENCES["gitlab"]
    )


def sts(sandbox: Sandbox, keys: Credentials) -> Any:
    given = (keys.access_key_id, keys.secret_access_key, keys.session_token)
    return boto3.Session(*given, region_name=REGION).client(
        "sts", endpoint_url=sandbox.state.aws_url
    )


def assume(sandbox: Sandbox, keys: Credentials, name: str, **more: Any) -> Any:
    asked = {"RoleArn": f"arn:aws:iam::{OTHER}:role/{name}", "RoleSessionName": "session", **more}
    return sts(sandbox, keys).assume_role(**asked)


@pytest.mark.parametrize("name", ["deploy", "by-account", "by-root", "by-session"])
def test_a_role_is_assumed_from_a_session(sandbox: Sandbox, first: Credentials, name: str) -> None:
    answer = assume(sandbox, first, name)
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{OTHER}:assumed-role/{name}/session"
    keys = answer["Credentials"]
    second = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert sts(sandbox, second).get_caller_identity()["Account"] == OTHER


def test_conditions_count(sandbox: Sandbox, first: Credentials) -> None:
    assert assume(sandbox, first, "by-name", RoleSessionName="only")


@pytest.mark.parametrize(
    ("name", "more", "code", "text"),
    [
        (
            "by-other",
            {},
            "AccessDenied",
            f"User: arn:aws:sts::{ACCOUNT}:assumed-role/deploy/session is not authorized",
        ),
        (
            "by-name",
            {},
            "AccessDenied",
            "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::",
        ),
        ("by-all-but-one", {}, "AccessDenied", "is not authorized"),
        ("nobody", {}, "AccessDenied", "is not authorized"),
        (
            "deploy",
            {"DurationSeconds": 3601},
            "ValidationError",
            "exceeds the 1 hour session limit for roles assumed by",
        ),
        ("deploy", {"DurationSeconds": 43201}, "ValidationError", "less than or equal to 43200"),
        (
            "deploy",
            {"RoleSessionName": "a b"},
            "ValidationError",
            "Value 'a b' at 'roleSessionName'",
        ),
        (
            "deploy",
            {"Policy": "{" * 20},
            "MalformedPolicyDocument",
            "This policy contains invalid Json",
        ),
        (
            "deploy",
            {"Policy": '{"Statement": [{"Effect": "Perhaps"}]}'},
            "MalformedPolicyDocument",
            "Syntax errors",
        ),
        ("deploy", {"Policy": " " * 2049}, "ValidationError", "less than or equal to 2048"),
        (
            "deploy",
            {"Policy": LONG, "PolicyArns": [{"arn": f"arn:aws:iam::aws:policy/{'x' * 100}"}] * 8},
            "PackedPolicyTooLarge",
            "of allotted space, please use smaller policy.",
        ),
        (
            "deploy",
            {"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/x"}] * 11},
            "ValidationError",
            "equal to 10",
        ),
    ],
)
def test_what_assume_role_refuses(
    sandbox: Sandbox, first: Credentials, name: str, more: dict[str, Any], code: str, text: str
) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        assume(sandbox, first, name, **more)
    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert text in error["Message"]


def test_keys_of_no_session_are_not_chained_and_may_ask_for_longer(sandbox: Sandbox) -> None:
    answer = assume(sandbox, sandbox.admin, "by-root", DurationSeconds=43200)
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Policy": "no"}, "MalformedPolicyDocument"),
        ({"Policy": " " * 2049}, "ValidationError"),
        (
            {
                "Policy": LONG,
                **{f"PolicyArns.member.{n}.arn": "arn:" + "x" * 90 for n in range(1, 9)},
            },
            "PackedPolicyTooLarge",
        ),
        ({"DurationSeconds": "7201"}, "ValidationError"),
        ({"RoleArn": ROLE.replace("arn:aws:", "arn:aws-cn:")}, "InvalidIdentityToken"),
    ],
)
def test_what_the_exchange_refuses(sandbox: Sandbox, form: dict[str, str], code: str) -> None:
    asked = {
        "Action": "AssumeRoleWithWebIdentity",
        "RoleArn": ROLE,
        "RoleSessionName": "session",
        **form,
    }
    body = urllib.parse.urlencode({**asked, "WebIdentityToken": mint(sandbox)})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = http.request("POST", f"{sandbox.state.aws_url}/", headers=headers, body=body.encode())
    assert f"<Code>{code}</Code>" in answer.body.decode()


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_the_other_partitions_have_providers_and_roles_of_their_own(
    sandbox: Sandbox, region: str, partition: str
) -> None:
    admin = Aws(sandbox.endpoint(region), sandbox.admin)
    provider = admin.call(
        "iam",
        "create_open_id_connect_provider",
        Url="https://gitlab.com",
        ClientIDList=[AUDIENCES["gitlab"]],
        ThumbprintList=[],
    )["OpenIDConnectProviderArn"]
    assert provider == f"arn:{partition}:iam::{ACCOUNT}:oidc-provider/gitlab.com"
    trusted = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": {"gitlab.com:sub": "project_path:group/shop:*"}},
    }
    role(admin, "deploy", [trusted])
    given = assume_role_with_web_identity(
        sandbox.endpoint(region),
        RoleSession(
            role_arn=f"arn:{partition}:iam::{ACCOUNT}:role/deploy",
            session_name="session",
            duration=900,
        ),
        token=mint(sandbox),
    )
    assert given.arn == f"arn:{partition}:sts::{ACCOUNT}:assumed-role/deploy/session"
    assert given.provider == provider


@pytest.mark.parametrize(
    "signature",
    ["junk", "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/eu-central-1/sts/aws4_request"],
)
def test_a_signature_gets_nobody_past_the_check_of_the_token(
    sandbox: Sandbox, signature: str
) -> None:
    asked = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": ROLE, "RoleSessionName": "session"}
    status, body = posted(
        sandbox, {**asked, "WebIdentityToken": "e30.e30.x"}, Authorization=signature
    )
    assert (status, "<Code>InvalidIdentityToken</Code>" in body) == (400, True)


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        ("AssumeRole", 403, "MissingAuthenticationToken"),
        ("GetSessionToken", 403, "MissingAuthenticationToken"),
        ("GetCallerIdentity", 403, "MissingAuthenticationToken"),
        ("AssumeRoleWithSAML", 400, "InvalidAction"),
        ("AssumeRoot", 400, "InvalidAction"),
    ],
)
def test_what_is_not_signed_is_refused(
    sandbox: Sandbox, action: str, status: int, code: str
) -> None:
    answered, body = posted(
        sandbox, {"Action": action, "RoleArn": ROLE, "RoleSessionName": "session"}
    )
    assert (answered, f"<Code>{code}</Code>" in body) == (status, True)


def test_a_target_that_names_no_operation(sandbox: Sandbox) -> None:
    status, body = posted(sandbox, {}, **{"X-Amz-Target": "x"})
    assert (status, "MissingAuthenticationTokenException" in body) == (400, True)


@pytest.mark.parametrize("claims", [{"nbf": "soon"}, {"nbf": [1]}, {"exp": "late"}])
def test_a_time_that_is_none_is_refused(sandbox: Sandbox, claims: dict[str, Any]) -> None:
    token = sandbox.mint(
        project="group/shop",
        ref="main",
        ref_type="branch",
        audience=AUDIENCES["gitlab"],
        claims=claims,
    )
    asked = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": ROLE, "RoleSessionName": "session"}
    status, body = posted(sandbox, {**asked, "WebIdentityToken": token})
    assert (status, "<Code>InvalidIdentityToken</Code>" in body) == (400, True)


def posted(sandbox: Sandbox, form: dict[str, str], **headers: str) -> tuple[int, str]:
    sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    body = urllib.parse.urlencode(form).encode()
    answer = http.request("POST", f"{sandbox.state.aws_url}/", headers=sent, body=body)
    return answer.status, answer.body.decode()
