"""How a registry is connected to: one connection for many requests, redirects, proxies, TLS."""

from pathlib import Path

import pytest

from cipipe.tools import http
from cipipe.tools.registry.client import Registry
from cipipe.tools.registry.connections import Connections
from support import certificates
from support.scripted import Answer, ScriptedServer, serving

DIGEST = "sha256:" + "1" * 64
FOUND: Answer = (200, "", {"Docker-Content-Digest": DIGEST})


def registry(server: ScriptedServer, ca_bundle: str | None = None) -> Registry:
    return Registry(
        repository="registry.test/app",
        url=server.url,
        username="me",
        password="open-sesame",
        connections=Connections(ca_bundle),
    )


def test_a_connection_is_kept(server: ScriptedServer) -> None:
    server.answers = [FOUND]
    found = registry(server)
    assert [found.digest("1"), found.digest("2"), found.digest("3")] == [DIGEST] * 3
    assert server.opened == 1
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("HEAD", "/v2/app/manifests/1")
    assert headers["authorization"] == "Basic bWU6b3Blbi1zZXNhbWU="


def test_a_connection_that_the_registry_closed_is_replaced(server: ScriptedServer) -> None:
    server.answers = [FOUND, None, FOUND]
    found = registry(server)
    assert found.digest("1") == DIGEST
    assert found.digest("2") == DIGEST
    assert len(server.asked) == 3


def test_a_registry_that_does_not_answer(server: ScriptedServer) -> None:
    server.answers = [None]
    with pytest.raises(http.HttpError, match=r"HEAD http://127\.0\.0\.1:\d+/v2/app/") as caught:
        registry(server).digest("1")
    assert len(server.asked) == 1
    assert "sesame" not in f"{caught.value.message}{caught.value.hint}"


def test_a_token_is_asked_for_once(server: ScriptedServer) -> None:
    challenge = f'Bearer realm="{server.url}/token",service="s",scope="repository:app:pull"'
    server.answers = [
        (401, "", {"WWW-Authenticate": challenge}),
        (200, '{"token": "t"}', {}),
        FOUND,
    ]
    found = registry(server)
    assert found.digest("1") == DIGEST
    assert found.digest("2") == DIGEST
    assert [entry[1].partition("?")[0] for entry in server.asked] == [
        "/v2/app/manifests/1",
        "/token",
        "/v2/app/manifests/1",
        "/v2/app/manifests/2",
    ]
    assert server.asked[3][2]["authorization"] == "Bearer t"


def test_another_host_that_a_redirect_names_gets_no_login(server: ScriptedServer) -> None:
    with serving() as other:
        other.answers = [(200, "{}", {})]
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        server.answers = [(307, "", {"Location": f"{elsewhere}/there"})]
        found = registry(server).manifest("1")
    assert found is not None
    assert found.body == b"{}"
    assert other.asked[0][1] == "/there"
    assert "authorization" not in other.asked[0][2]


def test_a_bundle_of_certificates_is_trusted(tmp_path: Path) -> None:
    pem = certificates.certificate(tmp_path)
    with serving(pem) as server:
        server.answers = [FOUND]
        assert registry(server, str(pem)).digest("1") == DIGEST
        with pytest.raises(http.HttpError, match="CERTIFICATE_VERIFY_FAILED"):
            registry(server).digest("1")
