"""Whom the sandbox serves, and with what: keys of its own, services that are on a list, its
owner.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import requests
from botocore.auth import S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoKeys
from botocore.exceptions import ClientError

from cipipe.sandbox import Sandbox
from cipipe.sandbox.aws.services import SERVED
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity
from support.jobs import ACCOUNT, AUDIENCES, REGION, ROLE
from support.open_sandbox import open_sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def client(sandbox: Sandbox, service: str, keys: Credentials | None = None, **config: Any) -> Any:
    keys = keys or sandbox.admin
    session = boto3.Session(
        keys.access_key_id, keys.secret_access_key, keys.session_token, region_name=REGION
    )
    settings = Config(retries={"total_max_attempts": 1}, **config)
    return session.client(service, endpoint_url=sandbox.state.aws_url, config=settings)  # type: ignore[call-overload]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def signed(sandbox: Sandbox, service: str, path: str, **more: Any) -> requests.Response:
    """A request that the administrator signs, for a service, in a way that no SDK would."""
    auth = more.pop("auth", SigV4Auth)
    made = AWSRequest(
        **{"method": "POST", "url": sandbox.state.aws_url + path, "data": b"", **more}
    )
    keys = BotoKeys(sandbox.admin.access_key_id, sandbox.admin.secret_access_key)
    auth(keys, service, REGION).add_auth(made)
    sent: Any = made.prepare()
    return requests.request(
        sent.method, sent.url, headers=dict(sent.headers), data=sent.body, timeout=10
    )


# --- services ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "backend", "call"),
    [
        ("batch", "batch", lambda c: c.describe_job_queues()),
        ("lambda", "awslambda", lambda c: c.list_functions()),
        ("codebuild", "codebuild", lambda c: c.list_projects()),
        ("stepfunctions", "stepfunctions", lambda c: c.list_state_machines()),
        ("cloudformation", "cloudformation", lambda c: c.list_stacks()),
    ],
)
def test_other_services_are_refused_by_name(
    sandbox: Sandbox, service: str, backend: str, call: Any
) -> None:
    with pytest.raises(ClientError) as caught:
        call(client(sandbox, service))
    assert f"does not serve {backend};" in str(caught.value)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/moto-api/reset", {}),
        ("/moto-api/config", {"data": b'{"batch": {"use_docker": true}}'}),
        ("/moto-api-is-no-bucket/x", {"method": "PUT", "data": b"x"}),
        ("/latest/meta-data/iam/security-credentials/", {"method": "GET"}),
        ("/batch_eu-central-1/v1/describejobqueues", {"auth": S3SigV4QueryAuth, "method": "GET"}),
        ("/lambda_eu-central-1/2015-03-31/functions", {"auth": S3SigV4QueryAuth, "method": "GET"}),
        ("/pool/.well-known/jwks.json", {"auth": S3SigV4QueryAuth, "method": "GET"}),
    ],
)
def test_no_other_way_to_them(sandbox: Sandbox, path: str, more: dict[str, Any]) -> None:
    answer = signed(sandbox, "s3", path, **more)
    assert answer.status_code == 400, answer.text
    assert "does not serve" in answer.text


@pytest.mark.parametrize(
    "host", ["batch.eu-central-1.amazonaws.com", "lambda.us-east-1.amazonaws.com", "moto_api"]
)
def test_the_host_does_not_choose_another_service(sandbox: Sandbox, host: str) -> None:
    place = urlsplit(sandbox.state.aws_url)
    answer = signed(sandbox, "s3", "/v1/describejobqueues", method="GET", headers={"Host": host})
    assert answer.status_code == 404, answer.text
    assert "NoSuchBucket" in answer.text or "NoSuchKey" in answer.text
    assert place.hostname == "127.0.0.1"


def test_nothing_that_is_served_starts_containers() -> None:
    """Those of moto's backends that import its Docker client."""
    import moto

    folder = Path(moto.__file__).parent
    users = {
        file.parent.name
        for file in folder.glob("*/*.py")
        if "docker_utilities import" in file.read_text()
    }
    assert {"batch", "awslambda"} <= users
    assert not users & SERVED


# --- keys ----------------------------------------------------------------------------------------


def header(key: str, service: str, signature: str = "0" * 64) -> dict[str, str]:
    scope = f"{key}/20260101/{REGION}/{service}/aws4_request"
    return {
        "Authorization": (
            f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={signature}"
        )
    }


@pytest.mark.parametrize("signature", ["0", "0" * 64])
@pytest.mark.parametrize("service", ["iam", "s3", "ec2", "ssm", "batch"])
def test_a_forged_signature_does_nothing(sandbox: Sandbox, service: str, signature: str) -> None:
    form = {"Action": "CreateUser", "Version": "2010-05-08", "UserName": "evil"}
    sent = header(sandbox.admin.access_key_id, service, signature)
    answer = requests.post(sandbox.state.aws_url, data=form, headers=sent, timeout=10)
    assert answer.status_code in {400, 403}
    assert "Signature" in answer.text
    assert client(sandbox, "iam").list_users()["Users"] == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nobody_is_served_without_a_signature(sandbox: Sandbox, method: str) -> None:
    answer = requests.request(method, f"{sandbox.state.aws_url}/bucket/key", data=b"", timeout=10)
    assert answer.status_code == 403
    assert "<Code>AccessDenied</Code>" in answer.text


@pytest.mark.parametrize(
    "keys",
    [
        Credentials("testing", "testing"),
        Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        Credentials("ASIAIOSFODNN7EXAMPLE", "secret", "token"),
    ],
)
def test_keys_that_it_has_not_made_are_unknown(sandbox: Sandbox, keys: Credentials) -> None:
    for service, operation, expected in (
        ("s3", "list_buckets", "InvalidAccessKeyId"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("ssm", "describe_parameters", "UnrecognizedClientException"),
        ("ec2", "describe_vpcs", "AuthFailure"),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(client(sandbox, service, keys), operation)()
        assert code(caught) == expected


def test_the_administrator_of_another_sandbox_is_nobody_here(sandbox: Sandbox) -> None:
    assert len(sandbox.admin.secret_access_key) == 40
    with pytest.raises(ClientError) as caught:
        client(
            sandbox, "s3", Credentials(sandbox.admin.access_key_id, "sandbox-administrator")
        ).list_buckets()
    assert code(caught) == "SignatureDoesNotMatch"


def test_keys_of_a_session_and_of_a_user(sandbox: Sandbox) -> None:
    token = sandbox.mint(
        project="group/shop", ref="main", ref_type="branch", audience=AUDIENCES["gitlab"]
    )
    given = assume_role_with_web_identity(
        sandbox.endpoint(REGION),
        RoleSession(role_arn=ROLE, session_name="session", duration=900),
        token=token,
    ).credentials
    assert client(sandbox, "sts", given).get_caller_identity()["Account"] == ACCOUNT
    for stolen in (None, "another"):
        with pytest.raises(ClientError) as caught:
            client(
                sandbox, "sts", Credentials(given.access_key_id, given.secret_access_key, stolen)
            ).get_caller_identity()
        assert code(caught) == "InvalidClientTokenId"
    iam = client(sandbox, "iam")
    iam.create_user(UserName="person")
    made = iam.create_access_key(UserName="person")["AccessKey"]
    keys = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
    assert client(sandbox, "sts", keys).get_caller_identity()["Account"] == ACCOUNT
    iam.update_access_key(UserName="person", AccessKeyId=keys.access_key_id, Status="Inactive")
    with pytest.raises(ClientError):
        client(sandbox, "sts", keys).get_caller_identity()
    iam.delete_access_key(UserName="person", AccessKeyId=keys.access_key_id)
    iam.delete_user(UserName="person")


@pytest.mark.parametrize("key", ["plain", "a b+c~é/..x", "(1)'!*", "100%", "-_."])
def test_every_way_to_write_and_read_an_object(sandbox: Sandbox, key: str) -> None:
    admin = Aws(sandbox.endpoint(REGION), sandbox.admin)
    s3 = client(sandbox, "s3", s3={"addressing_style": "path"})
    with contextlib.suppress(ClientError):
        s3.create_bucket(Bucket="ways", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="ways", Key=key, Body=b"boto3", Metadata={"foo_bar": "x"})
    found = admin.bucket("ways").get(key)
    assert found is not None
    assert found.body == b"boto3"
    unsigned = client(
        sandbox, "s3", s3={"addressing_style": "path", "payload_signing_enabled": False}
    )
    unsigned.put_object(Bucket="ways", Key=key, Body=b"unsigned")
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "ways", "Key": key})
    assert requests.get(get, timeout=10).content == b"unsigned"
    put = client(sandbox, "s3", signature_version="s3v4").generate_presigned_url(
        "put_object", Params={"Bucket": "ways", "Key": key}
    )
    assert requests.put(put, data=b"presigned", timeout=10).status_code == 200
    assert [
        entry["Key"] for entry in s3.list_objects_v2(Bucket="ways", Prefix=key)["Contents"]
    ] == [key]
    assert s3.get_object(Bucket="ways", Key=key)["Body"].read() == b"presigned"
