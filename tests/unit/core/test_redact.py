"""What is registered appears in no form: plain, encoded, or cut in two by the chunks that it comes in."""

import base64
import itertools
import json
import re
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.redact import MASK, Redactor

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY=KEY"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"


def redactor(*secrets: str) -> Redactor:
    made = Redactor()
    for secret in secrets:
        made.register(secret)
    return made


def test_plain() -> None:
    assert redactor(SECRET).text(f"a {SECRET} b {SECRET}") == f"a {MASK} b {MASK}"


def test_the_longer_of_two_secrets_goes_first() -> None:
    assert redactor("abcdef", "abcdefghij").text("abcdefghij abcdef") == f"{MASK} {MASK}"


@pytest.mark.parametrize("secret", ["", "a", "abc"])
def test_very_short_values_are_ignored(secret: str) -> None:
    assert redactor(secret).text("abc is the alphabet") == "abc is the alphabet"


def lower(quoted: str) -> str:
    return re.sub("%..", lambda code: code[0].lower(), quoted)


@pytest.mark.parametrize("safe", ["", "/"])
@pytest.mark.parametrize("case", [str, lower])
def test_url_encoded(safe: str, case: Callable[[str], str]) -> None:
    quoted = case(urllib.parse.quote(SECRET, safe=safe))
    assert redactor(SECRET).text(f"https://x/?key={quoted}&a=b") == f"https://x/?key={MASK}&a=b"
    assert redactor(SECRET).text("https://x/?" + urllib.parse.urlencode({"key": SECRET})) == f"https://x/?key={MASK}"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "@", "@h", "@host"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_inside_base64_at_every_offset(before: str, after: str, encode: object) -> None:
    secret = SECRET + "\u00ff\u00fe\u00fb"
    encoded = encode(f"{before}{secret}{after}".encode()).decode()  # type: ignore[operator]
    shown = redactor(secret).text(encoded)
    assert MASK in shown
    left = base64.b64decode(shown.split(MASK)[1] + "==", altchars="-_") if shown.split(MASK)[1] else b""
    assert len(left.removesuffix(after.encode())) <= 5, "too much of the secret's end is left"
    assert SECRET[2:8] not in base64.b64decode(shown.split(MASK)[0] + "====").decode(errors="replace")


def test_each_line_of_a_secret_of_several_lines() -> None:
    found = redactor(PEM)
    assert found.text("  MIIEvQIBADANBgkq\r") == f"  {MASK}\r"
    assert "BADANBg" not in found.text(json.dumps({"key": PEM}))
    assert found.text(PEM).replace(MASK, "").strip() == ""


def test_the_indentation_of_a_secret_is_no_secret() -> None:
    found = redactor('{\n    "password": "hunter22"\n    \n}\n')
    assert found.text("    indented") == "    indented"
    assert "hunter22" not in found.text('  "password": "hunter22"')


@given(st.lists(st.integers(0, 80), max_size=6), st.sampled_from([SECRET, PEM]))
def test_lines_are_whole_however_the_text_is_cut(cuts: list[int], secret: str) -> None:
    text = f"one\n\ntwo {secret} three\nfour"
    places = [0, *sorted(cuts), len(text)]
    chunks = [text[start:end] for start, end in itertools.pairwise(places)]
    found = redactor(secret)
    lines = list(found.lines(iter(chunks)))
    assert lines == [found.text(line) for line in text.split("\n")]
    assert lines[:2] == ["one", ""]
    for line in secret.strip().splitlines():
        assert line not in "\n".join(lines)


def test_a_secret_registered_later_counts_from_then_on() -> None:
    found = redactor()
    lines = found.lines(iter(["before hunter22\n", "after hunter22\n"]))
    assert next(lines) == "before hunter22"
    found.register("hunter22")
    assert list(lines) == [f"after {MASK}"]


def test_no_line_is_made_up() -> None:
    assert list(redactor().lines(iter([]))) == []
    assert list(redactor().lines(iter(["a\n"]))) == ["a"]
    assert list(redactor().lines(iter(["a", "b"]))) == ["ab"]
