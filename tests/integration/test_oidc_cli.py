"""`cipipe oidc token`, `explain` and `trust-policy`, from the command line to the answer. Nothing
is signed or asked.
"""

import base64
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from cipipe import cli
from support.deployment import CONFIG, Deployment

ACCOUNT = "arn:aws:iam::111111111111:oidc-provider"
LAB = f"{ACCOUNT}/gitlab.com"
HUB = f"{ACCOUNT}/token.actions.githubusercontent.com"
GITHUB = "https://token.actions.githubusercontent.com"
FOREIGN = ("AWS_", "CI", "GITLAB_", "GITHUB_", "ACTIONS_", "CIPIPE_", "NO_COLOR")
SIGNATURE = "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


class Run:
    """`cipipe` in this process; the environment is the test's."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.status = 0
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> "Run":
        self._capsys.readouterr()
        self.status = cli.main(["oidc", *arguments])
        self.out, self.err = self._capsys.readouterr()
        return self

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def ids(self) -> list[str]:
        return [finding["id"] for finding in self.document["findings"]]


@pytest.fixture
def oidc(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """In an empty folder, with no variable of AWS or of a pipeline."""
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Run(capsys)


def gitlab(ref: str = "main", **changes: Any) -> dict[str, Any]:
    project = changes.get("project_path", "acme/dbt")
    return {
        "iss": "https://gitlab.com",
        "aud": "https://gitlab.com",
        "sub": f"project_path:{project}:ref_type:{changes.get('ref_type', 'branch')}:ref:{ref}",
        "project_path": "acme/dbt",
        "project_id": "20",
        "namespace_id": "72",
        "ref_protected": "true",
        "pipeline_source": "push",
        **changes,
    }


def github(
    subject: str = "ref:refs/heads/main", repository: str = "acme/dbt", **changes: Any
) -> dict[str, Any]:
    return {
        "iss": GITHUB,
        "aud": "sts.amazonaws.com",
        "sub": f"repo:{repository}:{subject}",
        "repository": repository,
        "repository_id": "456",
        "repository_owner_id": "123",
        **changes,
    }


def jwt(claims: dict[str, Any], **header: Any) -> str:
    now = int(time.time())
    parts = (
        {"alg": "RS256", **header},
        {"exp": now + 300, "nbf": now - 5, "iat": now - 5, **claims},
    )
    coded = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    ]
    return ".".join([*coded, SIGNATURE])


def written(name: str, content: Any) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return name


def policy(
    subject: str = "project_path:acme/dbt:ref_type:branch:ref:main", provider: str = LAB
) -> dict[str, Any]:
    issuer = provider.partition("oidc-provider/")[2]
    return {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{issuer}:sub": subject}},
        },
    }


# --- explain -------------------------------------------------------------------------------------------------------------------


def test_an_allowed_token(oidc: Run) -> None:
    done = oidc(
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", gitlab()),
        "--format",
        "json",
    )
    assert (done.status, done.err) == (0, "")
    assert done.document["schema"] == 1
    assert done.document["verdict"] == "allowed"
    assert set(done.document) == {"schema", "verdict", "findings"}
    unprotected, finding = done.document["findings"]
    assert (unprotected["id"], unprotected["severity"]) == (
        "oidc-merge-request-indistinct",
        "warning",
    )
    assert set(finding) == {
        "id", "severity", "statement", "operator", "key", "expected", "actual", "message", "fix",
    }  # fmt: skip
    assert (finding["id"], finding["severity"]) == ("oidc-mutable-name", "warning")


def test_a_denied_token(oidc: Run) -> None:
    done = oidc(
        "explain", "--policy", written("p", policy()), "--claims", written("c", gitlab("side"))
    )
    assert (done.status, done.err) == (3, "")
    assert done.out.splitlines()[:8] == [
        "denied: this token may not assume the role",
        "",
        "oidc-subject-mismatch (statement 0): the token is for the branch side, which the role does not trust",
        "  condition  StringEquals on gitlab.com:sub",
        "  expected   project_path:acme/dbt:ref_type:branch:ref:main",
        "  actual     project_path:acme/dbt:ref_type:branch:ref:side",
        "  " + " " * 53 + "^ the first difference, at character 43",
        '  fix        "StringEquals": {"gitlab.com:sub": "project_path:acme/dbt:ref_type:branch:ref:side"}',
    ]


def test_a_verdict_that_is_not_known_is_warned_of(oidc: Run) -> None:
    document = policy()
    document["Statement"]["Condition"]["IpAddress"] = {"aws:SourceIp": "10.0.0.0/8"}
    done = oidc(
        "explain",
        "--policy",
        written("p", document),
        "--claims",
        written("c", gitlab()),
        "--format",
        "json",
    )
    assert done.status == 0
    assert done.document["verdict"] == "unknown"
    assert "cannot be known" in done.err


def test_a_policy_from_standard_input(oidc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(policy()).encode())))
    assert oidc("explain", "--policy", "-", "--claims", written("c", gitlab())).status == 0


@pytest.mark.parametrize(
    ("token", "id"),
    [
        (jwt(gitlab(), alg="none"), "oidc-token-unsigned"),
        (jwt(gitlab(exp=1700000000)), "oidc-token-expired"),
        (jwt(gitlab(nbf=9000000000, exp=9000000300)), "oidc-token-not-yet-valid"),
        (jwt(gitlab(exp=None)), "oidc-token-malformed"),
        (jwt(gitlab(iat=None)), "oidc-token-malformed"),
        (jwt(gitlab(sub=None)), "oidc-token-malformed"),
        (jwt(gitlab(sub="")), "oidc-token-malformed"),
        (jwt(gitlab(iss=["https://gitlab.com"])), "oidc-token-malformed"),
        (jwt(gitlab(iss="http://gitlab.com")), "oidc-token-malformed"),
        (jwt(gitlab(), alg="HS256"), "oidc-token-malformed"),
        ("ey.nonsense", "oidc-token-malformed"),
        ("", "oidc-no-token"),
    ],
)
def test_a_token_that_sts_refuses(
    oidc: Run, monkeypatch: pytest.MonkeyPatch, token: str, id: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", token)
    done = oidc(
        "explain", "--policy", written("p", policy()), "--token-env", "MY_TOKEN", "--format", "json"
    )
    assert done.status == 3
    assert (done.document["verdict"], done.ids[0]) == ("denied", id)
    assert done.document["findings"][0]["fix"]


def test_a_job_of_a_fork_is_told_apart_from_one_without_a_token(
    oidc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GITLAB_CI": "true",
        "CI_MERGE_REQUEST_IID": "1",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "mallory/dbt",
        "CI_MERGE_REQUEST_PROJECT_PATH": "acme/dbt",
    }.items():
        monkeypatch.setenv(name, value)
    done = oidc(
        "explain", "--policy", written("p", policy()), "--token-env", "NONE", "--format", "json"
    )
    assert (done.status, done.ids) == (3, ["oidc-fork-cannot-mint"])
    assert "oidc-fork-cannot-mint" in oidc("token").err


EXPIRED = 1700000000  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize("source", ["--claims", "--token-file"])
@pytest.mark.parametrize(
    ("at", "id"),
    [
        ((), "oidc-token-expired"),
        (("--at", "2023-11-14T22:16:00Z"), "oidc-token-expired"),
        (("--at", "2023-11-15T00:00:00+01:00"), "oidc-token-expired"),
        (("--at", "2023-11-14T22:05:00Z"), None),
        (("--at", "2023-11-14T23:05:00+01:00"), None),
        (("--at", "1699999900"), None),
        (("--at", "2023-11-14T20:00"), "oidc-token-not-yet-valid"),
    ],
)
def test_a_token_is_judged_as_of_a_moment(
    oidc: Run, source: str, at: tuple[str, ...], id: str | None
) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 3600, iat=EXPIRED - 3600)
    given = written("c", claims if source == "--claims" else jwt(claims))
    done = oidc(
        "explain", "--policy", written("p", policy()), source, given, *at, "--format", "json"
    )
    assert done.document["verdict"] == ("denied" if id else "allowed")
    assert done.status == (3 if id else 0)
    assert [
        finding["id"] for finding in done.document["findings"] if finding["severity"] == "error"
    ] == [id][: bool(id)]


def test_the_fix_of_an_expired_token_is_a_moment_when_it_held(oidc: Run) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 300, iat=EXPIRED - 300)
    arguments = (
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", claims),
        "--format",
        "json",
    )
    fix = oidc(*arguments).document["findings"][0]["fix"]
    assert oidc(*arguments, *fix.split()[-2:]).document["verdict"] == "allowed"


def test_and_of_one_that_does_not_hold_yet(oidc: Run) -> None:
    claims = gitlab(exp=EXPIRED, nbf=EXPIRED - 300, iat=EXPIRED - 300)
    arguments = (
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", claims),
        "--format",
        "json",
    )
    fix = oidc(*arguments, "--at", str(EXPIRED - 9000)).document["findings"][0]["fix"]
    assert oidc(*arguments, *fix.split()[-2:]).document["verdict"] == "allowed"


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01", "99999999999999999999"])
def test_a_moment_has_to_be_one(oidc: Run, at: str) -> None:
    done = oidc(
        "explain",
        "--policy",
        written("p", policy()),
        "--claims",
        written("c", gitlab()),
        "--at",
        at,
    )
    assert done.status == 2
    assert "--at" in done.err


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["--claims", "c"], "usage"),
        (["--policy", "p"], "usage"),
        (["--policy", "p", "--role", "r", "--claims", "c"], "usage"),
        (["--policy", "p", "--claims", "c", "--token-file", "c"], "usage"),
        (["--policy", "-", "--claims", "-"], "usage"),
        (["--policy", "nowhere", "--claims", "c"], "usage"),
        (["--policy", "p", "--claims", "c", "--provider-arn", "x"], "usage"),
        (["--policy", "p", "--claims", "c", "--role-arn", "arn:aws:iam::1:role/x"], "usage"),
        (["--policy", "broken", "--claims", "c"], "oidc-policy-malformed"),
        (["--policy", "p", "--claims", "broken"], "oidc-claims-unreadable"),
        (["--policy", "p", "--claims", "list"], "oidc-claims-unreadable"),
        (["--policy", "p", "--claims", "none"], "oidc-claims-unreadable"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(oidc: Run, arguments: list[str], id: str) -> None:
    written("p", policy())
    written("c", gitlab())
    written("broken", '{"Statement": [{"Effect": "allow"}')
    written("list", [])
    written("none", {})
    done = oidc("explain", *arguments, "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (2, id)
    assert "Traceback" not in done.err


def test_a_malformed_policy_is_said_with_its_place(oidc: Run) -> None:
    document = policy()
    document["Statement"]["Condition"] = {"StringEquals": {"gitlab.com:sub": {}}}
    done = oidc(
        "explain", "--policy", written("p.json", document), "--claims", written("c", gitlab())
    )
    assert done.status == 2
    assert 'where: p.json: Statement[0].Condition.StringEquals["gitlab.com:sub"]' in done.err


def test_control_characters_of_claims_are_shown_and_not_obeyed(oidc: Run) -> None:
    claims = written("c", gitlab("x\x1b[2J\n::add-mask::main"))
    done = oidc("explain", "--policy", written("p", policy()), "--claims", claims)
    assert "\x1b" not in done.out
    assert "\n::add-mask::" not in done.out


# --- the live role ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with mock_aws():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key-of-a-test")
        monkeypatch.setenv("MOTO_ACCOUNT_ID", "123456789012")
        yield boto3.client("iam", region_name="us-east-1")


def test_reads_a_live_role(oidc: Run, iam: Any) -> None:
    provider = LAB.replace("111111111111", "123456789012")
    document = json.dumps(
        {**policy(provider=provider), "Statement": [policy(provider=provider)["Statement"]]}
    )
    arn = iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    claims = written("c", gitlab())
    done = oidc("explain", "--role", "deploy", "--claims", claims, "--format", "json")
    assert (done.status, done.ids[0]) == (3, "oidc-no-provider-for-issuer")
    made = iam.create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=["x"], ThumbprintList=["a" * 40]
    )
    done = oidc("explain", "--role", arn, "--claims", claims, "--format", "json")
    assert (done.status, done.ids[0]) == (3, "oidc-audience-mismatch")
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=made["OpenIDConnectProviderArn"])
    ids = ["https://gitlab.com"]
    iam.create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=ids, ThumbprintList=["a" * 40]
    )
    done = oidc("explain", "--role", arn, "--claims", claims, "--format", "json")
    assert (done.status, done.document["verdict"]) == (0, "allowed")


@pytest.mark.parametrize("role", ["nobody", "arn:aws:iam::999999999999:role/deploy"])
def test_a_role_that_cannot_be_read(oidc: Run, iam: Any, role: str) -> None:
    document = json.dumps({**policy(), "Statement": [policy()["Statement"]]})
    iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=document)
    done = oidc("explain", "--role", role, "--claims", written("c", gitlab()), "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (3, "oidc-role-unreadable")


@pytest.mark.parametrize(
    "role", ["", "arn:aws:iam::1:role/", "arn:aws:iam::111111111111:role/", "de ploy"]
)
def test_what_names_no_role(oidc: Run, iam: Any, role: str) -> None:
    done = oidc("explain", "--role", role, "--claims", written("c", gitlab()), "--format", "json")
    assert (done.status, done.document["error"]["where"]) == (2, "--role")


@pytest.mark.parametrize(
    ("name", "value", "status"), [("AWS_ENDPOINT_URL", "foo", 2), ("AWS_CA_BUNDLE", "/nope", 2)]
)
def test_a_way_to_aws_that_is_none(
    oidc: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, status: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv(name, value)
    done = oidc(
        "explain", "--role", "deploy", "--claims", written("c", gitlab()), "--format", "json"
    )
    assert done.status == status
    assert value in done.document["error"]["message"]


# --- token -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["text", "json"])
def test_shows_claims_and_never_the_token(
    oidc: Run, monkeypatch: pytest.MonkeyPatch, format_: str
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
def test_a_token_in_place_of_its_name_is_not_in_the_error(oidc: Run, option: str) -> None:
    token = jwt(gitlab())
    done = oidc("token", option, token)
    assert done.status in {2, 3}
    assert SIGNATURE not in done.out + done.err


def test_half_of_a_surrogate_pair_is_refused(oidc: Run) -> None:
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


def test_the_token_document(oidc: Run) -> None:
    done = oidc("token", "--token-file", written("t", jwt(github(sub="repo:a@1/b@2:pull_request")) + "\n"), "--format", "json")  # fmt: skip
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


def test_a_token_that_expired_is_shown_with_a_warning(oidc: Run) -> None:
    done = oidc("token", "--token-file", written("t", jwt(gitlab(exp=1700000000))))
    assert done.status == 0
    assert " s ago" in done.out
    assert "AWS would refuse it" in done.err


def test_a_time_of_another_type_is_not_shown_as_one(oidc: Run) -> None:
    done = oidc("token", "--token-file", written("t", jwt(gitlab(exp=True))), "--format", "json")
    assert (done.status, done.document["expires_at"]) == (0, None)
    assert "AWS would refuse it" in done.err


@pytest.mark.parametrize("closed", [True, False])
def test_standard_input_that_is_closed(
    oidc: Run, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b""))
    stream.close()
    monkeypatch.setattr("sys.stdin", stream if closed else None)
    done = oidc("explain", "--policy", written("p", policy()), "--claims", "-", "--format", "json")
    assert (done.status, done.document["error"]["where"]) == (2, "--claims")
    assert "standard input" in done.document["error"]["message"]


def test_standard_input_is_called_so(oidc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--policy", "-", "--claims", "c"], ["--policy", "p", "--claims", "-"]):
        written("p", policy())
        written("c", gitlab())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[]")))
        error = oidc("explain", *arguments, "--format", "json").document["error"]
        assert "standard input" in error["message"] + error["where"]


@pytest.mark.parametrize("option", ["--role-arn", "--provider-arn"])
def test_what_is_no_arn_is_told_what_one_looks_like(oidc: Run, option: str) -> None:
    found = ("--policy", written("p", policy()), "--claims", written("c", gitlab()))
    error = oidc("explain", *found, option, "nope", "--format", "json").document["error"]
    assert error["where"] == option
    assert "arn:aws:iam::111111111111:" in error["hint"]


def test_a_laptop_has_no_token(oidc: Run) -> None:
    done = oidc("token", "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (3, "oidc-no-token")


# --- trust-policy ----------------------------------------------------------------------------------------------------------------

LAB_MAIN = ("--provider", "gitlab", "--project", "acme/dbt", "--ref", "main", "--provider-arn", LAB)
HUB_MAIN = ("--provider", "github", "--project", "acme/dbt", "--ref", "main", "--provider-arn", HUB)
HUB_LIVE = (
    "--provider",
    "github",
    "--project",
    "acme/dbt",
    "--environment",
    "Li:ve",
    "--provider-arn",
    HUB,
)
TAGS = ("--ref", "refs/tags/v*")
LAB_IDS = ("--pin-ids", "--project-id", "20", "--owner-id", "72")
HUB_IDS = ("--pin-ids", "--project-id", "456", "--owner-id", "123")
DEPLOYING = ("api", "parent_pipeline", "schedule", "trigger", "web")
PINNED = {"sub": "repo:acme@123/dbt@456:ref:refs/heads/main"}


@pytest.mark.parametrize(
    ("arguments", "allowed", "denied"),
    [
        (
            LAB_MAIN,
            [gitlab(), *(gitlab(pipeline_source=source) for source in DEPLOYING)],
            [
                gitlab("side"),
                gitlab("main2"),
                gitlab("main", ref_type="tag"),
                gitlab(project_path="mallory/dbt"),
                gitlab(project_path="acme/dbt2"),
                gitlab("side", pipeline_source="merge_request_event"),
                gitlab(ref_protected="false", pipeline_source="merge_request_event"),
                gitlab(ref_protected="false", pipeline_source="parent_pipeline"),
                gitlab(pipeline_source="merge_request_event"),
                gitlab(pipeline_source="external_pull_request_event"),
                gitlab(aud="https://example.com"),
                gitlab(iss="https://gitlab.example.com"),
                github(),
            ],
        ),
        (
            (*LAB_MAIN, *LAB_IDS),
            [gitlab()],
            [
                gitlab("side"),
                gitlab(project_id="21"),
                gitlab(namespace_id="73"),
                gitlab(ref_protected="false", pipeline_source="merge_request_event"),
            ],
        ),
        ((*LAB_MAIN, "--protected"), [gitlab(project_id="21")], [gitlab(ref_protected="false")]),
        (
            (*LAB_MAIN, *LAB_IDS, "--no-protected"),
            [gitlab(ref_protected="false")],
            [gitlab(project_id="21")],
        ),
        (
            (*LAB_MAIN, *TAGS),
            [gitlab(), gitlab("v1", ref_type="tag")],
            [gitlab("v1"), gitlab("w1", ref_type="tag")],
        ),
        (
            HUB_MAIN,
            [github()],
            [
                github("ref:refs/heads/side"),
                github("ref:refs/tags/main"),
                github("pull_request"),
                github("environment:live"),
                github(repository="mallory/dbt"),
                github(repository="acme/dbt2"),
                github(aud="https://github.com/acme"),
                github(**PINNED),
                gitlab(),
            ],
        ),
        (
            (*HUB_MAIN, *HUB_IDS),
            [github(), github(**PINNED)],
            [
                github(repository_id="457"),
                github(repository_owner_id="124"),
                github("pull_request"),
                github(sub="repo:acme@123/dbt@456:pull_request"),
                github(sub="repo:acme@123/dbt@457:ref:refs/heads/main", repository_id="457"),
            ],
        ),
        (
            HUB_LIVE,
            [github("environment:Li%3Ave")],
            [
                github("environment:live"),
                github(),
                github("environment:Li:ve"),
                github("pull_request"),
            ],
        ),
        (
            (*HUB_LIVE, "--environment-ref", "main", "--environment-ref", "refs/tags/v*", *HUB_IDS),
            [
                github("environment:Li%3Ave", ref="refs/heads/main"),
                github(sub="repo:acme@123/dbt@456:environment:Li%3Ave", ref="refs/tags/v2"),
            ],
            [
                github("environment:Li%3Ave", ref="refs/pull/7/merge", event_name="pull_request"),
                github("environment:Li%3Ave", ref="refs/tags/main"),
                github("environment:Li%3Ave"),
            ],
        ),
    ],
)
def test_a_policy_lets_in_what_it_is_for_and_nothing_else(
    oidc: Run,
    arguments: tuple[str, ...],
    allowed: list[dict[str, Any]],
    denied: list[dict[str, Any]],
) -> None:
    made = oidc("trust-policy", *arguments)
    written("p", made.out)
    ids, open_to_requests = "--pin-ids" in arguments, "--no-protected" in arguments
    by_names = "github" in arguments and not ids
    assert made.status == 0
    assert ("have ids in them" in made.err) is by_names
    assert ("oidc-merge-request-indistinct" in made.err) is open_to_requests
    assert bool(made.err) is (by_names or open_to_requests)
    for claims in allowed:
        done = oidc(
            "explain", "--policy", "p", "--claims", written("c", claims), "--format", "json"
        )
        assert (done.status, done.document["verdict"]) == (0, "allowed")
        indistinct = ["oidc-merge-request-indistinct"] if open_to_requests else []
        assert done.ids == indistinct + ([] if ids else ["oidc-mutable-name"])
    for claims in denied:
        done = oidc(
            "explain", "--policy", "p", "--claims", written("c", claims), "--format", "json"
        )
        assert (done.status, done.document["verdict"]) == (3, "denied"), claims


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        ((*LAB_MAIN[:-1], f"{ACCOUNT}/gitlab.example.com", *LAB_IDS), "oidc-pins-not-visible"),
        ((*LAB_MAIN[:-1], f"{ACCOUNT}/gitlab.example.com", "--protected"), "oidc-pins-not-visible"),
        ((*HUB_MAIN, "--protected"), "oidc-pins-not-visible"),
        ((*LAB_MAIN, "--pin-ids"), "usage"),
        ((*LAB_MAIN, "--pin-ids", "--project-id", "x", "--owner-id", "1"), "usage"),
        ((*LAB_MAIN, "--environment", "live"), "usage"),
        ((*HUB_MAIN, "--environment", "live"), "usage"),
        ((*HUB_MAIN, "--environment-ref", "main"), "usage"),
        ((*HUB_LIVE, "--environment-ref", "a b"), "usage"),
        (
            (*HUB_LIVE[:-1], f"{ACCOUNT}/github.example.com", "--environment-ref", "main"),
            "oidc-pins-not-visible",
        ),
        (LAB_MAIN[2:], "usage"),
        (LAB_MAIN[:-2], "usage"),
        ((*LAB_MAIN[:2], *LAB_MAIN[4:]), "usage"),
        ((*LAB_MAIN[:4], *LAB_MAIN[6:]), "usage"),
        ((*LAB_MAIN[:3], "acme/*", *LAB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme/dbt:x", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:3], "acme/db t", *HUB_MAIN[4:]), "usage"),
        ((*HUB_MAIN[:-1], LAB), "usage"),
        ((*LAB_MAIN[:-1], f"{HUB}/acme"), "usage"),
        ((*LAB_MAIN, "--ref", ""), "usage"),
        ((*LAB_MAIN, "--ref", "refs/pull/1/merge"), "usage"),
        ((*LAB_MAIN, "--ref", "refs/heads/"), "usage"),
        ((*LAB_MAIN, "--ref", "a b"), "usage"),
        ((*LAB_MAIN, "--audience", ""), "usage"),
        ((*LAB_MAIN, "--project-id", "5"), "usage"),
        ((*LAB_MAIN, "--owner-id", "5"), "usage"),
        ((*LAB_MAIN, "--pin-ids", "--project-id", "5", "--owner-id", "\u0663"), "usage"),
        ((*HUB_LIVE[:5], "", *HUB_LIVE[6:]), "usage"),
    ],
)
def test_a_policy_that_would_not_hold_is_not_written(
    oidc: Run, arguments: tuple[str, ...], id: str
) -> None:
    done = oidc("trust-policy", *arguments, "--format", "json")
    assert (done.status, done.document["error"]["id"]) == (2, id)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((*HUB_MAIN[:-1], LAB), "--provider-arn"),
        ((*LAB_MAIN, "--ref", "refs/pull/1/merge"), "--ref"),
        ((*LAB_MAIN, "--audience", " "), "--audience"),
        ((*LAB_MAIN, "--owner-id", "5"), "--owner-id"),
        ((*HUB_LIVE[:5], "", *HUB_LIVE[6:]), "--environment"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    oidc: Run, arguments: tuple[str, ...], where: str
) -> None:
    error = oidc("trust-policy", *arguments, "--format", "json").document["error"]
    assert error["where"] == where
    assert error["hint"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*LAB_MAIN[:5], "*", *LAB_MAIN[6:], "--no-protected"), "code that is not merged"),
        ((*LAB_MAIN[:5], "*", *LAB_MAIN[6:]), "every branch"),
        ((*HUB_MAIN[:5], "*", *HUB_MAIN[6:]), "every branch"),
        ((*HUB_MAIN[:5], "refs/tags/*", *HUB_MAIN[6:]), "every tag"),
        ((*HUB_LIVE[:5], "*", *HUB_LIVE[6:]), "every environment"),
    ],
)
def test_a_policy_that_lets_in_much_is_warned_of(
    oidc: Run, arguments: tuple[str, ...], words: str
) -> None:
    made = oidc("trust-policy", *arguments)
    assert made.status == 0
    assert words in made.err


def test_ids_come_from_the_job(oidc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GITLAB_CI": "true",
        "CI_PROJECT_ID": "20",
        "CI_PROJECT_NAMESPACE_ID": "72",
    }.items():
        monkeypatch.setenv(name, value)
    made = oidc("trust-policy", *LAB_MAIN, "--pin-ids", "--format", "json").document["policy"]
    assert made["Statement"][0]["Condition"]["StringEquals"]["gitlab.com:project_id"] == "20"


def test_the_rest_comes_from_the_configuration(
    oidc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    refs = 'role/deploy"\ndeploy_from = { branches = ["main"] }\n'
    text = CONFIG.replace('role/deploy"\n', refs, 1) + '[oidc]\ngitlab = { project = "acme/dbt" }\n'
    (deployment.repo.root / "cipipe.toml").write_text(text)
    monkeypatch.chdir(deployment.repo.root)
    done = oidc("trust-policy", "--env", "dev")
    assert done.status == 0, done.err
    subject = json.loads(done.out)["Statement"][0]["Condition"]["StringEquals"]["gitlab.com:sub"]
    assert subject == "project_path:acme/dbt:ref_type:branch:ref:main"


@pytest.mark.parametrize(
    ("more", "refs"),
    [
        ((), ["refs/heads/*", "refs/tags/*"]),
        (
            ("--environment-ref", "main", "--environment-ref", "refs/tags/v1"),
            ["refs/heads/main", "refs/tags/v1"],
        ),
    ],
)
def test_an_environments_jobs_are_of_the_workflows_that_are_set(
    oidc: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    refs: list[str],
) -> None:
    deployment = Deployment.make(tmp_path / "repo")
    file = ".github/workflows/deploy.yml"
    text = f'{CONFIG}[oidc]\ngithub = {{ project = "acme/dbt", workflows = ["{file}"] }}\n'
    (deployment.repo.root / "cipipe.toml").write_text(text)
    monkeypatch.chdir(deployment.repo.root)
    made = oidc("trust-policy", "--provider", "github", "--environment", "live", *more)
    assert made.status == 0, made.err
    (statement,) = json.loads(made.out)["Statement"]
    asked = {
        key: values for block in statement["Condition"].values() for key, values in block.items()
    }
    workflows = asked["token.actions.githubusercontent.com:job_workflow_ref"]
    assert workflows == [f"acme/dbt/{file}@{ref}" for ref in refs], (
        "and not at refs/pull/…, as a pull request's"
    )


def test_what_only_the_subject_can_tell_is_said_with_what_to_do(oidc: Run) -> None:
    own = "arn:aws:iam::111111111111:oidc-provider/git.example.com"
    made = oidc(
        "trust-policy",
        "--provider",
        "gitlab",
        "--project",
        "acme/dbt",
        "--ref",
        "main",
        "--provider-arn",
        own,
    )
    assert made.status == 0
    assert "oidc-merge-request-indistinct" in made.err
    assert "ref:main:environment_protected:true" in made.err
