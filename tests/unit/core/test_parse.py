"""The line of a key in a TOML file, and the messages for wrong types."""

from typing import Any

import msgspec
import pytest

from cipipe.errors import Problem
from cipipe.parse import Located, collect, nearest

TEXT = """\
# a = 1
[one]
a = 1
  b = [
    ["x", "y"]
  ]
c = 2

[one.two]   # with a comment
"d" = { e = 1 }
three.f = 4

[[many]]
g = 1
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("one", "f:2"),
        ("one.a", "f:3"),
        ("one.b", "f:4"),
        ("one.b[0]", "f:4"),
        ("one.b[0][1]", "f:4"),
        ("one.c", "f:7"),
        ("one.missing", "f:2"),
        ("one.two", "f:9"),
        ("one.two.d", "f:10"),
        ("one.two.d.e", "f:10"),
        ("one.two.three.f", "f:11"),
        ("many.g", "f:14"),
        ("absent.x", "f"),
        ("", "f"),
    ],
)
def test_the_line_of_a_key(path: str, place: str) -> None:
    where = Located(TEXT, "f").place(Problem("id", "message", path)).where
    assert where == f"{place}: {path}".rstrip(": ")


def test_an_array_over_several_lines_does_not_look_like_a_table() -> None:
    text = '[stages.a]\nrun = [\n  ["x"]\n]\nwhne = "due"\n'
    assert (
        Located(text, "f").place(Problem("id", "message", "stages.a.whne")).where
        == "f:5: stages.a.whne"
    )


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    n: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    some: tuple[str, ...] = ()
    inner: Inner | None = None
    either: str | Inner = ""
    named: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"text": "x"}, {}),
        ({"text": 1}, {"text": "expected a string, got a number"}),
        ({"text": ["x"]}, {"text": "expected a string, got a list"}),
        ({"text": "x", "some": "y"}, {"some": "expected a list, got a string"}),
        (
            {"text": "x", "some": ["y", 1, 2]},
            {
                "some[1]": "expected a string, got a number",
                "some[2]": "expected a string, got a number",
            },
        ),
        ({"text": "x", "inner": {"n": "1"}}, {"inner.n": "expected a number, got a string"}),
        (
            {"text": "x", "inner": {"m": 1}},
            {"inner.m": "unknown key 'm'", "inner.n": "'n' is missing"},
        ),
        (
            {"text": "x", "either": {"n": True}},
            {"either.n": "expected a number, got true or false"},
        ),
        (
            {"text": "x", "named": {"a": {"n": 1}, "b": 2}},
            {"named.b": "expected a table, got a number"},
        ),
        ([], {"": "expected a table, got a list"}),
        ({}, {"text": "'text' is missing"}),
    ],
)
def test_what_is_said(value: Any, expected: dict[str, str]) -> None:
    assert {p.where: p.message for p in collect(value, Outer, "")} == expected


def test_the_nearest_name() -> None:
    assert nearest("imag", ["iac", "image"]) == "Perhaps you meant 'image'."
    assert nearest("zzz", ["iac"], otherwise="else") == "else"
    assert nearest("zzz", []) is None
