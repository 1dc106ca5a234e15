"""Requests of our own to S3: where they go, when they are made again, what they take for an answer."""

import base64
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cipipe.tools import connections
from cipipe.tools import signed as module
from cipipe.tools.aws import Aws, AwsError, AwsUnreachable, Credentials, Endpoint
from cipipe.tools.s3 import Bucket

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
PAGE = (
    '<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{more}</IsTruncated>'
    "<NextKeyMarker>a%2Bb</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"
    "<Version><Key>{key}</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><Owner><ID>x</ID></Owner></Version>"
    "<DeleteMarker><Key>{key}</Key><VersionId>v0</VersionId><IsLatest>false</IsLatest></DeleteMarker>"
    "</ListVersionsResult>"
)
SLOW = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"

Answer = tuple[int, str, dict[str, str]]


class Server:
    """Gives the answers that it was told, one after the other, and then the last one again; None hangs up."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.opened = 0
        parent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                parent.opened += 1

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                parent.asked.append((self.command, self.path, headers, body))
                found = parent.answers.pop(0) if len(parent.answers) > 1 else parent.answers[0]
                if found is None:
                    self.close_connection = True
                    return
                status, text, more = found
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text.encode())), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_CONNECT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr("cipipe.tools.signed.time.sleep", lambda _: None)
    yield made
    made.close()


@pytest.fixture
def bucket(server: Server) -> Bucket:
    return Aws(Endpoint(REGION, server.url), KEYS, account="123456789012").bucket("box")


def found(body: str = "hello", **headers: str) -> Answer:
    return 200, body, {"ETag": '"e"', **headers}


def test_a_connection_is_kept(server: Server, bucket: Bucket) -> None:
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


def test_a_kept_connection_that_the_server_closed_is_no_failure(server: Server, bucket: Bucket) -> None:
    server.answers = [found(), None, found()]
    assert bucket.get("a")
    assert bucket.get("a")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "passing",
    [None, (503, SLOW, {}), (500, "", {}), (429, "", {}), (400, SLOW.replace("SlowDown", "RequestTimeout"), {})],
)
def test_what_may_pass_is_asked_again(server: Server, bucket: Bucket, passing: Answer | None) -> None:
    server.answers = [passing, passing, passing, found()]
    assert bucket.get("a")
    assert len(server.asked) == 4
    dates = {headers["x-amz-date"] for _, _, headers, _ in server.asked}
    assert dates, "each is signed anew"


def test_what_does_not_pass_is_an_error(server: Server, bucket: Bucket) -> None:
    server.answers = [(503, SLOW, {})]
    with pytest.raises(AwsError, match="s3:GetObject: SlowDown: Please reduce") as caught:
        bucket.get("a")
    assert caught.value.status == 503
    assert len(server.asked) == module.ATTEMPTS
    server.answers = [None]
    with pytest.raises(AwsUnreachable, match=r"127\.0\.0\.1"):
        bucket.get("a")


@pytest.mark.parametrize(("status", "body"), [(403, DENIED), (301, ""), (302, ""), (307, "")])
def test_a_refusal_is_asked_once_and_nobody_is_followed(server: Server, bucket: Bucket, status: int, body: str) -> None:
    server.answers = [(status, body, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(AwsError) as caught:
        bucket.get("a")
    assert caught.value.status == status
    assert caught.value.code == ("AccessDenied" if body else str(status))
    assert len(server.asked) == 1


def test_a_bucket_in_another_region_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Elsewhere:
        def __init__(self, origin: str, _: str | None) -> None:
            self.origin = origin

        def send(self, _: str, target: str, headers: dict[str, str], __: bytes) -> connections.Answer:
            asked.append((self.origin + target, headers["authorization"].split("/")[2]))
            if "us-west-2" in self.origin:
                return connections.Answer(200, {"etag": '"e"'}, b"there")
            return connections.Answer(301, {"x-amz-bucket-region": "us-west-2"}, b"")

    monkeypatch.setattr(module, "Connections", Elsewhere)
    bucket = Aws(Endpoint(REGION), KEYS).bucket("box")
    for _ in range(2):
        stored = bucket.get("a")
        assert stored is not None
        assert stored.body == b"there"
    assert asked == [
        ("https://box.s3.eu-central-1.amazonaws.com/a", "eu-central-1"),
        ("https://box.s3.us-west-2.amazonaws.com/a", "us-west-2"),
        ("https://box.s3.us-west-2.amazonaws.com/a", "us-west-2"),
    ]


@pytest.mark.parametrize(
    ("endpoint", "name", "url"),
    [
        (Endpoint(REGION), "box", "https://box.s3.eu-central-1.amazonaws.com"),
        (Endpoint(REGION), "my.box", "https://s3.eu-central-1.amazonaws.com/my.box"),
        (Endpoint("cn-north-1"), "box", "https://box.s3.cn-north-1.amazonaws.com.cn"),
        (Endpoint("us-gov-west-1", fips=True), "box", "https://box.s3-fips.us-gov-west-1.amazonaws.com"),
        (Endpoint(REGION, dualstack=True), "box", "https://box.s3.dualstack.eu-central-1.amazonaws.com"),
        (Endpoint(REGION, "http://127.0.0.1:1/"), "box", "http://127.0.0.1:1/box"),
        (Endpoint(REGION, s3_url="https://minio.example.com"), "box", "https://minio.example.com/box"),
    ],
)
def test_where_a_bucket_is(endpoint: Endpoint, name: str, url: str) -> None:
    assert Aws(endpoint, KEYS).bucket(name)._url() == url
    if endpoint.url is None and endpoint.s3_url is None:
        config = Config(use_fips_endpoint=endpoint.fips, use_dualstack_endpoint=endpoint.dualstack)
        client = boto3.Session("x", "x", region_name=endpoint.region).client("s3", config=config)
        client.meta.events.register("before-send.s3", _stop)
        with pytest.raises(StopIteration) as caught:
            client.get_object(Bucket=name, Key="k")
        assert caught.value.value == f"{url}/k", "as AWS's own tools have it"


def _stop(request: Any, **_: Any) -> None:
    raise StopIteration(request.url)


def test_versions_of_several_pages(server: Server, bucket: Bucket) -> None:
    server.answers = [found(PAGE.format(more="true", key="a%2Bb")), found(PAGE.format(more="false", key="c%C3%BC%20d"))]
    versions = list(bucket.versions("a+"))
    assert [(v.key, v.id, v.latest, v.deleted) for v in versions] == [
        ("a+b", "v1", True, False),
        ("a+b", "v0", False, True),
        ("cü d", "v1", True, False),
        ("cü d", "v0", False, True),
    ]
    assert server.asked[0][1] == "/box/?encoding-type=url&prefix=a%2B&versions="
    assert server.asked[1][1] == "/box/?encoding-type=url&key-marker=a%2Bb&prefix=a%2B&version-id-marker=v1&versions="


def test_a_listing_begun_ahead_is_given_once(server: Server, bucket: Bucket) -> None:
    server.answers = [found(PAGE.format(more="false", key="a"))]
    bucket.look_ahead("p/")
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 1
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 2, "what is known of a moment ago does not count twice"


def test_an_error_of_a_listing_begun_ahead_is_raised_where_it_is_wanted(server: Server, bucket: Bucket) -> None:
    server.answers = [(403, DENIED, {})]
    bucket.look_ahead("p/")
    with pytest.raises(AwsError, match="AccessDenied"):
        list(bucket.versions("p/"))


@pytest.mark.parametrize("body", ["", "<html>log in first", "{}"])
def test_what_is_no_answer_of_s3(server: Server, bucket: Bucket, body: str) -> None:
    server.answers = [(200, body, {})]
    with pytest.raises(AwsUnreachable, match="is not S3"):
        list(bucket.versions(""))


def test_an_answer_that_breaks_off_is_none(server: Server, bucket: Bucket) -> None:
    server.answers = [(200, "half", {"ETag": '"e"', "Content-Length": "400", "Connection": "close"}), found("whole")]
    stored = bucket.get("a")
    assert stored is not None
    assert stored.body == b"whole"


def test_proxies_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{server.port}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{server.port}")
    monkeypatch.setenv("NO_PROXY", "direct.invalid")
    secret = f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    server.answers = [found()]
    assert Aws(Endpoint(REGION, "http://s3.invalid"), KEYS).bucket("box").get("a")
    assert server.asked[0][:2] == ("GET", "http://s3.invalid/box/a")
    assert server.asked[0][2]["proxy-authorization"] == secret
    assert server.asked[0][2]["host"] == "s3.invalid"
    server.answers = [(502, "", {"Connection": "close"})]
    with pytest.raises(AwsUnreachable, match="502"):
        Aws(Endpoint(REGION), KEYS).bucket("box").get("a")
    assert server.asked[1][:2] == ("CONNECT", "box.s3.eu-central-1.amazonaws.com:443")
    assert server.asked[1][2]["proxy-authorization"] == secret
    count = len(server.asked)
    with pytest.raises(AwsUnreachable, match=r"direct\.invalid"):
        Aws(Endpoint(REGION, "http://direct.invalid"), KEYS).bucket("box").get("a")
    assert len(server.asked) == count


def test_loopback_is_reached_directly(server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers = [found()]
    assert bucket.get("a")


def test_many_threads_share_few_connections(server: Server, bucket: Bucket) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server.answers = [found()]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: bucket.get(str(number)), range(100)))
    assert server.opened <= 4


def test_a_persons_own_credentials_are_found_by_boto3(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = secret\naws_session_token = token\n")
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
