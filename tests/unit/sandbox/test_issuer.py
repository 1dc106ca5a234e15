"""The sandbox's issuer serves each of the issuers that it plays, also one whose URL has a path."""

import urllib.parse

import pytest
from werkzeug.test import Client, TestResponse

from cipipe.sandbox import issuer, tokens
from cipipe.tools import http

WITH_PATH = "https://ci.example.com/workspaces/acme/oidc"


def get(url: str) -> TestResponse:
    parts = urllib.parse.urlsplit(url)
    return Client(issuer.Issuer()).get(parts.path, base_url=f"https://{parts.netloc}")


@pytest.fixture(autouse=True)
def _one_more_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens.ISSUERS, "other", WITH_PATH)
    monkeypatch.setitem(tokens._CLAIMS, "other", lambda request: {"sub": request.project})
    monkeypatch.setitem(issuer.KEYS_PATH, WITH_PATH, "/keys.json")


@pytest.mark.parametrize("url", [*tokens.ISSUERS.values(), WITH_PATH])
def test_discovery_and_keys_are_below_the_issuers_url(url: str) -> None:
    document = get(f"{url}/.well-known/openid-configuration").get_json()
    assert document["issuer"] == url
    assert document["jwks_uri"].startswith(f"{url}/")
    assert len(get(document["jwks_uri"]).get_json()["keys"]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://ci.example.com/.well-known/openid-configuration",
        "https://ci.example.com/workspaces/other/oidc/.well-known/openid-configuration",
        "https://gitlab.com/workspaces/acme/oidc/keys.json",
        "https://example.com/.well-known/openid-configuration",
    ],
)
def test_nothing_else_is_an_issuer(url: str) -> None:
    assert get(url).status_code == 404


def test_whoever_needs_the_keys_reaches_an_issuer_with_a_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests: list[tuple[str, str]] = []

    def get_json(url: str, *, headers: dict[str, str], timeout: float) -> None:
        requests.append((url, headers["Host"]))

    monkeypatch.setattr(http, "get_json", get_json)
    issuer.connect_to(f"{WITH_PATH}/keys.json", "http://127.0.0.1:1")
    assert requests == [("http://127.0.0.1:1/workspaces/acme/oidc/keys.json", "ci.example.com")]
