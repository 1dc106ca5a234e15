"""AssumeRoleWithWebIdentity, the one request that is not signed: trust, answers, redirects."""

import datetime as dt
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import UsageError
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.sts import Assumed, RoleSession, assume_role_with_web_identity
from support import certificates

ANSWER = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::111111111111:assumed-role/x/y</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>2026-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""

Served = Callable[..., str]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certificates.certificate(tmp_path)


@pytest.fixture
def served() -> Iterator[Served]:
    """Starts servers that always give the same answer, and keep what they were sent."""
    servers = []

    def serve(
        body: str = ANSWER, status: int = 200, *, pem: Path | None = None, **headers: str
    ) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        servers.append(server)
        return f"{'https' if pem else 'http'}://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


seen: list[bytes] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def exchanged(endpoint: Endpoint) -> Assumed:
    return assume_role_with_web_identity(
        endpoint,
        RoleSession(role_arn="arn", session_name="name", duration=900, policy_arns=("one", "two")),
        token="the token & more",
    )


def test_an_answer(served: Served) -> None:
    given = exchanged(Endpoint("eu-central-1", served()))
    assert given.arn == "arn:aws:sts::111111111111:assumed-role/x/y"
    assert given.credentials.session_token == "token"
    assert given.credentials.expiration == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert b"WebIdentityToken=the+token+%26+more" in seen[0]
    assert b"PolicyArns.member.1.arn=one&PolicyArns.member.2.arn=two" in seen[0]
    assert b"Policy=" not in seen[0]


def test_the_certificate_must_be_trusted(served: Served, certificate: Path) -> None:
    url = served(pem=certificate)
    assert exchanged(Endpoint("eu-central-1", url, ca_bundle=str(certificate))).arn
    with pytest.raises(AwsUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        exchanged(Endpoint("eu-central-1", url))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "body", ["", "<html>log in first</html>", "{}", ANSWER.replace("Expiration", "Expires")]
)
def test_answers_that_are_not_from_sts(served: Served, body: str) -> None:
    with pytest.raises(AwsUnreachable, match="is not STS"):
        exchanged(Endpoint("eu-central-1", served(body)))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(served: Served, status: int) -> None:
    elsewhere = served()
    with pytest.raises(AwsError) as caught:
        exchanged(Endpoint("eu-central-1", served("", status, Location=elsewhere)))
    assert caught.value.code == f"HTTP {status}"
    assert len(seen) == 1


def test_an_error_has_awss_code(served: Served) -> None:
    body = (
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>No &amp; "
        "no</Message></Error></ErrorResponse>"
    )
    with pytest.raises(AwsError) as caught:
        exchanged(Endpoint("eu-central-1", served(body, 403)))
    assert (caught.value.code, caught.value.text, caught.value.status) == (
        "AccessDenied",
        "No & no",
        403,
    )


def test_a_server_error_without_xml(served: Served) -> None:
    with pytest.raises(AwsError) as caught:
        exchanged(Endpoint("eu-central-1", served("<html>", 503)))
    assert caught.value.status == 503


def test_loopback_is_reached_without_a_proxy(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert exchanged(Endpoint("eu-central-1", served())).arn


def test_the_endpoint_of_sts_comes_first() -> None:
    endpoint = Endpoint(
        "eu-central-1", "https://all.example.com", sts_url="https://sts.example.com"
    )
    assert endpoint.url_of("sts") == "https://sts.example.com"


@pytest.mark.parametrize("status", [200, 403, 503])
def test_a_truncated_answer_is_not_an_answer(served: Served, status: int) -> None:
    url = served("ff\r\n<Error", status, **{"Transfer-Encoding": "chunked"})
    with pytest.raises(AwsUnreachable, match="IncompleteRead"):
        exchanged(Endpoint("eu-central-1", url))


@pytest.mark.parametrize("encoding", ["nobodys", "big5", "utf-7", "utf-32"])
def test_an_answer_in_an_unknown_encoding(served: Served, encoding: str) -> None:
    with pytest.raises(AwsUnreachable, match="is not STS"):
        exchanged(
            Endpoint("eu-central-1", served(f'<?xml version="1.0" encoding="{encoding}"?>{ANSWER}'))
        )


def test_an_expiration_without_a_time_zone(served: Served) -> None:
    with pytest.raises(AwsUnreachable, match="is not STS"):
        exchanged(Endpoint("eu-central-1", served(ANSWER.replace("00:00Z", "00:00"))))


def test_unreadable_certificates(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (tmp_path / "nowhere.pem", empty, tmp_path):
        with pytest.raises(UsageError, match="cannot be read from") as caught:
            exchanged(Endpoint("eu-central-1", "https://127.0.0.1:9", ca_bundle=str(path)))
        assert caught.value.where == "AWS_CA_BUNDLE"


@pytest.mark.parametrize(
    "url", ["foo", "", "ftp://x", "https://", "http://x:port", "http://[", "127.0.0.1:1"]
)
def test_an_endpoint_must_be_a_url(url: str) -> None:
    names = {
        "url": "AWS_ENDPOINT_URL",
        "sts_url": "AWS_ENDPOINT_URL_STS",
        "s3_url": "AWS_ENDPOINT_URL_S3",
        "ecr_url": "AWS_ENDPOINT_URL_ECR",
    }
    for field, name in names.items():
        given: dict[str, Any] = {field: url}
        with pytest.raises(UsageError, match="is not a URL") as caught:
            Endpoint("eu-central-1", **given)
        assert caught.value.where == name
