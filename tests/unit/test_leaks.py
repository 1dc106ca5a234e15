"""The scan that every output of these tests goes through finds what is put there."""

import hashlib

import pytest

from support.leaks import leaks

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzdWJqZWN0In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"token={JWT}&", "JWT"),
        (f'"{JWT.rpartition(".")[0]}"', "JWT"),
        (f"aws_secret_access_key = {KEY}", "secret key"),
        ("AWS_SESSION_TOKEN=FQoGZXIvYXdzE" + "A" * 60, "session token"),
        ("Authorization: bearer the-request-token", "secret"),
    ],
)
def test_a_secret_is_found(text: str, kind: str) -> None:
    hashes = [hashlib.sha256(KEY.encode()).hexdigest()]
    found = leaks(f"before\n{text} after", hashes=hashes, secrets=["the-request-token", ""])
    assert [entry.rpartition(" ")[0] for entry in found] == [kind]


def test_what_is_no_secret_is_left_alone() -> None:
    text = (
        f"::add-mask::{JWT}\n"
        f"commit {'0' * 40}\n"
        f"assumed ASIAIOSFODNN7EXAMPLE at sha256:{'ab' * 32}\n"
    )
    assert leaks(text, hashes=[hashlib.sha256(KEY.encode()).hexdigest()]) == []
