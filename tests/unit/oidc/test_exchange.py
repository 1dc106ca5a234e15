import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cipipe.errors import IdentityError
from cipipe.oidc.exchange import ATTEMPTS, ExchangeOptions, exchange
from cipipe.oidc.session import SessionRequest
from cipipe.redact import MASK, Redactor
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError, AwsUnreachable
from cipipe.tools.aws.sts import Assumed, RoleSession

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLE = "arn:aws:iam::111111111111:role/path/deploy"
ARN = "arn:aws:sts::111111111111:assumed-role/deploy/session"
GIVEN = Assumed(
    credentials=Credentials("ASIAX", "the-secret-key", "the-session-token", NOW), arn=ARN
)
POLICY = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/gitlab.com"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"gitlab.com:sub": "other"}},
    },
}


def token(header: dict[str, Any] | None = None, **claims: Any) -> str:
    moment = NOW.timestamp()
    usual = {
        "iss": "https://gitlab.com",
        "sub": "subject",
        "aud": "a",
        "exp": moment + 300,
        "iat": moment - 5,
    }
    payload = {**usual, **claims}
    parts = (header or {"alg": "RS256"}, payload)
    encoded = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    ]
    return ".".join([*encoded, "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"])


# A token's text is secret: these errors have no `where`.
OF_A_TOKEN = {
    "oidc-token-malformed",
    "oidc-token-unsigned",
    "oidc-token-expired",
    "oidc-audience-mismatch",
}


class Sts:
    """Replaces the call in tools/aws/sts.py: raises its failures in order, then succeeds."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failures: list[Exception] = []
        self.waits: list[float] = []
        self.given = GIVEN

    def __call__(self, endpoint: Endpoint, session: RoleSession, *, token: str) -> Assumed:
        self.calls.append({**msgspec.structs.asdict(session), "token": token})
        if self.failures:
            raise self.failures.pop(0)
        return self.given


@pytest.fixture
def sts() -> Sts:
    return Sts()


SESSION = {"role_arn", "account_id", "name", "duration", "policy", "policy_arns"}


def run(sts: Sts, text: str | None = None, **changes: Any) -> Credentials:
    usual = {"role_arn": ROLE, "account_id": "111111111111", "name": "session"}
    session = SessionRequest(
        **{**usual, **{key: changes.pop(key) for key in SESSION & changes.keys()}}
    )
    arguments: dict[str, Any] = {
        "endpoint": Endpoint("eu-central-1"),
        "audience": "a",
        "redactor": Redactor(),
        "now": lambda: NOW,
        "sleep": sts.waits.append,
        "assume": sts,
        **changes,
    }
    return exchange(token() if text is None else text, session, ExchangeOptions(**arguments))


def refused(code: str, text: str = "", status: int = 400) -> AwsError:
    return AwsError("sts:AssumeRoleWithWebIdentity", code, text, status)


def test_returns_credentials_and_registers_every_secret(sts: Sts) -> None:
    redactor, text = Redactor(), token()
    assert run(sts, text, redactor=redactor) is GIVEN.credentials
    assert redactor.text(f"{text} the-secret-key the-session-token") == f"{MASK} {MASK} {MASK}"
    assert redactor.text(text.rpartition(".")[2]) == MASK


@pytest.mark.parametrize(
    ("text", "changes", "id"),
    [
        ("", {}, "oidc-no-token"),
        ("x.y", {}, "oidc-token-malformed"),
        (token({"alg": "none"}), {}, "oidc-token-unsigned"),
        (token(exp=1), {}, "oidc-token-expired"),
        (token(aud="b"), {}, "oidc-audience-mismatch"),
        (None, {"role_arn": ""}, "oidc-role-missing"),
        (None, {"role_arn": "deploy"}, "oidc-role-malformed"),
        (None, {"role_arn": ROLE + "\n"}, "oidc-role-malformed"),
        (
            None,
            {"role_arn": "arn:aws:iam::222222222222:role/deploy"},
            "oidc-role-of-another-account",
        ),
        (None, {"name": "x"}, "oidc-session-name"),
        (None, {"name": "x y"}, "oidc-session-name"),
        (None, {"name": "é" * 3}, "oidc-session-name"),
        (None, {"name": "x" * 65}, "oidc-session-name"),
        (None, {"duration": 899}, "oidc-duration"),
        (None, {"duration": 43201}, "oidc-duration"),
        (None, {"endpoint": Endpoint("")}, "oidc-region"),
        (None, {"endpoint": Endpoint("evil.example.com/?")}, "oidc-region"),
        (None, {"endpoint": Endpoint("cn-north-1")}, "oidc-role-of-another-partition"),
        (
            None,
            {"role_arn": "arn:aws-us-gov:iam::111111111111:role/x"},
            "oidc-role-of-another-partition",
        ),
        (None, {"policy": "x" * 2049}, "oidc-session-policy"),
        (
            None,
            {"policy_arns": ("arn:aws:iam::aws:policy/ReadOnlyAccess",) * 11},
            "oidc-session-policy",
        ),
        (None, {"policy_arns": ("ReadOnlyAccess",)}, "oidc-session-policy"),
    ],
)
def test_does_not_call_aws_if_the_answer_is_known(
    sts: Sts, text: str | None, changes: dict[str, Any], id: str
) -> None:
    with pytest.raises(IdentityError) as caught:
        run(sts, text, **changes)
    assert caught.value.id == id
    assert caught.value.exit_status == 3
    assert caught.value.hint
    assert caught.value.where or id in OF_A_TOKEN
    assert sts.calls == []


@pytest.mark.parametrize(
    "error",
    [
        refused("Throttling"),
        refused("IDPCommunicationError"),
        refused("InternalFailure", status=500),
        refused(
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider,  please",
        ),
        AwsUnreachable("no route"),
    ],
)
def test_transient_errors_are_retried(sts: Sts, error: Exception) -> None:
    sts.failures = [error, error]
    run(sts)
    assert len(sts.calls) == 3
    assert sts.waits == [0.5, 1.0]


def test_gives_up_after_the_last_attempt(sts: Sts) -> None:
    sts.failures = [AwsUnreachable("no route")] * 9
    with pytest.raises(IdentityError) as caught:
        run(sts)
    assert caught.value.id == "oidc-sts-unreachable"
    assert len(sts.calls) == ATTEMPTS


@pytest.mark.parametrize(
    ("error", "text", "id"),
    [
        (refused("AccessDenied", "Not authorized", 403), None, "oidc-access-denied"),
        (refused("ExpiredTokenException", "Token expired"), None, "oidc-token-expired"),
        (
            refused("InvalidIdentityToken", "No OpenIDConnect provider found"),
            None,
            "oidc-no-provider-for-issuer",
        ),
        (
            refused("InvalidIdentityToken", "Incorrect token audience"),
            None,
            "oidc-audience-mismatch",
        ),
        (refused("InvalidIdentityToken", "Token signature invalid"), None, "oidc-signature"),
        (
            refused("InvalidIdentityToken", "The ID Token provided is not a valid JWT."),
            None,
            "oidc-token-malformed",
        ),
        (
            refused("InvalidIdentityToken", "is not a valid JWT."),
            token({"alg": "none"}),
            "oidc-token-unsigned",
        ),
        (refused("InvalidIdentityToken", "is not a valid JWT."), "garbage", "oidc-token-malformed"),
        (refused("IDPRejectedClaim"), None, "oidc-token-rejected"),
        (refused("RegionDisabledException"), None, "oidc-region-disabled"),
        (
            refused("ValidationError", "The requested DurationSeconds exceeds"),
            None,
            "oidc-duration",
        ),
        (refused("ValidationError", "Request ARN is invalid"), None, "oidc-request-invalid"),
        (refused("SomethingNew", "?"), None, "oidc-exchange-failed"),
    ],
)
def test_distinguishes_refusals_and_does_not_retry_them(
    sts: Sts, error: AwsError, text: str | None, id: str
) -> None:
    sts.failures = [error]
    with pytest.raises(IdentityError) as caught:
        run(sts, text, precheck=False)
    assert caught.value.id == id
    assert f"AWS says {error.code}: {error.text}" in caught.value.message
    assert caught.value.hint
    assert len(sts.calls) == 1
    assert sts.waits == []


def test_a_denial_is_explained_where_the_policy_can_be_read(sts: Sts) -> None:
    sts.failures = [
        refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
    ]
    with pytest.raises(IdentityError) as caught:
        run(sts, read_policy=lambda: POLICY)
    assert "oidc-subject-mismatch" in caught.value.message
    assert "expected   other\n  actual     subject\n" in caught.value.message


def test_a_denial_that_the_policy_does_not_explain_says_so(sts: Sts) -> None:
    sts.failures = [refused("AccessDenied", "Not authorized", 403)]
    with pytest.raises(IdentityError, match="would let this token in"):
        run(sts, token(sub="other"), read_policy=lambda: POLICY)


@pytest.mark.parametrize("answer", [lambda: None, lambda: {"Statement": 1}])
def test_a_denial_without_a_policy_is_reported(sts: Sts, answer: Callable[[], Any]) -> None:
    sts.failures = [refused("AccessDenied", "Not authorized", 403)]
    with pytest.raises(IdentityError) as caught:
        run(sts, read_policy=answer)
    assert caught.value.id == "oidc-access-denied"


def test_an_unreadable_policy_does_not_hide_the_denial(sts: Sts) -> None:
    def forbidden() -> Any:
        raise AwsError("iam:GetRole", "AccessDenied", "no", 403)

    sts.failures = [refused("AccessDenied", "Not authorized", 403)]
    with pytest.raises(IdentityError) as caught:
        run(sts, read_policy=forbidden)
    assert caught.value.id == "oidc-access-denied"


def test_keys_that_could_not_be_fetched_are_retried(sts: Sts) -> None:
    text = "Couldn't retrieve verification key from your identity provider,  please reference …"
    sts.failures = [refused("InvalidIdentityToken", text)] * 2
    assert run(sts) is GIVEN.credentials
    assert len(sts.calls) == 3


def test_a_session_policy_is_passed_on(sts: Sts) -> None:
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111111111111:policy/team/own")
    run(sts, policy="{}", policy_arns=arns)
    assert (sts.calls[0]["policy"], sts.calls[0]["policy_arns"]) == ("{}", arns)


@pytest.mark.parametrize("arn", ["", "arn:aws:sts::222222222222:assumed-role/deploy/session"])
def test_credentials_of_another_account_are_refused(sts: Sts, arn: str) -> None:
    sts.given = Assumed(credentials=GIVEN.credentials, arn=arn)
    redactor = Redactor()
    with pytest.raises(IdentityError) as caught:
        run(sts, redactor=redactor)
    assert caught.value.id == "identity-wrong-account"
    assert redactor.text("the-secret-key") == MASK
