"""Outputs that do not fit, are sensitive, unknown or null."""

from typing import Any

import msgspec
import pytest

from cipipe.errors import ProblemsError
from cipipe.model import Output
from cipipe.redact import MASK
from cipipe.stages.dags.markers.patch import patch, patch_all
from support.patching import PATH, patched, problem


@pytest.mark.parametrize(
    ("default", "value", "id"),
    [
        # Another type, at any depth.
        ('"x"', 1, "dag-output-wrong-type"),
        ('"x"', ["x"], "dag-output-wrong-type"),
        ('["x"]', "x", "dag-output-wrong-type"),
        ('["x"]', [1], "dag-output-wrong-type"),
        ('["x"]', {"x": "y"}, "dag-output-wrong-type"),
        ("[[1]]", [["x"]], "dag-output-wrong-type"),
        ("1", 1.5, "dag-output-wrong-type"),
        ("1", True, "dag-output-wrong-type"),
        ("1", "1", "dag-output-wrong-type"),
        ("1.0", True, "dag-output-wrong-type"),
        # Numbers that Python cannot write exactly.
        ("1.0", float("inf"), "dag-output-wrong-type"),
        ("1.0", 10**400, "dag-output-wrong-type"),
        ("1.0", float("nan"), "dag-output-wrong-type"),
        ("1.0", 2**53 + 1, "dag-output-wrong-type"),
        ("[]", [float("inf")], "dag-output-wrong-type"),
        ("{}", {"a": float("nan")}, "dag-output-wrong-type"),
        ("True", 1, "dag-output-wrong-type"),
        ("{1}", [[1]], "dag-output-wrong-type"),
        ("set()", [[1]], "dag-output-wrong-type"),
        ('{"a": 1}', {"a": "x"}, "dag-output-wrong-type"),
        ('{"a": 1}', {"b": "x"}, "dag-output-wrong-type"),
        ("{}", ["x"], "dag-output-wrong-type"),
        # Null where the annotation does not allow it.
        ('"x"', None, "dag-output-null"),
        ('["x"]', ["a", None], "dag-output-null"),
    ],
)
def test_values_that_do_not_fit(default: str, value: Any, id: str) -> None:
    found = problem(f"A = {default}  # cipipe: out\n", out=value)
    assert (found.id, found.where) == (id, f"{PATH}:1")


def test_a_value_that_is_nested_too_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert problem("A = []  # cipipe: out\n", out=value).id == "dag-output-wrong-type"


def test_a_map_of_several_types_is_compared_key_by_key() -> None:
    assert patched(
        'A = {"n": "x", "c": 1}  # cipipe: out\n', {"c": 2, "n": "y", "z": True}
    ).startswith(b'A = {"c": 2')
    assert (
        problem('A = {"n": "x", "c": 1}  # cipipe: out\n', out={"n": 1}).id
        == "dag-output-wrong-type"
    )


def test_unknown_output_names_the_nearest() -> None:
    found = problem('A = "x"  # cipipe: clustr_name\n', cluster_name="y", other="z")
    assert (found.id, found.hint) == ("dag-output-unknown", "Perhaps you meant cluster_name.")


def test_unknown_output_is_a_warning_if_tolerated() -> None:
    source = b'A = "x"  # cipipe: new\n'
    result = patch_all({PATH: source}, {}, tolerate=frozenset({"dag-output-unknown"}))[PATH]
    assert result.body == source
    assert [note.id for note in result.warnings] == ["dag-output-unknown"]


def test_sensitive_outputs() -> None:
    secret = {"out": Output(value="hunter22", sensitive=True)}
    with pytest.raises(ProblemsError) as caught:
        patch(b'A = "x"  # cipipe: out\n', PATH, secret)
    assert caught.value.problems[0].id == "dag-output-sensitive"
    assert "hunter22" not in repr(caught.value.problems)
    result = patch(b'A = "x"  # cipipe: out (sensitive ok)\n', PATH, secret)
    assert result.body == b'A = "hunter22"  # cipipe: out (sensitive ok)\n'
    assert (result.replacements[0].old, result.replacements[0].new) == (MASK, MASK)


def test_a_sensitive_value_that_the_ledger_does_not_keep() -> None:
    withheld = {"out": Output(value=msgspec.UNSET, sensitive=True)}
    with pytest.raises(ProblemsError) as caught:
        patch(b'A = "x"  # cipipe: out (sensitive ok)\n', PATH, withheld)
    assert caught.value.problems[0].id == "dag-output-withheld"


@pytest.mark.parametrize(
    "annotation",
    [
        "str | None",
        "None | str",
        "'str | None'",
        '"Optional[str]"',
        "Optional[str]",
        "t.Optional['str']",
        "Union[str, None]",
        "typing.Union[None, str]",
        "'Union[str, None]'",
    ],
)
def test_an_output_that_terraform_leaves_out_becomes_none(annotation: str) -> None:
    source = f"KEY: {annotation} = 'local'  # cipipe: kms_key\n".encode()
    result = patch(source, PATH, {"bucket": Output(value="b")})
    assert result.body == f"KEY: {annotation} = None  # cipipe: kms_key\n".encode()
    assert [(note.id, note.where) for note in result.warnings] == [
        ("dag-output-absent", f"{PATH}:1")
    ]
    assert [(r.output, r.new) for r in result.replacements] == [("kms_key", "None")]
    assert patch(result.body, PATH, {"bucket": Output(value="b")}).body == result.body


@pytest.mark.parametrize(
    ("annotation", "outputs"),
    [
        # Not optional, or optional only for what is inside.
        ("str", {"bucket": Output(value="b")}),
        ("dict[str, str | None]", {"bucket": Output(value="b")}),
        ("list[Optional[str]]", {"bucket": Output(value="b")}),
        # Probably misspelt; nothing deployed yet.
        ("str | None", {"kms_keys": Output(value="b")}),
        ("str | None", {}),
    ],
)
def test_a_missing_output_is_an_error(annotation: str, outputs: dict[str, Output]) -> None:
    with pytest.raises(ProblemsError) as caught:
        patch(f"KEY: {annotation} = 'local'  # cipipe: kms_key\n".encode(), PATH, outputs)
    assert [problem.id for problem in caught.value.problems] == ["dag-output-unknown"]


def test_all_outputs_may_be_null() -> None:
    source = b"KEY: str | None = 'local'  # cipipe: kms_key\n"
    assert b"= None" in patch_all({PATH: source}, {}, complete=True)[PATH].body


@pytest.mark.parametrize(
    "annotation",
    [
        "Optional [ str ]",
        "Final[Optional[str]]",
        'Annotated[str | None, "a, note"]',
        "ClassVar[None | str]",
        "Union[Optional[str], int]",
        "str | types.NoneType",
        'Literal["v", None]',
        "'typing.Optional[str]'",
        "Optional['str']",
    ],
)
def test_spellings_of_annotations_that_allow_none(annotation: str) -> None:
    source = f'ARN: {annotation} = "v"  # cipipe: arn\n'.encode()
    for outputs in ({"other": Output(value="x")}, {"arn": Output(value=None)}):
        once = patch(source, "dags/a.py", outputs).body
        assert once == source.replace(b'= "v"', b"= None")
        assert patch(once, "dags/a.py", outputs).body == once


@pytest.mark.parametrize(
    ("annotation", "default", "value", "expected"),
    [
        ("dict[str, str | None]", '{"a": "b"}', {"a": None}, '{"a": None}'),
        ("list[Optional[str]]", '["a"]', ["b", None], '["b", None]'),
        (
            "dict[str, dict[str, str | None]]",
            '{"a": {"b": "c"}}',
            {"x": {"y": None}},
            '{"x": {"y": None}}',
        ),
        ("Mapping[str, list[str] | None] | None", '{"a": ["b"]}', {"a": None}, '{"a": None}'),
        ("'dict[str, str | None]'", '{"a": "b"}', {"a": None}, '{"a": None}'),
    ],
)
def test_null_within_a_value_where_the_annotation_allows_none(
    annotation: str, default: str, value: Any, expected: str
) -> None:
    source = f"X: {annotation} = {default}  # cipipe: x\n".encode()
    made = patch(source, "dags/a.py", {"x": Output(value=value)}).body
    assert made == f"X: {annotation} = {expected}  # cipipe: x\n".encode()


@pytest.mark.parametrize(
    ("annotation", "default", "value"),
    [
        ("dict[str, str]", '{"a": "b"}', {"a": None}),
        ("dict[str, str] | None", '{"a": "b"}', {"a": None}),
        ("dict[str, list[str | None]]", '{"a": ["b"]}', {"a": None}),
        ("dict[str | None, str]", '{"a": "b"}', {"a": None}),
        # Annotations that somebody made to be slow.
        ("list[" * 150 + "str | None" + "]" * 150, '["b"]', [None]),
        ("str |" * 5000 + "None", '["b"]', [None]),
    ],
)
def test_null_within_a_value_where_the_annotation_does_not_allow_none(
    annotation: str, default: str, value: Any
) -> None:
    with pytest.raises(ProblemsError) as caught:
        patch(
            f"X: {annotation} = {default}  # cipipe: x\n".encode(),
            "dags/a.py",
            {"x": Output(value=value)},
        )
    assert [problem.id for problem in caught.value.problems] == ["dag-output-null"]
