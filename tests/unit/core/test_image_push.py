"""A push whose login expires while layers are sent."""

from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.stages.image import publishing
from support.contexts import stage_context

EXPIRED = "denied: Your authorization token has expired. Reauthenticate and try again."


class Logins:
    """A registry that gives a new login each time, and a daemon that some of them satisfy."""

    def __init__(self, *refusals: str | None) -> None:
        self.repository = "r.test/app"
        self.username = "AWS"
        self.password = ""
        self.count = 0
        # What the daemon says to each push; None: it succeeds.
        self.refusals = list(refusals)
        self.used: list[str] = []

    def login(self, _: Any) -> "Logins":
        self.count += 1
        self.password = f"login-{self.count}"
        return self

    def push(self, _repository: str, _tag: str, *, username: str, password: str) -> str:
        assert username == "AWS"
        self.used.append(password)
        refusal = self.refusals.pop(0)
        if refusal is not None:
            raise StageError("docker-push-refused", f"docker push of r.test/app failed: {refusal}")
        return "sha256:1"


def pushed(monkeypatch: pytest.MonkeyPatch, logins: Logins) -> tuple[str, list[str]]:
    monkeypatch.setattr(publishing, "registry", logins.login)
    monkeypatch.setattr(publishing, "daemon", lambda _: logins)
    lines: list[str] = []
    context = stage_context(fingerprint="0" * 64, line=lines.append)
    return publishing.push(context, None).digest, lines


def test_a_login_that_expired_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins(EXPIRED, None)
    digest, lines = pushed(monkeypatch, logins)
    assert digest == "sha256:1"
    assert logins.used == ["login-1", "login-2"]
    assert lines == ["the login at the registry has expired: logging in again"]


@pytest.mark.parametrize(
    ("refusals", "pushes"),
    [
        # A second refusal is the registry's last word.
        ((EXPIRED, EXPIRED), 2),
        # Nothing that a new login would change.
        (("denied: not authorized to perform ecr:PutImage",), 1),
        (("tag invalid: the image tag already exists and is immutable",), 1),
    ],
)
def test_other_refusals_are_errors(
    monkeypatch: pytest.MonkeyPatch, refusals: tuple[str, ...], pushes: int
) -> None:
    logins = Logins(*refusals)
    with pytest.raises(StageError) as caught:
        pushed(monkeypatch, logins)
    assert caught.value.id == "docker-push-refused"
    assert len(logins.used) == pushes
