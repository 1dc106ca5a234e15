"""`cipipe oidc token`: the claims of a token are shown, the token never is."""

import io
import json

import pytest

from support.oidc_command import (
    GITHUB,
    HUB,
    SIGNATURE,
    OidcCommand,
    github,
    gitlab,
    jwt,
    policy,
    written,
)


@pytest.mark.parametrize("format_", ["text", "json"])
def test_shows_claims_and_never_the_token(
    oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    token = jwt(gitlab())
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("AWS_ID_TOKEN", token)
    done = oidc("token", "--format", format_)
    assert done.status == 0
    for part in token.split("."):
        assert part not in done.out + done.err
    assert "gitlab.com:ref_protected" in done.out
    assert "project_path" in done.out


@pytest.mark.parametrize("option", ["--token-env", "--token-file"])
def test_a_token_in_place_of_its_name_is_not_in_the_error(oidc: OidcCommand, option: str) -> None:
    token = jwt(gitlab())
    done = oidc("token", option, token)
    assert done.status in {2, 3}
    assert SIGNATURE not in done.out + done.err


def test_half_of_a_surrogate_pair_is_refused(oidc: OidcCommand) -> None:
    broken = written("t", jwt(gitlab("\ud800")))
    assert (
        oidc("token", "--token-file", broken, "--format", "json").document["error"]["id"]
        == "oidc-token-malformed"
    )
    claims = written("c", json.dumps(gitlab("\ud800")))
    assert oidc("explain", "--policy", written("p", policy()), "--claims", claims).status == 2
    assert (
        oidc(
            "explain",
            "--policy",
            written("p", policy("\ud800")),
            "--claims",
            written("c", gitlab()),
        ).status
        == 2
    )


def test_the_token_document(oidc: OidcCommand) -> None:
    done = oidc(
        "token",
        "--token-file",
        written("t", jwt(github(sub="repo:a@1/b@2:pull_request")) + "\n"),
        "--format",
        "json",
    )
    found = done.document
    assert (found["kind"], found["issuer"], found["audiences"]) == (
        "merge-request",
        GITHUB,
        ["sts.amazonaws.com"],
    )
    assert 290 < found["expires_in"] <= 300
    assert found["keys"]["token.actions.githubusercontent.com:repository_id"] == ["456"]
    assert {"repository", "repository_id"}.isdisjoint(found["hidden"])
    assert "iss" in found["hidden"]
    claims = written("c", done.out)
    assert (
        oidc(
            "explain", "--policy", written("p", policy(found["subject"], HUB)), "--claims", claims
        ).status
        == 0
    )


def test_a_token_that_expired_is_shown_with_a_warning(oidc: OidcCommand) -> None:
    done = oidc("token", "--token-file", written("t", jwt(gitlab(exp=1700000000))))
    assert done.status == 0
    assert " s ago" in done.out
    assert "AWS would refuse it" in done.err


def test_a_time_of_another_type_is_not_shown_as_one(oidc: OidcCommand) -> None:
    done = oidc("token", "--token-file", written("t", jwt(gitlab(exp=True))), "--format", "json")
    assert (done.status, done.document["expires_at"]) == (0, None)
    assert "AWS would refuse it" in done.err


@pytest.mark.parametrize("closed", [True, False])
def test_standard_input_that_is_closed(
    oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b""))
    stream.close()
    monkeypatch.setattr("sys.stdin", stream if closed else None)
    done = oidc("explain", "--policy", written("p", policy()), "--claims", "-", "--format", "json")
    assert (done.status, done.document["error"]["where"]) == (2, "--claims")
    assert "standard input" in done.document["error"]["message"]


def test_standard_input_is_called_so(oidc: OidcCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--policy", "-", "--claims", "c"], ["--policy", "p", "--claims", "-"]):
        written("p", policy())
        written("c", gitlab())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[]")))
        error = oidc("explain", *arguments, "--format", "json").document["error"]
        assert "standard input" in error["message"] + error["where"]


@pytest.mark.parametrize("option", ["--role-arn", "--provider-arn"])
def test_a_wrong_arn_gets_an_example_of_one(oidc: OidcCommand, option: str) -> None:
    found = ("--policy", written("p", policy()), "--claims", written("c", gitlab()))
    error = oidc("explain", *found, option, "nope", "--format", "json").document["error"]
    assert error["where"] == option
    assert "arn:aws:iam::111111111111:" in error["hint"]


def test_a_laptop_has_no_token(oidc: OidcCommand) -> None:
    done = oidc("token", "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (3, "oidc-no-token")
