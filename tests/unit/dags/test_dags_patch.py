"""The DAG contract, rule by rule."""

from typing import Any

import msgspec
import pytest

from cipipe.errors import Problem, ProblemsError
from cipipe.model import Output
from cipipe.redact import MASK
from cipipe.stages.dags.markers.patch import markers, patch, patch_all

PATH = "dags/x.py"


def outputs(**values: Any) -> dict[str, Output]:
    return {name: Output(value=value) for name, value in values.items()}


def patched(source: str | bytes, value: Any, *, encoding: str = "utf-8") -> bytes:
    body = source.encode(encoding) if isinstance(source, str) else source
    return patch(body, PATH, outputs(out=value)).body


def problems(source: str, **values: Any) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        patch(source.encode(), PATH, outputs(**values))
    assert caught.value.id == "dags-patch-failed"
    assert caught.value.exit_status == 2
    return list(caught.value.problems)


def problem(source: str, **values: Any) -> Problem:
    (only,) = problems(source, **values)
    assert only.hint
    return only


def test_only_the_literal_changes() -> None:
    source = 'CLUSTER = "local"                      # cipipe: out\nOTHER = "local"\n'
    assert (
        patched(source, "prod")
        == b'CLUSTER = "prod"                      # cipipe: out\nOTHER = "local"\n'
    )


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ('A = "x"', "it's", 'A = "it\'s"'),
        ("A = 'x'", 'say "hi"', "A = 'say \"hi\"'"),
        ('A = "x"', "\"both\" and 'both'", "A = '\"both\" and \\'both\\''"),
        ('A = "x"', "back\\slash\nline\0nul&/", 'A = "back\\\\slash\\nline\\x00nul&/"'),
        ('A = "x"', "é\U0001f600\ud800", 'A = "\\xe9\\U0001f600\\ud800"'),
        ("A = 1", 7, "A = 7"),
        ("A = 1", 7.0, "A = 7"),
        ("A = -1", -2, "A = -2"),
        ("A = 1.5", 7, "A = 7.0"),
        ("A = 1.5", 2**60, "A = 1.152921504606847e+18"),
        ("A = False", True, "A = True"),
        ('A = ["x"]', ["a", "b"], 'A = ["a", "b"]'),
        ("A = []", [1, 2.0, 2.5, True, None], "A = [1, 2, 2.5, True, None]"),
        ('A = ("x",)', ["a"], 'A = ("a",)'),
        ('A = "x", "y"', ["a"], 'A = ("a",)'),
        ('A = {"x"}', ["b", "a"], 'A = {"a", "b"}'),
        ('A = {"x"}', [], "A = set()"),
        ("A = set()", ["a"], 'A = {"a"}'),
        ('A = {"k": 1}', {"k": 2, "l": 3.0}, 'A = {"k": 2, "l": 3}'),
        ("A = {}", {"n": {"l": [1.0]}}, 'A = {"n": {"l": [1]}}'),
        ('A: str | None = "x"', None, "A: str | None = None"),
        ('A: Optional[str] = "x"', None, "A: Optional[str] = None"),
        ('A: "str | None" = None', "x", 'A: "str | None" = "x"'),
        ("A: int | None = None", 3, "A: int | None = 3"),
        ('A: list[str] = ["x"]', [], "A: list[str] = []"),
        ("A=0x10", 16, "A=0x10"),
        ('A = "a" "b"', "ab", 'A = "a" "b"'),
        (r'A = "\d"', "x", 'A = "x"'),
        ('Ä = "x"', "y", 'Ä = "y"'),
        ('async_ = "x"', "y", 'async_ = "y"'),
        ('type = "x"', "y", 'type = "y"'),
    ],
)
def test_types_and_writing(before: str, value: Any, after: str) -> None:
    assert patched(f"{before}  # cipipe: out\n", value).decode() == f"{after}  # cipipe: out\n"


def test_a_value_that_is_there_already_keeps_its_spelling() -> None:
    source = b"A = [ 'x' ,'y' ]  # cipipe: out\n"
    result = patch(source, PATH, outputs(out=["x", "y"]))
    assert result.body is source or result.body == source
    assert [(r.old, r.new) for r in result.replacements] == [("[ 'x' ,'y' ]", "[ 'x' ,'y' ]")]


def test_a_long_list_is_wrapped_with_the_files_own_line_ends() -> None:
    source = "A = []  # cipipe: out\r\nB = 1\r\n"
    result = patched(source, ["subnet-" + "0" * 60, "subnet-" + "1" * 60]).decode()
    lines = result.split("\r\n")
    assert lines[0] == "A = ["
    assert lines[3:] == ["]  # cipipe: out", "B = 1", ""]
    assert "\n" not in result.replace("\r\n", "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_stay(end: str) -> None:
    source = end.join(
        ["# first", "", "def f():", "    return 1", 'A = "x"  # cipipe: out', 'B = """', '"""', ""]
    )
    assert patched(source, "y") == source.replace('"x"', '"y"').encode()


def test_mixed_line_ends_and_form_feeds_stay() -> None:
    source = (
        'import os\r\n\x0c\nX = """\x0c\u2028\x85"""\rA = (\t"x"\x0c)  # cipipe: out\r\n\x0cB = 1\n'
    )
    assert patched(source, "y") == source.replace('"x"', '"y"').encode()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "marker", ["#\xa0cipipe: out", "# cipipe\xa0: out", "#\xa0 cipipe:\xa0out"]
)
def test_a_no_break_space_is_a_blank(marker: str, encoding: str) -> None:
    source = f'# coding: {encoding}\nA = "x"  {marker}\n'
    assert patched(source, "y", encoding=encoding) == source.replace('"x"', '"y"').encode(encoding)


def test_a_file_that_only_speaks_of_cipipe_has_no_markers() -> None:
    source = b"# patched by cipipe: A = (\n"
    assert patch(source, PATH, {}).body is source


def test_latin_1_with_non_ascii_comment_and_value() -> None:
    source = '# -*- coding: latin-1 -*-\n# Grüße\nÄ = "ü"  # cipipe: out\n'
    body = patched(source, "ß€", encoding="latin-1")
    assert body == '# -*- coding: latin-1 -*-\n# Grüße\nÄ = "\\xdf\\u20ac"  # cipipe: out\n'.encode(
        "latin-1"
    )


def test_shift_jis_whose_second_bytes_look_like_backslashes() -> None:
    source = '# coding: shift_jis\nB = "表"; C = "ソ"\n表 = ("表")  # cipipe: out  # 表\n'
    body = patched(source, "y", encoding="shift_jis")
    assert body == source.replace('("表")', '("y")').encode("shift_jis")


def test_byte_order_mark_with_the_marker_on_line_1() -> None:
    assert (
        patched(b'\xef\xbb\xbfA = "\xc3\xa9"  # cipipe: out', "y")
        == b'\xef\xbb\xbfA = "y"  # cipipe: out'
    )


def test_parentheses_and_comments_around_the_literal_stay() -> None:
    source = 'É = (  # why é\n    "a"\n    "b"\n)  # cipipe: out\n'
    assert patched(source, "y").decode() == 'É = (  # why é\n    "y"\n)  # cipipe: out\n'


def test_continued_lines() -> None:
    source = 'A = \\\n    "x"  # cipipe: out\n'
    assert patched(source, "y") == b'A = \\\n    "y"  # cipipe: out\n'


def test_multi_line_list_with_the_marker_behind_it() -> None:
    source = 'A = [\n    "x",  # one\n    "y",\n]  # cipipe: out\nB = 1\n'
    assert patched(source, ["z"]) == b'A = ["z"]  # cipipe: out\nB = 1\n'


@pytest.mark.parametrize(
    "source",
    [
        '\x0cA = "x"  # cipipe: out\n',
        'A\t=\t"x"\t# cipipe: out\n',
        'A = "x"\x0c# cipipe: out',
        'A = "x"  # type: str\t# cipipe: out\n',
        'A = (\t# type: ignore[x]\n\x0c"x"\n)  # cipipe: out\n',
        'B = []  # type: list[str]\nfor i in B:  # type: str\n    pass\nA = "x"  # cipipe: out\n',
    ],
)
def test_tabs_form_feeds_and_type_comments_stay(source: str) -> None:
    assert patched(source, "y").decode() == source.replace('"x"', '"y"')


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e15, "1000000000000000"), (2.0**53, str(2**53)), (1e300, "1e+300"), (-0.5, "-0.5")],
)
def test_numbers_become_whole_where_they_are_so_exactly(value: float, written: str) -> None:
    assert (
        patched("A = []  # cipipe: out\n", [value]).decode() == f"A = [{written}]  # cipipe: out\n"
    )


def test_other_comments_on_the_line() -> None:
    source = 'A = "x"  # type: str  # cipipe: out  # noqa: E501\n'
    assert patched(source, "y").decode() == source.replace('"x"', '"y"')


@pytest.mark.parametrize(
    "marker", ["#cipipe:out", "# cipipe : out", "# CIPIPE: out", "#\tcipipe:\tout"]
)
def test_spellings_of_the_marker(marker: str) -> None:
    assert patched(f'A = "x" {marker}\n', "y").decode() == f'A = "y" {marker}\n'


def test_marker_text_in_strings_means_nothing() -> None:
    source = '"""A = 1  # cipipe: nope"""\nA = "x"  # cipipe: out\nB = "# cipipe: nope"\n'
    assert patched(source, "y").decode() == source.replace('"x"', '"y"')
    assert [m.output for m in markers(source.encode(), PATH)] == ["out"]


@pytest.mark.parametrize(
    "line",
    [
        'z = f"{x["a # cipipe: nope"]}"',
        "z = f'{\"'\"}'",
        'z = f"{\'"\'}{{}}"',
        'z = f"{\n  x  # } cipipe\n}"',
        'z = f"{x!r:>{w}}" f"\\N{LATIN SMALL LETTER A}\\{1}"',
        'z = rf"\\{x["}"]}"',
        'z = f"""{x:%Y"%m} {"""a"""}"""',
        'z = t"{x["a"]}" + Rb"\\\\" + f"{(lambda x: x)(1)}"',
        "type Alias[T] = list[T]",
        "def f[T: int](x: T) -> T: return x",
        "class C[*Ts, **P]: pass",
        "try:\n    pass\nexcept* ValueError:\n    pass",
        "try:\n    pass\nexcept A, B:\n    pass",
        "match x:\n    case {'a': 1}:\n        pass",
        "print(f'{a}', end='') ; x = '#'",
    ],
)
def test_syntax_of_any_version_elsewhere_in_the_file(line: str) -> None:
    source = f'A = "x"  # cipipe: out\n{line}\nB = "x"  # cipipe: out\n'
    assert (
        patched(source, "y").decode() == f'A = "y"  # cipipe: out\n{line}\nB = "y"  # cipipe: out\n'
    )


def test_a_file_without_markers_is_the_same_object() -> None:
    source = b"this is ( no python \xff"
    assert patch(source, PATH, {}).body is source


@pytest.mark.parametrize(
    ("source", "id", "line"),
    [
        ('# cipipe: out\nA = "x"\n', "dag-marker-misplaced", 1),
        ('A = "x"\n# cipipe: out\n', "dag-marker-misplaced", 2),
        ("import os  # cipipe: out\n", "dag-marker-misplaced", 1),
        ("A: str  # cipipe: out\n", "dag-marker-misplaced", 1),
        ('A += "x"  # cipipe: out\n', "dag-marker-misplaced", 1),
        ('A = [\n  "x",  # cipipe: out\n]\n', "dag-marker-misplaced", 2),
        ('foo("x")  # cipipe: out\n', "dag-marker-misplaced", 1),
        ('if x:\n    A = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        ('if x: A = "x"  # cipipe: out\n', "dag-marker-in-block", 1),
        ('def f():\n    A = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        ('class A:\n    B = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        ('A = "x"; B = 1  # cipipe: out\n', "dag-marker-semicolon", 1),
        ('A = "x";  # cipipe: out\n', "dag-marker-semicolon", 1),
        ('A = B = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('A, B = "x", "y"  # cipipe: out\n', "dag-marker-target", 1),
        ('[A] = ["x"]  # cipipe: out\n', "dag-marker-target", 1),
        ('(A) = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('a.b = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('a["b"] = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('A = f"x"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = f"{x["y"]}"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = foo("x")  # cipipe: out\n', "dag-default-not-literal", 1),
        ("A = lambda x=1: x  # cipipe: out\n", "dag-default-not-literal", 1),
        ('A = "x" + "y"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = "x" if y else "z"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = b"x"  # cipipe: out\n', "dag-default-not-literal", 1),
        ("A = 1j  # cipipe: out\n", "dag-default-not-literal", 1),
        ("A = ...  # cipipe: out\n", "dag-default-not-literal", 1),
        ("A = {1: 2}  # cipipe: out\n", "dag-default-not-literal", 1),
        ('A = [x, "y"]  # cipipe: out\n', "dag-default-not-literal", 1),
        ("A = None  # cipipe: out\n", "dag-default-none", 1),
        ("A: Any = None  # cipipe: out\n", "dag-default-none", 1),
        ('A = "x"  # cipipe: out put\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe:\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out (sensitive)\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out  # cipipe: other\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out  # cipipe:\n', "dag-marker-syntax", 1),
    ],
)
def test_placement(source: str, id: str, line: int) -> None:
    found = problem(source, out="y")
    assert (found.id, found.where) == (id, f"{PATH}:{line}")


@pytest.mark.parametrize(
    "other",
    [
        "A = 2",
        "A: int = 2",
        "A += 1",
        "if x:\n    A = 2",
        "if x: A = 2",
        "for A in y:\n    pass",
        "for (B, A) in y: pass",
        "async def f():\n    global A",
        "with x as A:\n    pass",
        "with x as (B, A): pass",
        "with x as [B, *A], y as C:\n    pass",
        "with (x as B, y as A):\n    pass",
        "match x:\n    case A: pass",
        "match x:\n    case [1, *A] | {'k': A}:\n        pass",
        "match x:\n    case C(y=A) if y: pass",
        "match x:\n    case (1 | 2) as A:\n        pass",
        "match x:\n    case 1: A = 2",
        "match (A := 1):\n    case 1: pass",
        "try:\n    pass\nexcept E as A:\n    pass",
        "import A",
        "import x as A, y",
        "from x import (A, B)",
        "from x import y as A",
        "def A(): pass",
        "async def A(): pass",
        "class A: pass",
        "del A",
        "B, A = 1, 2",
        "[B, *A] = x",
        "B = A = 2",
        "B = 1; A = 2",
        "print(A := 2)",
    ],
)
@pytest.mark.parametrize("behind", [True, False])
def test_a_marked_name_is_assigned_once(other: str, behind: bool) -> None:
    marked = "A = 1  # cipipe: out"
    source = f"{marked}\n{other}\n" if behind else f"{other}\n{marked}\n"
    assert problem(source, out=3).id == "dag-name-reassigned"


@pytest.mark.parametrize(
    "other",
    [
        "x.A = 2",
        "x[A] = 2",
        "B = A",
        "def f(A=1):\n    A = 2",
        "def f(): A = 2",
        "class C:\n    A = 2",
        "f(A=2)",
        "for B in A:\n    pass",
        "import x.A",
        "B: A = 1",
        "A.b = 1",
        "A[0] = 1",
        "f(A)[0] = 1",
        "with A as B:\n    pass",
        "from A import b",
        'hook = lambda A="y": A',
        "hook = B = lambda x, A=1: A",
        "with x as B.A, y as C[A]: pass",
        "with x(A) as B, A: pass",
        "match A:\n    case A.b: pass\n    case A(): pass\n    case C(A=1): pass\n    case 1 if A: pass",
        "if x:\n    case = A\n    case.x = A",
        "if A == 1:\n    pass",
    ],
)
def test_what_does_not_assign_the_name(other: str) -> None:
    assert (
        patched(f"A = 1  # cipipe: out\n{other}\n", 3)
        == f"A = 3  # cipipe: out\n{other}\n".encode()
    )


@pytest.mark.parametrize(
    ("default", "value", "id"),
    [
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


def test_a_value_that_the_files_encoding_lacks() -> None:
    found = problem('# coding: cp864\nA = "x"  # cipipe: out\n', out="100%")
    assert (found.id, found.where) == ("dag-value-encoding", f"{PATH}:2")


def test_a_map_of_several_types_is_held_key_by_key() -> None:
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


def test_unknown_output_is_a_warning_where_it_may_be_yet_to_come() -> None:
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


def test_a_sensitive_value_that_the_ledger_does_not_hold() -> None:
    withheld = {"out": Output(value=msgspec.UNSET, sensitive=True)}
    with pytest.raises(ProblemsError) as caught:
        patch(b'A = "x"  # cipipe: out (sensitive ok)\n', PATH, withheld)
    assert caught.value.problems[0].id == "dag-output-withheld"


def test_template_braces_are_a_warning() -> None:
    result = patch(b'A = ["x"]  # cipipe: out\n', PATH, outputs(out=["{{ ds }}"]))
    assert result.body == b'A = ["{{ ds }}"]  # cipipe: out\n'
    assert [(note.id, note.where) for note in result.warnings] == [
        ("dag-value-template", f"{PATH}:1")
    ]


def test_everything_wrong_is_told_at_once_in_order() -> None:
    good = b'A = "x"  # cipipe: out\n'
    bad = b'A = "x"  # cipipe: no\n# cipipe: out\nB = 1  # cipipe: out\nB = 2\n'
    with pytest.raises(ProblemsError) as caught:
        patch_all({"a.py": good, "b.py": bad, "c.py": bad}, outputs(out="y"))
    assert [(p.id, p.where) for p in caught.value.problems] == [
        (name, f"{path}:{line}")
        for path in ("b.py", "c.py")
        for name, line in [
            ("dag-output-unknown", 1),
            ("dag-marker-misplaced", 2),
            ("dag-name-reassigned", 3),
            ("dag-output-wrong-type", 3),
        ]
    ]


@pytest.mark.parametrize(
    "source",
    [
        b"# coding: nonsense\nA = 1  # cipipe: out\n",
        b"A = '\xff'  # cipipe: out\n",
        b"\xef\xbb\xbf# coding: latin-1\nA = 1  # cipipe: out\n",
        b"A = (1  # cipipe: out\n",
        b"A = 'x  # cipipe: out\n",
        b'A = 1  # cipipe: out\n"""\n',
        b"if x:\n        y\n    z\nA = 1  # cipipe: out\n",
    ],
)
def test_a_marked_file_that_is_not_python(source: bytes) -> None:
    with pytest.raises(ProblemsError) as caught:
        patch(source, PATH, outputs(out=2))
    assert [found.id for found in caught.value.problems] == ["dag-not-python"]


def test_replacements_say_where_and_what() -> None:
    result = patch(b'\nA = "x"  # cipipe: out\n', PATH, outputs(out="y"))
    assert msgspec.to_builtins(result.replacements) == (
        {"file": PATH, "line": 2, "name": "A", "output": "out", "old": '"x"', "new": '"y"'},
    )


# --- outputs that are null -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "annotation",
    [
        "str | None", "None | str", "'str | None'", '"Optional[str]"', "Optional[str]", "t.Optional['str']",
        "Union[str, None]", "typing.Union[None, str]", "'Union[str, None]'",
    ],
)  # fmt: skip
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
        ("str", {"bucket": Output(value="b")}),
        ("dict[str, str | None]", {"bucket": Output(value="b")}),
        ("list[Optional[str]]", {"bucket": Output(value="b")}),
        ("str | None", {"kms_keys": Output(value="b")}),
        ("str | None", {}),
    ],
)
def test_an_output_that_is_not_there_is_an_error(
    annotation: str, outputs: dict[str, Output]
) -> None:
    with pytest.raises(ProblemsError) as caught:
        patch(f"KEY: {annotation} = 'local'  # cipipe: kms_key\n".encode(), PATH, outputs)
    assert [problem.id for problem in caught.value.problems] == ["dag-output-unknown"]


def test_outputs_that_are_all_null_are_left_out_all() -> None:
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
