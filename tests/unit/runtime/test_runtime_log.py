"""What the container prints."""

import io
import json
import urllib.parse

from hypothesis import given
from hypothesis import strategies as st

from dbt_runtime.log import MASK, Log

KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"


def test_secrets_are_masked() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.hide(["correct-horse", "correct-horse-battery", KEY, 'quo"ted\\secret'])
    log.line("login with correct-horse-battery or correct-horse")
    log.line("key hkiG9w0BAQEFAASC")
    log.event("error", message="no correct-horse", files=['quo"ted\\secret'])
    text = stream.getvalue()
    assert text.splitlines()[0] == f"login with {MASK} or {MASK}"
    assert text.splitlines()[1] == f"key {MASK}"
    event = json.loads(text.splitlines()[2])
    assert (event["message"], event["files"]) == (f"no {MASK}", [MASK])


@given(st.text())
def test_an_event_is_one_line(text: str) -> None:
    stream = io.StringIO()
    Log(stream).event("step", step=text)
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["step"] == text


@given(
    st.text(min_size=4).filter(lambda text: len(text.splitlines()) == 1 and text == text.strip())
)
def test_a_secret_is_masked_however_it_is_written(secret: str) -> None:
    log = Log(io.StringIO())
    log.hide([secret])
    for form in (secret, json.dumps(secret), urllib.parse.quote(secret, safe=""), repr(secret)):
        assert log.masked(form).strip("\"'") == MASK
