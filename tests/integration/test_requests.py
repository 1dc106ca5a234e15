"""Requests of our own to S3: retries, and which connection they use."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cipipe.tools.aws import pools
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.retries import ATTEMPTS
from cipipe.tools.aws.s3 import Bucket
from support import certificates
from support.scripted import Answer, ScriptedServer, found

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
SLOW = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certificates.certificate(tmp_path)


def test_a_connection_is_kept(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [found()]
    for _ in range(5):
        stored = bucket.get("a/b c+d.py")
        assert stored is not None
        assert (stored.body, stored.etag, stored.version) == (b"hello", '"e"', None)
    assert server.opened == 1
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/box/a/b%20c%2Bd.py")
    assert headers["x-amz-expected-bucket-owner"] == "123456789012"
    assert f"/{REGION}/s3/aws4_request" in headers["authorization"]


def test_a_connection_that_the_server_closed_is_replaced(
    server: ScriptedServer, bucket: Bucket
) -> None:
    server.answers = [found(), None, found()]
    assert bucket.get("a")
    assert bucket.get("a")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "passing",
    [
        None,
        (503, SLOW, {}),
        (500, "", {}),
        (429, "", {}),
        (400, SLOW.replace("SlowDown", "RequestTimeout"), {}),
    ],
)
def test_transient_failures_are_retried(
    server: ScriptedServer, bucket: Bucket, passing: Answer | None
) -> None:
    server.answers = [passing, passing, passing, found()]
    assert bucket.get("a")
    assert len(server.asked) == 4


def test_a_failure_that_lasts_is_an_error(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [(503, SLOW, {})]
    with pytest.raises(AwsError, match="s3:GetObject: SlowDown: Please reduce") as caught:
        bucket.get("a")
    assert caught.value.status == 503
    assert len(server.asked) == ATTEMPTS
    server.answers = [None]
    with pytest.raises(AwsUnreachable, match=r"127\.0\.0\.1"):
        bucket.get("a")


@pytest.mark.parametrize("tls", [False, True])
def test_a_refusal_that_comes_before_the_body_was_sent_is_read(
    tls: bool, certificate: Path
) -> None:
    """The object is larger than all buffers, and the server closes instead of reading on."""
    body = b"x" * 30_000_000
    answer = f"HTTP/1.1 403 x\r\nContent-Length: {len(DENIED)}\r\n\r\n{DENIED}".encode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            taken, _ = listening.accept()
            with context.wrap_socket(taken, server_side=True) if tls else taken as client:
                client.recv(1000)
                client.sendall(answer)
                # By then the answer has arrived, and the sender waits for somebody to read on.
                time.sleep(0.2)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}"
        endpoint = Endpoint(REGION, url, ca_bundle=str(certificate))
        with pytest.raises(AwsError) as caught:
            Aws(endpoint, KEYS).bucket("box").put("a", body)
        thread.join(10)
    assert caught.value.code == "AccessDenied"


def test_each_attempt_is_signed_again(server: ScriptedServer) -> None:
    server.answers = [(503, SLOW, {}), (503, SLOW, {}), found()]
    used: list[str] = []

    def renewed() -> Credentials:
        used.append(f"AKID{len(used)}")
        return Credentials(used[-1], "secret")

    assert Aws(Endpoint(REGION, server.url), renewed).bucket("box").get("a")
    sent = [headers["authorization"] for _, _, headers, _ in server.asked]
    assert [header.partition("Credential=")[2].partition("/")[0] for header in sent] == used
    assert len(used) == 3


def test_tls_connections_that_the_server_closed_are_replaced(
    certificate: Path, server: ScriptedServer
) -> None:
    """As after a long stage: all connections that were open side by side are stale then."""
    secured = ScriptedServer(certificate)
    secured.answers = [found()]
    bucket = Aws(Endpoint(REGION, secured.url, ca_bundle=str(certificate)), KEYS).bucket("box")
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(bucket.get, "abcdef"))
    opened = secured.opened
    secured.hang_up()
    assert bucket.put("a", b"y" * 600)
    assert secured.opened == opened + 1
    assert len(secured.asked) == 7
    secured.close()


def test_an_idle_connection_is_not_used_again(
    server: ScriptedServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [found()]
    bucket.get("a")
    monkeypatch.setattr(pools, "IDLE", 0.0)
    bucket.get("a")
    assert server.opened == 2


def test_a_key_with_a_line_end_is_not_quoted(server: ScriptedServer) -> None:
    keys = Credentials("AKIDEXAMPLE", "secret", "token-that-is-secret\n")
    with pytest.raises(AwsUnreachable, match="characters that no request can contain") as caught:
        Aws(Endpoint(REGION, server.url), keys).bucket("box").get("a")
    assert "token-that" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert server.asked == []


def test_headers_that_proxies_change_are_not_signed(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [found()]
    bucket.get("a")
    headers = server.asked[0][2]
    assert headers["user-agent"] == "cipipe"
    assert "user-agent" not in headers["authorization"]


def test_a_missing_key_that_xml_cannot_quote(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [(404, "<Error><Code>NoSuchKey</Code><Key>a\x01b</Key></Error>", {})]
    assert bucket.get("a\x01b") is None


@pytest.mark.parametrize(("status", "body"), [(403, DENIED), (301, ""), (302, ""), (307, "")])
def test_refusals_are_not_retried_and_redirects_not_followed(
    server: ScriptedServer, bucket: Bucket, status: int, body: str
) -> None:
    server.answers = [(status, body, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(AwsError) as caught:
        bucket.get("a")
    assert caught.value.status == status
    assert caught.value.code == ("AccessDenied" if body else str(status))
    assert len(server.asked) == 1


def test_a_truncated_answer_is_not_an_answer(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [
        (200, "half", {"ETag": '"e"', "Content-Length": "400", "Connection": "close"}),
        found("whole"),
    ]
    stored = bucket.get("a")
    assert stored is not None
    assert stored.body == b"whole"


def test_loopback_is_reached_directly(
    server: ScriptedServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers = [found()]
    assert bucket.get("a")


def test_many_threads_share_few_connections(server: ScriptedServer, bucket: Bucket) -> None:
    server.answers = [found()]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: bucket.get(str(number)), range(100)))
    assert server.opened <= 4


def test_a_persons_own_credentials_are_found_by_boto3(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = "
        "secret\naws_session_token = token\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    server.answers = [found()]
    assert Aws(Endpoint(REGION, server.url), None).bucket("box").get("a")
    assert "Credential=AKIDMINE/" in server.asked[0][2]["authorization"]
    assert server.asked[0][2]["x-amz-security-token"] == "token"
    monkeypatch.setenv("AWS_PROFILE", "yours")
    with pytest.raises(AwsUnreachable, match="yours"):
        Aws(Endpoint(REGION, server.url), None).bucket("box").get("a")
