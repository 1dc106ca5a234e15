"""Ctrl-C while a request to AWS waits for its next attempt."""

import base64
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.interrupt import Interrupt
from cipipe.oidc import agent, exchange
from cipipe.oidc.session import SessionRequest
from cipipe.pipeline.identity.role_session import Exchange
from cipipe.redact import Redactor
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.retries import Backoff
from support.scripted import Answer, ScriptedServer, found, serving

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-central-1"
ROLE = "arn:aws:iam::111111111111:role/deploy"
BUSY: Answer = (503, "", {})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as made:
        made.answers = [BUSY]
        yield made


def interrupted_after(server: ScriptedServer, requests: int) -> Interrupt:
    """An interrupt that happens once the server was asked that often."""
    interrupt = Interrupt()

    def watch() -> None:
        while len(server.asked) < requests:
            time.sleep(0.01)
        interrupt.trigger()

    threading.Thread(target=watch, daemon=True).start()
    return interrupt


def test_an_interrupt_stops_the_wait_for_the_next_attempt(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "get_backoff_time", lambda _: 60)
    aws = Aws(Endpoint(REGION, server.url), KEYS, interrupt=interrupted_after(server, 1))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        aws.bucket("box").get("a")
    assert time.monotonic() - started < 30
    assert len(server.asked) == 1


def test_cleanup_after_an_interrupt_retries(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "get_backoff_time", lambda _: 0.01)
    interrupt = Interrupt()
    interrupt.trigger()
    server.answers = [BUSY, BUSY, found()]
    aws = Aws(Endpoint(REGION, server.url), KEYS, interrupt=interrupt)
    assert aws.bucket("box").put("a", b"failed")
    assert len(server.asked) == 3


def test_an_interrupt_stops_an_exchange(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 60)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        exchanging(server, interrupted_after(server, 1))()
    assert time.monotonic() - started < 30
    assert len(server.asked) == 1


def test_a_child_gets_credentials_for_its_cleanup(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terraform releases its lock after an interrupt, and asks for credentials to do so."""
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.5)
    server.answers = [BUSY, (200, ASSUMED, {})]
    interrupt = interrupted_after(server, 1)
    warnings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        with agent.serving(path, exchanging(server, interrupt), warnings.append):
            document = json.loads(agent.ask(path))
    assert document["AccessKeyId"] == "ASIAX"
    assert warnings == []
    assert interrupt.happened


def exchanging(server: ScriptedServer, interrupt: Interrupt) -> Exchange:
    return Exchange(
        mint=lambda: (a_token(), "aws"),
        session=SessionRequest(role_arn=ROLE, account_id="111111111111", name="session"),
        via=None,
        endpoint=Endpoint(REGION, server.url),
        redactor=Redactor(),
        interrupt=interrupt,
    )


def a_token() -> str:
    now = int(time.time())
    claims = {"iss": "https://gitlab.com", "aud": "aws", "sub": "x", "iat": now, "exp": now + 300}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"])


ASSUMED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult>
<AssumedRoleUser><Arn>arn:aws:sts::111111111111:assumed-role/deploy/session</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>token</SessionToken><Expiration>2036-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
