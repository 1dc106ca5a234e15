"""The login at ECR: our own request, next to the one that boto3 would send."""

import base64
import json
from typing import Any

import boto3
import pytest

from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.tools.aws import transport
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest
from cipipe.tools.registry.login import login
from support.scripted import Answer, ScriptedServer

KEYS = Credentials("AKIDEXAMPLE", "secret", "session")
REGION = "eu-central-1"
HOST = "111111111111.dkr.ecr.eu-central-1.amazonaws.com"
BASIC = base64.b64encode(b"AWS:pass:word").decode()
JSON = {"content-type": "application/x-amz-json-1.1"}


def answer(**changed: Any) -> Answer:
    entry = {
        "authorizationToken": BASIC,
        "expiresAt": 1.7e9,
        "proxyEndpoint": f"https://{HOST}",
        **changed,
    }
    return 200, json.dumps({"authorizationData": [entry]}), JSON


def refusal(status: int, code: str, **headers: str) -> Answer:
    document = {"__type": code, "message": "No."}
    return status, json.dumps(document), {**JSON, **headers}


@pytest.fixture
def aws(server: ScriptedServer) -> Aws:
    return Aws(Endpoint(REGION, server.url), KEYS)


def test_the_request_is_that_of_boto3(server: ScriptedServer, aws: Aws) -> None:
    server.answers = [answer()]
    found = aws.registry_login()
    assert (found.username, found.password, found.basic) == ("AWS", "pass:word", BASIC)
    assert found.url == f"https://{HOST}"
    assert "word" not in repr(found)

    theirs: Any = boto3.Session("AKIDEXAMPLE", "secret", "session", region_name=REGION)
    theirs.client("ecr", endpoint_url=server.url).get_authorization_token()
    first, second = server.asked
    assert (first[0], first[1], first[3]) == (second[0], second[1], second[3])
    for name in ("content-type", "x-amz-target", "x-amz-security-token", "host"):
        assert first[2][name] == second[2][name]
    scope = f"/{REGION}/ecr/aws4_request"
    assert scope in first[2]["authorization"]
    assert scope in second[2]["authorization"]


def test_a_refusal_has_awss_code(server: ScriptedServer, aws: Aws) -> None:
    server.answers = [refusal(400, "com.amazonaws.ecr#AccessDeniedException")]
    with pytest.raises(AwsError) as caught:
        aws.registry_login()
    assert (caught.value.code, caught.value.text) == ("AccessDeniedException", "No.")
    assert len(server.asked) == 1

    headers = {"x-amzn-errortype": "UnrecognizedClientException:http://internal/"}
    server.answers = [(400, "no JSON", {**JSON, **headers})]
    with pytest.raises(AwsError) as caught:
        aws.registry_login()
    assert caught.value.code == "UnrecognizedClientException"
    assert caught.value.text == "HTTP status 400"

    server.answers = [(403, "[]", JSON)]
    with pytest.raises(AwsError) as caught:
        aws.registry_login()
    assert caught.value.code == "403"

    with pytest.raises(StageError, match=r"no login for registry\.test: HTTP status 403") as failed:
        login(aws, "registry.test/app", Redactor())
    assert failed.value.id == "registry-login-failed"


@pytest.mark.parametrize("busy", [refusal(400, "ThrottlingException"), (503, "", {}), None])
def test_a_busy_ecr_is_asked_again(server: ScriptedServer, aws: Aws, busy: Answer | None) -> None:
    server.answers = [busy, answer()]
    assert aws.registry_login().password == "pass:word"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        (200, "<html>", {}),
        (200, "{}", JSON),
        (200, '{"authorizationData": []}', JSON),
        answer(authorizationToken="not base64"),
        answer(authorizationToken=base64.b64encode(b"no colon").decode()),
        answer(authorizationToken=base64.b64encode(b"\xff:x").decode()),
        answer(proxyEndpoint="nowhere"),
    ],
)
def test_what_answers_is_not_ecr(server: ScriptedServer, aws: Aws, wrong: Answer) -> None:
    server.answers = [wrong]
    with pytest.raises(AwsUnreachable, match="is not ECR"):
        aws.registry_login()


def test_a_repository_in_another_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked there, and the login is for that registry whatever the account's own is."""
    asked: list[AwsRequest] = []

    class Recorded:
        def __init__(self, _: str | None) -> None: ...

        def send(self, request: AwsRequest) -> AwsAnswer:
            asked.append(request)
            status, body, headers = answer()
            return AwsAnswer(status, headers, body.encode())

    monkeypatch.setattr(transport, "Transport", Recorded)
    redactor = Redactor()
    there = HOST.replace("111111111111", "222222222222").replace(REGION, "us-west-2")
    found = login(Aws(Endpoint(REGION), KEYS), f"{there}/app", redactor)
    assert found.url == f"https://{there}"
    assert [request.origin for request in asked] == ["https://api.ecr.us-west-2.amazonaws.com"]
    assert "/us-west-2/ecr/aws4_request" in asked[0].headers["authorization"]
    assert redactor.text(f"pass:word and {BASIC}") == redactor.text("pass:word and pass:word")
