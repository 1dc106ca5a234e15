"""Requests of our own to S3: where they go, when they are made again, what they take for an answer."""

import base64
import contextlib
import http.server
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cipipe.errors import UsageError
from cipipe.interrupt import Interrupt
from cipipe.tools.aws import pools, transport
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.messages import AwsAnswer, AwsRequest, Unanswered
from cipipe.tools.aws.retries import ATTEMPTS
from cipipe.tools.aws.s3 import Bucket
from support import certificates
from support.shop import ACCOUNT, CONFIG, Cli, Shop, served

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
PAGE = (
    '<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{more}</IsTruncated>'
    "<EncodingType>url</EncodingType><NextKeyMarker>a%2Bb</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"
    "<Version><Key>{key}</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><Owner><ID>x</ID></Owner></Version>"
    "<DeleteMarker><Key>{key}</Key><VersionId>v0</VersionId><IsLatest>false</IsLatest></DeleteMarker>"
    "</ListVersionsResult>"
)
SLOW = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"

Answer = tuple[int, str, dict[str, str]]


class Server:
    """Gives the answers that it was told, one after the other, and then the last one again; None
    hangs up.
    """

    def __init__(self, pem: Path | None = None) -> None:
        self.answers: list[Answer | None] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.opened = 0
        self._open: list[socket.socket] = []
        parent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                parent.opened += 1
                parent._open.append(self.connection)

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
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http{'s' if pem else ''}://127.0.0.1:{self.port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def hang_up(self) -> None:
        """Close every connection that is open, without a word."""
        for opened in self._open:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(Interrupt, "sleep", lambda *_: None)
    yield made
    made.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certificates.certificate(tmp_path)


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


def test_a_kept_connection_that_the_server_closed_is_no_failure(
    server: Server, bucket: Bucket
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
def test_what_may_pass_is_asked_again(
    server: Server, bucket: Bucket, passing: Answer | None
) -> None:
    server.answers = [passing, passing, passing, found()]
    assert bucket.get("a")
    assert len(server.asked) == 4


def test_what_does_not_pass_is_an_error(server: Server, bucket: Bucket) -> None:
    server.answers = [(503, SLOW, {})]
    with pytest.raises(AwsError, match="s3:GetObject: SlowDown: Please reduce") as caught:
        bucket.get("a")
    assert caught.value.status == 503
    assert len(server.asked) == ATTEMPTS
    server.answers = [None]
    with pytest.raises(AwsUnreachable, match=r"127\.0\.0\.1"):
        bucket.get("a")


def test_a_refusal_that_comes_before_all_was_sent_is_read() -> None:
    """Of an object that is larger than what lies on the way, by servers that close instead of
    reading on.
    """
    body, answer = (
        b"x" * 30_000_000,
        f"HTTP/1.1 403 x\r\nContent-Length: {len(DENIED)}\r\n\r\n{DENIED}".encode(),
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(1000)
                taken.sendall(answer)
                time.sleep(
                    0.2
                )  # by when the answer has arrived, and the sender waits for somebody to read on

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(AwsError) as caught:
            Aws(Endpoint(REGION, f"http://127.0.0.1:{port}"), KEYS).bucket("box").put("a", body)
        thread.join(10)
    assert caught.value.code == "AccessDenied"


def test_tls_connections_that_the_server_has_closed_are_no_failure(
    certificate: Path, server: Server
) -> None:
    """As after a stage that took longer than a server waits: all that were opened side by side are
    stale then.
    """
    secured = Server(certificate)
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


def test_connections_are_not_kept_for_long(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [found()]
    bucket.get("a")
    monkeypatch.setattr(pools, "IDLE", 0.0)
    bucket.get("a")
    assert server.opened == 2


def test_what_no_header_can_hold_is_told_without_it(server: Server) -> None:
    keys = Credentials("AKIDEXAMPLE", "secret", "token-that-is-secret\n")
    with pytest.raises(AwsUnreachable, match="characters that no request can contain") as caught:
        Aws(Endpoint(REGION, server.url), keys).bucket("box").get("a")
    assert "token-that" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert server.asked == []


def test_what_proxies_change_is_not_signed(server: Server, bucket: Bucket) -> None:
    server.answers = [found()]
    bucket.get("a")
    headers = server.asked[0][2]
    assert headers["user-agent"] == "cipipe"
    assert "user-agent" not in headers["authorization"]


def test_an_absent_key_that_xml_cannot_quote(server: Server, bucket: Bucket) -> None:
    server.answers = [(404, "<Error><Code>NoSuchKey</Code><Key>a\x01b</Key></Error>", {})]
    assert bucket.get("a\x01b") is None


@pytest.mark.parametrize(("status", "body"), [(403, DENIED), (301, ""), (302, ""), (307, "")])
def test_a_refusal_is_asked_once_and_nobody_is_followed(
    server: Server, bucket: Bucket, status: int, body: str
) -> None:
    server.answers = [(status, body, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(AwsError) as caught:
        bucket.get("a")
    assert caught.value.status == status
    assert caught.value.code == ("AccessDenied" if body else str(status))
    assert len(server.asked) == 1


def test_a_bucket_in_another_region_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Elsewhere:
        def __init__(self, _: str | None) -> None: ...

        def send(self, request: AwsRequest) -> AwsAnswer:
            scope = request.headers["authorization"].split("/")
            asked.append((request.origin + request.target, scope[2]))
            if "us-west-2" in request.origin:
                return AwsAnswer(200, {"etag": '"e"'}, b"there")
            return AwsAnswer(301, {"x-amz-bucket-region": "us-west-2"}, b"")

    monkeypatch.setattr(transport, "Transport", Elsewhere)
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


def test_all_threads_follow_a_bucket_that_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them has an answer before all have asked."""
    here = threading.Barrier(8)

    class Elsewhere:
        def __init__(self, _: str | None) -> None: ...

        def send(self, request: AwsRequest) -> AwsAnswer:
            if "us-west-2" in request.origin:
                return AwsAnswer(200, {"etag": '"e"'}, b"there")
            here.wait(10)
            error = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>"
            return AwsAnswer(400, {}, error)

    monkeypatch.setattr(transport, "Transport", Elsewhere)
    bucket = Aws(Endpoint(REGION), KEYS).bucket("box")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(bucket.get, "abcdefgh"))


FORMS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(
    ("region", "fips", "dualstack"),
    [
        *(
            (region, *form)
            for region in ("eu-central-1", "us-gov-west-1", "eusc-de-east-1")
            for form in FORMS
        ),
        *(
            ("cn-north-1", False, dualstack) for dualstack in (False, True)
        ),  # there is no FIPS 140 in China
    ],
)
@pytest.mark.parametrize("service", ["s3", "sts"])
def test_hosts_are_those_of_awss_own_tools(
    service: Any, region: str, fips: bool, dualstack: bool
) -> None:
    config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dualstack)
    theirs = (
        boto3.Session("x", "x", region_name=region).client(service, config=config).meta.endpoint_url
    )
    assert Endpoint(region, fips=fips, dualstack=dualstack).url_of(service) == theirs


@pytest.mark.parametrize(
    "region", ["us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1"]
)
def test_no_partition_is_asked_in_another_one(region: str) -> None:
    theirs = boto3.Session("x", "x", region_name=region).client("sts").meta.endpoint_url
    assert Endpoint(region).url_of("sts") == theirs


@pytest.mark.parametrize(
    ("endpoint", "name", "url"),
    [
        (Endpoint(REGION), "box", "https://box.s3.eu-central-1.amazonaws.com"),
        (Endpoint(REGION), "Old_Box", "https://s3.eu-central-1.amazonaws.com/Old_Box"),
        (Endpoint(REGION), "my.box", "https://s3.eu-central-1.amazonaws.com/my.box"),
        (Endpoint("cn-north-1"), "box", "https://box.s3.cn-north-1.amazonaws.com.cn"),
        (
            Endpoint("us-gov-west-1", fips=True),
            "box",
            "https://box.s3-fips.us-gov-west-1.amazonaws.com",
        ),
        (
            Endpoint(REGION, dualstack=True),
            "box",
            "https://box.s3.dualstack.eu-central-1.amazonaws.com",
        ),
        (Endpoint(REGION, "http://127.0.0.1:1/"), "box", "http://127.0.0.1:1/box"),
        (
            Endpoint(REGION, s3_url="https://minio.example.com"),
            "box",
            "https://minio.example.com/box",
        ),
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
    server.answers = [
        found(PAGE.format(more="true", key="a%2Bb")),
        found(PAGE.format(more="false", key="c%C3%BC+d")),
    ]
    versions = list(bucket.versions("a+"))
    assert [(v.key, v.id, v.latest, v.deleted) for v in versions] == [
        ("a+b", "v1", True, False),
        ("a+b", "v0", False, True),
        ("cü d", "v1", True, False),
        ("cü d", "v0", False, True),
    ]
    assert server.asked[0][1] == "/box/?encoding-type=url&prefix=a%2B&versions="
    assert (
        server.asked[1][1]
        == "/box/?encoding-type=url&key-marker=a%2Bb&prefix=a%2B&version-id-marker=v1&versions="
    )


def test_keys_of_several_pages(server: Server, bucket: Bucket) -> None:
    page = "<ListBucketResult>{}<EncodingType>url</EncodingType><Contents><Key>{}</Key></Contents></ListBucketResult>"
    more = (
        "<IsTruncated>true</IsTruncated><NextContinuationToken>on+and/on=</NextContinuationToken>"
    )
    server.answers = [
        found(page.format(more, "a")),
        found(page.format("<IsTruncated>false</IsTruncated>", "b+c")),
    ]
    assert bucket.keys("") == ["a", "b c"]
    assert (
        server.asked[1][1]
        == "/box/?continuation-token=on%2Band%2Fon%3D&encoding-type=url&list-type=2&prefix="
    )
    server.answers = [found(page.format("<IsTruncated>true</IsTruncated>", "a"))]
    with pytest.raises(AwsUnreachable, match="is not S3"):
        bucket.keys("")


def test_keys_are_as_they_are_where_the_server_does_not_encode_them(
    server: Server, bucket: Bucket
) -> None:
    page = PAGE.format(more="false", key="a+b%20").replace("<EncodingType>url</EncodingType>", "")
    server.answers = [found(page)]
    assert {version.key for version in bucket.versions("")} == {"a+b%20"}
    listed = "<ListBucketResult>{}<Contents><Key>a+b%20</Key></Contents></ListBucketResult>"
    server.answers = [found(listed.format(""))]
    assert bucket.keys("") == ["a+b%20"]
    server.answers = [found(listed.format("<EncodingType>url</EncodingType>"))]
    assert bucket.keys("") == ["a b "]


@pytest.mark.parametrize("marker", ["<NextKeyMarker/>", "<NextKeyMarker>a</NextKeyMarker>"])
def test_a_listing_that_goes_on_where_it_has_been_is_none(
    server: Server, bucket: Bucket, marker: str
) -> None:
    server.answers = [
        found(f"<ListVersionsResult><IsTruncated>true</IsTruncated>{marker}</ListVersionsResult>")
    ]
    with pytest.raises(AwsUnreachable, match="is not S3"):
        list(bucket.versions(""))
    assert len(server.asked) <= 2


def test_a_listing_begun_ahead_is_given_once(server: Server, bucket: Bucket) -> None:
    server.answers = [found(PAGE.format(more="false", key="a"))]
    bucket.look_ahead("p/")
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 1
    assert len(list(bucket.versions("p/"))) == 2
    assert len(server.asked) == 2, "what is known of a moment ago does not count twice"


def test_an_error_of_a_listing_begun_ahead_is_raised_where_it_is_wanted(
    server: Server, bucket: Bucket
) -> None:
    server.answers = [(403, DENIED, {})]
    bucket.look_ahead("p/")
    with pytest.raises(AwsError, match="AccessDenied"):
        list(bucket.versions("p/"))


@pytest.mark.parametrize("body", ["", "<html>log in first", "<html>log in</html>", "{}", SLOW])
def test_what_is_no_answer_of_s3(server: Server, bucket: Bucket, body: str) -> None:
    server.answers = [(200, body, {})]
    for ask in (
        lambda: list(bucket.versions("")),
        lambda: bucket.keys(""),
        lambda: bucket.get("a"),
    ):
        with pytest.raises(AwsUnreachable, match="is not S3"):
            ask()
    with pytest.raises(AwsUnreachable, match="is not S3"):
        bucket.put("a", b"")


def test_an_answer_that_breaks_off_is_none(server: Server, bucket: Bucket) -> None:
    server.answers = [
        (200, "half", {"ETag": '"e"', "Content-Length": "400", "Connection": "close"}),
        found("whole"),
    ]
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


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:hunter2#1@proxy:3128",
        "http://:3128",
        "http://proxy:0",
    ],
)
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UsageError, match="the proxy cannot be used") as caught:
        Aws(Endpoint(REGION), KEYS).bucket("box").get("a")
    assert caught.value.where == "HTTPS_PROXY"
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize(
    ("proxy", "url", "place"),
    [
        ("http://proxy.invalid", "https://s3.invalid", ("proxy.invalid", 80)),
        ("proxy.invalid:3128", "https://s3.invalid", ("proxy.invalid", 3128)),
        ("http://proxy.invalid", "https://direct.invalid:9000", ("direct.invalid", 9000)),
        ("", "https://[fd00::1]", ("fd00::1", 443)),
        ("", "http://[fd00::1]:9000", ("fd00::1", 9000)),
    ],
)
def test_where_a_connection_goes(
    monkeypatch: pytest.MonkeyPatch, proxy: str, url: str, place: tuple[str, int]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "direct.invalid:9000")
    gone: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> None:
        gone.append(address)
        raise OSError("no")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with pytest.raises(Unanswered):
        transport.Transport().send(AwsRequest(origin=url))
    assert gone == [place]


@pytest.mark.parametrize("url", ["http://me:hunter2@host:1", "https://hunter2@host"])
def test_a_password_in_an_endpoint_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL") as caught:
        Endpoint(REGION, url)
    assert "hunter2" not in str(caught.value)


def test_bootstrap_asks_where_the_environment_says_that_aws_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served() as url:
        shop = Shop(tmp_path / "shop", url, CONFIG.replace(ACCOUNT, "999999999999"))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        cipipe = Cli(shop, monkeypatch, capsys)
        assert cipipe("bootstrap", "--env", "dev") == 3
    assert (
        f"the credentials belong to account {ACCOUNT}, environment dev to 999999999999"
        in cipipe.err
    )


def test_loopback_is_reached_directly(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers = [found()]
    assert bucket.get("a")


def test_many_threads_share_few_connections(server: Server, bucket: Bucket) -> None:
    server.answers = [found()]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda number: bucket.get(str(number)), range(100)))
    assert server.opened <= 4


def test_a_persons_own_credentials_are_found_by_boto3(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = secret\naws_session_token = token\n"
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
