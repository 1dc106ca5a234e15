"""What is registered appears in no form: plain, encoded, or cut in two by the chunks that it comes
in.
"""

import base64
import itertools
import json
import re
import shlex
import threading
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
    assert (
        redactor(SECRET).text("https://x/?" + urllib.parse.urlencode({"key": SECRET}))
        == f"https://x/?key={MASK}"
    )


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "@", "@h", "@host"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize(
    "secret", [SECRET + "\u00ff\u00fe\u00fb", "hunt", "hunte", "hunter", "hunter2"]
)
def test_inside_base64_at_every_offset(
    before: str, after: str, encode: Callable[[bytes], bytes], secret: str
) -> None:
    encoded = encode(f"{before}{secret}{after}".encode()).decode()
    start, end = len(before.encode()) * 8, len((before + secret).encode()) * 8
    left, masked, right = redactor(secret).text(encoded).partition(MASK)
    assert masked
    assert start - 2 <= len(left) * 6 <= start + 4, (
        "of the first byte no more than four bits are left"
    )
    assert end - 4 <= (len(encoded) - len(right)) * 6, "nor of the last one"


def test_as_json() -> None:
    secret = 'pass"word\\with\u00e4'
    assert redactor(secret).text(json.dumps({"key": secret})) == f'{{"key": "{MASK}"}}'


HOSTILE = "p<a>&s 'w'\"ö\u2028+/\\é"
GO = json.dumps(HOSTILE, ensure_ascii=False)[1:-1].translate(
    {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
)


@pytest.mark.parametrize(
    "form",
    [
        GO,
        json.dumps(HOSTILE, ensure_ascii=False)[1:-1],
        urllib.parse.quote_plus(HOSTILE),
        lower(urllib.parse.quote_plus(HOSTILE)),
        HOSTILE.replace("'", "'\\''"),
    ],
)
def test_as_other_programs_write_it(form: str) -> None:
    assert redactor(HOSTILE).text(f"a={form};") == f"a={MASK};"


def test_as_go_writes_json() -> None:
    assert redactor("a<b>c&d").text(r'"a\u003cb\u003ec\u0026d"') == f'"{MASK}"'


def test_quoted_for_a_shell() -> None:
    assert redactor(HOSTILE).text(shlex.quote(HOSTILE)) == f"'{MASK}'"


def test_base64_inside_a_url() -> None:
    secret = "\u00ff\u00fe\u00fb\u00ff\u00fe\u00fb"
    encoded = base64.b64encode(secret.encode()).decode()
    assert "/" in encoded or "+" in encoded
    for quoted in (
        urllib.parse.quote(encoded, safe=""),
        lower(urllib.parse.quote(encoded, safe="")),
    ):
        assert redactor(secret).text(f"?key={quoted}") == f"?key={MASK}"


def test_registering_while_another_thread_masks() -> None:
    found = redactor(SECRET)
    failed: list[BaseException] = []

    def register() -> None:
        for number in range(400):
            found.register(f"another secret {number}")

    def mask() -> None:
        try:
            for _ in range(2000):
                assert SECRET not in found.text(f"a {SECRET} b")
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=work) for work in (register, mask, register, mask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert found.text("another secret 399") == MASK


def test_the_provider_is_told_once_and_before_anything_else() -> None:
    registered: list[str] = []
    found = Redactor(registered.append)
    for secret in ("", "  ", "abc", "     \n", SECRET, SECRET, PEM):
        found.register(secret)
    assert registered == [SECRET, PEM]


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


# --- sensitive values ---


@pytest.mark.parametrize(
    "value", [True, False, None, "", "false", "null", "error", "deploy", 5432, "5432", 0.5, "eu-1"]
)
def test_short_words_and_numbers_are_no_secrets(value: object) -> None:
    registered: list[str] = []
    Redactor(registered.append).register_value({"password_of_the_database": value, "list": [value]})
    assert registered == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("correct-horse", ["correct-horse"]),
        ("hunter2", ["hunter2"]),
        (1234567890, ["1234567890"]),
        ({"a": ["deep-inside", {"b": "s3cr3t!"}], "enabled": "true"}, ["deep-inside", "s3cr3t!"]),
        (
            "-----BEGIN KEY-----\nMIIEvQIBADAN\n  hkiG9w0BAQEF\n}\n",
            ["-----BEGIN KEY-----", "MIIEvQIBADAN", "hkiG9w0BAQEF"],
        ),
        (
            '{"user": "admin", "password": "hunter22"}',
            ['{"user": "admin", "password": "hunter22"}', "hunter22"],
        ),
        ("[" * 100_000, ["[" * 100_000]),
    ],
)
def test_leaves_of_some_length_are(value: object, expected: list[str]) -> None:
    registered: list[str] = []
    Redactor(registered.append).register_value(value)
    assert registered == expected


def test_the_keys_of_a_secret_map_and_its_flags_stay() -> None:
    found = Redactor()
    found.register_value(
        {"username": "admin", "password": "correct-horse", "enabled": "false", "port": 5432}
    )
    text = "password of username admin at port 5432: correct-horse, false"
    assert found.text(text) == f"password of username admin at port 5432: {MASK}, false"
