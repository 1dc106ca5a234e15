"""Markers whose output is only known after apply: what a merge request's plan leaves open."""

from typing import Any

import pytest

from cipipe.errors import ProblemsError
from cipipe.model import Output
from cipipe.redact import MASK
from cipipe.stages.dags.markers.patch import PLACEHOLDER, Patched, masked, patch
from support.patching import PATH

TWO = 'A = "x"  # cipipe: known\nB = ["y"]  # cipipe: out\n'


def planned(source: str, type: Any, *, sensitive: bool = False) -> Patched:
    out = Output(type=type, sensitive=sensitive, unknown=True)
    return patch(source.encode(), PATH, {"out": out, "known": Output(value="a")})


def test_the_literal_stays_and_is_a_placeholder_in_what_is_shown() -> None:
    done = planned(TWO, ["list", "string"])
    assert done.body.decode() == TWO.replace('"x"', '"a"')
    assert done.preview.decode() == TWO.replace('"x"', '"a"').replace('["y"]', PLACEHOLDER)
    (pending,) = done.pending
    assert (pending.output, pending.name, pending.line) == ("out", "B", 2)
    assert pending.type == "list of string"
    assert [made.output for made in done.replacements] == ["known"]


def test_a_file_without_such_a_value_is_shown_as_it_is_uploaded() -> None:
    done = patch(b'A = "x"  # cipipe: out\n', PATH, {"out": Output(value="a")})
    assert (done.preview, done.pending) == (done.body, ())


def test_a_placeholder_is_masked_where_the_value_may_be_a_secret() -> None:
    source = 'A = "x"  # cipipe: out (sensitive ok)\nB = "y"  # cipipe: known\n'
    done = planned(source, "string", sensitive=True)
    assert PLACEHOLDER in done.preview.decode()
    assert f'A = "{MASK}"' in masked(done.preview, PATH).decode()


def test_a_placeholder_does_not_hide_other_markers() -> None:
    source = 'A: list[str] = ["y"]  # cipipe: out\nB = "secret"  # cipipe: known (sensitive ok)\n'
    shown = planned(source, ["list", "string"]).preview
    assert "secret" not in masked(shown, PATH).decode()


@pytest.mark.parametrize(
    ("literal", "type"),
    [
        ('"x"', "string"),
        ('"x"', "dynamic"),
        ('"x"', None),
        ("1", "number"),
        ("1.5", "number"),
        ("True", "bool"),
        ('["x"]', ["list", "string"]),
        ('["x"]', ["tuple", ["string", "string"]]),
        ('{"x"}', ["set", "string"]),
        ("[]", ["list", "number"]),
        ("{}", ["object", {"a": "number"}]),
        ('{"a": "x"}', ["map", "string"]),
        ('{"a": "x", "b": 1}', ["object", {"a": "string", "b": "number"}]),
        ('{"a": "x"}', ["object", {"a": "dynamic"}]),
        ('["x"]', ["something", "new"]),
        ('["x"]', []),
    ],
)
def test_a_type_that_fits(literal: str, type: Any) -> None:
    assert planned(f"A = {literal}  # cipipe: out\n", type).pending


@pytest.mark.parametrize(
    ("literal", "type", "message"),
    [
        ('["x"]', "string", "it is a string, not a list"),
        ('"x"', ["list", "string"], "it is a list, not a string"),
        ('"x"', "number", "it is a number, not a string"),
        ("1", "bool", "it is a bool, not a whole number"),
        ("True", "number", "it is a number, not a bool"),
        ('["x"]', ["list", "number"], "an item of it is a number, not a string"),
        ('["x"]', ["tuple", ["string", "bool"]], "item 1 of it is a bool, not a string"),
        ('{"a": "x"}', ["map", "number"], "a value of it is a number, not a string"),
        (
            '{"a": "x", "b": 1}',
            ["object", {"a": "string", "b": ["list", "string"]}],
            "'b' of it is a list, not a whole number",
        ),
    ],
)
def test_a_type_that_does_not_fit(literal: str, type: Any, message: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        planned(f"A = {literal}  # cipipe: out\n", type)
    (problem,) = caught.value.problems
    assert problem.id == "dag-output-wrong-type"
    assert message in problem.message
    assert problem.where == f"{PATH}:1"


def test_a_sensitive_one_is_refused_like_any_other() -> None:
    with pytest.raises(ProblemsError) as caught:
        planned('A = "x"  # cipipe: out\n', "string", sensitive=True)
    assert [problem.id for problem in caught.value.problems] == ["dag-output-sensitive"]
