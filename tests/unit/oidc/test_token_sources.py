"""Where tokens come from. The request is a stand-in for tools/http.py; the sandbox's issuer answers
it elsewhere.
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


class Door:
    """Answers requests with what it is given, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.sent, self.waits = list(answers), [], []  # type: ignore[var-annotated]

    def get_json(self, url: str, *, headers: Mapping[str, str]) -> Any:
        self.sent.append((url, headers["Authorization"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(
    monkeypatch: pytest.MonkeyPatch, *answers: Any
) -> tuple[Door, str | None, IdentityError | None]:
    door = Door(*answers)
    monkeypatch.setattr(http, "get_json", door.get_json)
    try:
        return door, fetch(REQUEST, {}, door.waits.append), None
    except IdentityError as error:
        return door, None, error


def failed(status: int | None) -> HttpError:
    return HttpError("GET", REQUEST.url, "no", status)


def test_a_variable() -> None:
    assert fetch(VariableToken("NAME"), {"NAME": "token"}) == "token"
    assert fetch(VariableToken("NAME"), {"NAME": ""}) is None
    assert fetch(NoToken("hint"), {"NAME": "token"}) is None


def test_a_file_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
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
    door, token, _ = run(monkeypatch, {"value": "token"})
    assert (token, door.sent) == ("token", [(REQUEST.url, "bearer the-bearer")])


@pytest.mark.parametrize("status", [None, 429, 500, 503])
def test_what_may_pass_is_asked_again(monkeypatch: pytest.MonkeyPatch, status: int | None) -> None:
    door, token, _ = run(monkeypatch, failed(status), failed(status), {"value": "token"})
    assert (token, door.waits) == ("token", [1, 2])


@pytest.mark.parametrize("answers", [[failed(401)], [{}], [[]], [failed(None)] * 3])
def test_a_request_that_gives_no_token(monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> None:
    door, _, error = run(monkeypatch, *answers)
    assert error is not None
    assert error.id == "oidc-request-failed"
    assert len(door.sent) == len(answers)
    assert "the-bearer" not in f"{error.message} {error.hint} {REQUEST!r}"
