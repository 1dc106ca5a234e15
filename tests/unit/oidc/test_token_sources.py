"""Where tokens come from. Requests are replaced here; integration tests send them to the sandbox's
issuer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cipipe.ci.base import FileToken, NoToken, RequestToken, VariableToken
from cipipe.errors import IdentityError
from cipipe.oidc.sources import fetch
from cipipe.tools import http
from cipipe.tools.http import HttpError

REQUEST = RequestToken("https://example.com/token?audience=a", "the-bearer")


class Responder:
    """Replaces `http.get_json`: returns or raises its answers in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, str]] = []
        self.waits: list[float] = []

    def get_json(self, url: str, *, headers: Mapping[str, str]) -> Any:
        self.sent.append((url, headers["Authorization"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(
    monkeypatch: pytest.MonkeyPatch, *answers: Any
) -> tuple[Responder, str | None, IdentityError | None]:
    responder = Responder(*answers)
    monkeypatch.setattr(http, "get_json", responder.get_json)
    try:
        return responder, fetch(REQUEST, {}, responder.waits.append), None
    except IdentityError as error:
        return responder, None, error


def failed(status: int | None) -> HttpError:
    return HttpError("GET", REQUEST.url, "no", status)


def test_a_variable() -> None:
    assert fetch(VariableToken("NAME"), {"NAME": "token"}) == "token"
    assert fetch(VariableToken("NAME"), {"NAME": ""}) is None
    assert fetch(NoToken("hint"), {"NAME": "token"}) is None


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text in ("one", "two"):
        file.write_text(f"{text}\n")
        assert fetch(FileToken(str(file)), {}) == text


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(IdentityError) as caught:
        fetch(FileToken(str(tmp_path / "token")), {})
    assert (caught.value.id, caught.value.where) == ("oidc-token-file", str(tmp_path / "token"))


def test_a_request_has_the_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    responder, token, _ = run(monkeypatch, {"value": "token"})
    assert (token, responder.sent) == ("token", [(REQUEST.url, "bearer the-bearer")])


@pytest.mark.parametrize("status", [None, 429, 500, 503])
def test_transient_failures_are_retried(
    monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    responder, token, _ = run(monkeypatch, failed(status), failed(status), {"value": "token"})
    assert (token, responder.waits) == ("token", [1, 2])


@pytest.mark.parametrize("answers", [[failed(401)], [{}], [[]], [failed(None)] * 3])
def test_a_request_that_returns_no_token(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any]
) -> None:
    responder, _, error = run(monkeypatch, *answers)
    assert error is not None
    assert error.id == "oidc-request-failed"
    assert len(responder.sent) == len(answers)
    assert "the-bearer" not in f"{error.message} {error.hint} {REQUEST!r}"
