"""The sandbox's OIDC issuer: its discovery documents, and the claims of its tokens."""

import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from cipipe.oidc.claims import decode
from cipipe.sandbox import Sandbox
from cipipe.tools import http
from support.exchanges import HOSTS, mint, run, sandbox_with_two_accounts


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox_with_two_accounts(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.mark.parametrize("flavour", ["gitlab", "github"])
def test_discovery_is_served_by_host(sandbox: Sandbox, flavour: str) -> None:
    issuer = f"https://{HOSTS[flavour]}"
    headers = {"Host": HOSTS[flavour]}
    document = http.get_json(
        f"{sandbox.state.issuer_url}/.well-known/openid-configuration", headers=headers
    )
    assert document["issuer"] == issuer
    path = document["jwks_uri"].removeprefix(issuer)
    (key,) = http.get_json(sandbox.state.issuer_url + path, headers=headers)["keys"]
    assert (key["kty"], key["alg"]) == ("RSA", "RS256")
    assert key["kid"] == decode(mint(sandbox, flavour)).header["kid"]
    assert set(decode(mint(sandbox, flavour)).payload) <= set(document["claims_supported"])
    answer = http.request("GET", f"{sandbox.state.issuer_url}/.well-known/openid-configuration")
    assert answer.status == 404


def test_gitlab_claims(sandbox: Sandbox) -> None:
    claims = decode(
        mint(sandbox, ref="feature", event="merge-request", merge_request=7, environment="dev")
    ).payload
    assert claims["sub"] == "project_path:group/project:ref_type:branch:ref:feature"
    assert claims["pipeline_source"] == "merge_request_event"
    assert claims["ref_path"] == "refs/merge-requests/7/head"
    assert (claims["namespace_path"], claims["environment"], claims["ref_protected"]) == (
        "group",
        "dev",
        "false",
    )
    assert claims["nbf"] < claims["iat"] <= time.time() < claims["exp"]


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({}, "repo:group/project:ref:refs/heads/main"),
        ({"ref_type": "tag", "ref": "v1"}, "repo:group/project:ref:refs/tags/v1"),
        ({"event": "merge-request"}, "repo:group/project:pull_request"),
        ({"environment": "prod eu:1"}, "repo:group/project:environment:prod eu%3A1"),
    ],
)
def test_github_subjects(sandbox: Sandbox, changes: dict[str, Any], subject: str) -> None:
    claims = decode(mint(sandbox, "github", **changes)).payload
    assert claims["sub"] == subject
    assert claims["repository_owner"] == "group"
    assert claims["runner_environment"] == "github-hosted"


def test_githubs_token_endpoint(sandbox: Sandbox) -> None:
    url, bearer = sandbox.github_job(project="group/project", ref="main", ref_type="branch")
    headers = {"Authorization": f"bearer {bearer}"}
    answer = http.get_json(
        f"{url}&audience={urllib.parse.quote('sts.amazonaws.com', safe='')}", headers=headers
    )
    assert run(sandbox, answer["value"], "github")
    again = http.get_json(f"{url}&audience=sts.amazonaws.com", headers=headers)
    assert again["value"] != answer["value"]
    assert decode(http.get_json(url, headers=headers)["value"]).audiences == (
        "https://github.com/group",
    )
    assert http.request("GET", url, headers={"Authorization": "bearer x"}).status == 401


@pytest.mark.parametrize("asked", [{"flavour": "nobody"}, {"colour": "red"}, {"ttl": "long"}])
def test_the_issuer_refuses_what_it_cannot_mint(sandbox: Sandbox, asked: dict[str, Any]) -> None:
    with pytest.raises(http.HttpError) as caught:
        sandbox.mint(
            **{"project": "a/b", "ref": "main", "ref_type": "branch", "audience": "a", **asked}
        )
    assert caught.value.status == 400
