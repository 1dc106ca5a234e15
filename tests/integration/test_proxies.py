"""Proxies that the environment names."""

import base64
import sys
from pathlib import Path

import pytest

from cipipe.errors import UsageError
from cipipe.tools.aws import transport
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsUnreachable
from cipipe.tools.aws.messages import AwsRequest, Unanswered
from support import certificates
from support.proxies import HttpTunnel, Socks5, tunnels
from support.scripted import ScriptedServer, found, serving

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
LOGIN = f"Basic {base64.b64encode(b'me:p@ss').decode()}"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certificates.certificate(tmp_path, "s3.invalid")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_proxies_of_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{server.port}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{server.port}")
    monkeypatch.setenv("NO_PROXY", "direct.invalid")
    server.answers = [found()]
    assert Aws(Endpoint(REGION, "http://s3.invalid"), KEYS).bucket("box").get("a")
    assert server.asked[0][:2] == ("GET", "http://s3.invalid/box/a")
    assert server.asked[0][2]["proxy-authorization"] == LOGIN
    assert server.asked[0][2]["host"] == "s3.invalid"
    server.answers = [(502, "", {"Connection": "close"})]
    with pytest.raises(AwsUnreachable, match="502"):
        Aws(Endpoint(REGION), KEYS).bucket("box").get("a")
    assert server.asked[1][:2] == ("CONNECT", "box.s3.eu-central-1.amazonaws.com:443")
    assert server.asked[1][2]["proxy-authorization"] == LOGIN
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
def test_an_unusable_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
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


def test_a_tunnel_through_a_tls_proxy(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(certificate) as s3, tunnels(HttpTunnel, s3.port, certificate) as proxy:
        s3.answers = [found()]
        monkeypatch.setenv("HTTPS_PROXY", f"https://me:p%40ss@127.0.0.1:{proxy.port}")
        endpoint = Endpoint(REGION, "https://s3.invalid", ca_bundle=str(certificate))
        bucket = Aws(endpoint, KEYS).bucket("box")
        assert bucket.get("a")
        assert bucket.put("b", b"y" * 100_000)
    assert proxy.seen == ["CONNECT s3.invalid:443", f"proxy-authorization: {LOGIN}"]
    assert [request[:2] for request in s3.asked] == [("GET", "/box/a"), ("PUT", "/box/b")]
    assert len(s3.asked[1][3]) == 100_000
    assert all("proxy-authorization" not in headers for _, _, headers, _ in s3.asked)


def test_a_tls_proxy_forwards_plain_requests(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(certificate) as proxy:
        proxy.answers = [found()]
        monkeypatch.setenv("HTTP_PROXY", f"https://me:p%40ss@127.0.0.1:{proxy.port}")
        endpoint = Endpoint(REGION, "http://s3.invalid", ca_bundle=str(certificate))
        assert Aws(endpoint, KEYS).bucket("box").get("a")
    method, target, headers, _ = proxy.asked[0]
    assert (method, target) == ("GET", "http://s3.invalid/box/a")
    assert headers["proxy-authorization"] == LOGIN


def test_a_tls_proxy_that_is_not_trusted(
    server: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tunnels(HttpTunnel, server.port, certificate) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        with pytest.raises(AwsUnreachable, match=r"the proxy: CERTIFICATE_VERIFY_FAILED"):
            Aws(Endpoint(REGION), KEYS).bucket("box").get("a")
    assert proxy.seen == []


def test_a_socks_proxy(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed")
    with serving(certificate) as s3, tunnels(Socks5, s3.port) as proxy:
        s3.answers = [found()]
        monkeypatch.setenv("HTTPS_PROXY", f"socks5h://me:p%40ss@127.0.0.1:{proxy.port}")
        endpoint = Endpoint(REGION, "https://s3.invalid", ca_bundle=str(certificate))
        assert Aws(endpoint, KEYS).bucket("box").get("a")
    assert proxy.seen == ["me:p@ss", "s3.invalid:443"]
    assert s3.asked[0][:2] == ("GET", "/box/a")


def test_a_socks_proxy_without_pysocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:hunter2@proxy:1080")
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(UsageError, match="socks5 needs PySocks") as caught:
        Aws(Endpoint(REGION), KEYS).bucket("box").get("a")
    assert caught.value.where == "HTTPS_PROXY"
    assert "pip install PySocks" in str(caught.value.hint)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
