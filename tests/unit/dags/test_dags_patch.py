"""What patching writes: types, spellings, encodings, and every other byte as it was."""

from typing import Any

import msgspec
import pytest

from cipipe.stages.dags.markers.patch import markers, patch
from support.patching import PATH, outputs, patched, problem


def test_only_the_literal_changes() -> None:
    source = 'CLUSTER = "local"                      # cipipe: out\nOTHER = "local"\n'
    assert (
        patched(source, "prod")
        == b'CLUSTER = "prod"                      # cipipe: out\nOTHER = "local"\n'
    )


def test_an_output_of_an_image_stage() -> None:
    known = outputs(**{"image.digest": "sha256:1", "image": "wrong"})
    done = patch(b'DIGEST = "x"  # cipipe: image.digest\n', PATH, known)
    assert done.body == b'DIGEST = "sha256:1"  # cipipe: image.digest\n'


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        # Strings: ASCII, in double quotes if that needs no escape.
        ('A = "x"', "it's", 'A = "it\'s"'),
        ("A = 'x'", 'say "hi"', "A = 'say \"hi\"'"),
        ('A = "x"', "\"both\" and 'both'", "A = '\"both\" and \\'both\\''"),
        ('A = "x"', "back\\slash\nline\0nul&/", 'A = "back\\\\slash\\nline\\x00nul&/"'),
        ('A = "x"', "é\U0001f600\ud800", 'A = "\\xe9\\U0001f600\\ud800"'),
        # Numbers: of the type that the default has.
        ("A = 1", 7, "A = 7"),
        ("A = 1", 7.0, "A = 7"),
        ("A = -1", -2, "A = -2"),
        ("A = 1.5", 7, "A = 7.0"),
        ("A = 1.5", 2**60, "A = 1.152921504606847e+18"),
        ("A = False", True, "A = True"),
        # Lists, tuples, sets, maps.
        ('A = ["x"]', ["a", "b"], 'A = ["a", "b"]'),
        ("A = []", [1, 2.0, 2.5, True, None], "A = [1, 2, 2.5, True, None]"),
        ('A = ("x",)', ["a"], 'A = ("a",)'),
        ('A = "x", "y"', ["a"], 'A = ("a",)'),
        ('A = {"x"}', ["b", "a"], 'A = {"a", "b"}'),
        ('A = {"x"}', [], "A = set()"),
        ("A = set()", ["a"], 'A = {"a"}'),
        ('A = {"k": 1}', {"k": 2, "l": 3.0}, 'A = {"k": 2, "l": 3}'),
        ("A = {}", {"n": {"l": [1.0]}}, 'A = {"n": {"l": [1]}}'),
        # None, where the annotation allows it.
        ('A: str | None = "x"', None, "A: str | None = None"),
        ('A: Optional[str] = "x"', None, "A: Optional[str] = None"),
        ('A: "str | None" = None', "x", 'A: "str | None" = "x"'),
        ("A: int | None = None", 3, "A: int | None = 3"),
        ('A: list[str] = ["x"]', [], "A: list[str] = []"),
        # An equal value keeps its spelling.
        ("A=0x10", 16, "A=0x10"),
        ('A = "a" "b"', "ab", 'A = "a" "b"'),
        (r'A = "\d"', "x", 'A = "x"'),
        # Names that need care.
        ('Ä = "x"', "y", 'Ä = "y"'),
        ('async_ = "x"', "y", 'async_ = "y"'),
        ('type = "x"', "y", 'type = "y"'),
    ],
)
def test_values_are_written_in_the_type_of_the_default(before: str, value: Any, after: str) -> None:
    assert patched(f"{before}  # cipipe: out\n", value).decode() == f"{after}  # cipipe: out\n"


def test_an_equal_value_keeps_its_spelling() -> None:
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
def test_exact_whole_numbers_become_ints(value: float, written: str) -> None:
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


def test_marker_text_in_strings_is_ignored() -> None:
    source = '"""A = 1  # cipipe: nope"""\nA = "x"  # cipipe: out\nB = "# cipipe: nope"\n'
    assert patched(source, "y").decode() == source.replace('"x"', '"y"')
    assert [m.output for m in markers(source.encode(), PATH)] == ["out"]


@pytest.mark.parametrize(
    "line",
    [
        # f-strings of Python 3.12, and t-strings of 3.14.
        'z = f"{x["a # cipipe: nope"]}"',
        "z = f'{\"'\"}'",
        'z = f"{\'"\'}{{}}"',
        'z = f"{\n  x  # } cipipe\n}"',
        'z = f"{x!r:>{w}}" f"\\N{LATIN SMALL LETTER A}\\{1}"',
        'z = rf"\\{x["}"]}"',
        'z = f"""{x:%Y"%m} {"""a"""}"""',
        'z = t"{x["a"]}" + Rb"\\\\" + f"{(lambda x: x)(1)}"',
        # Statements of Python 3.12, 3.11, 3.14 and 3.10.
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


def test_replacements_say_where_and_what() -> None:
    result = patch(b'\nA = "x"  # cipipe: out\n', PATH, outputs(out="y"))
    assert msgspec.to_builtins(result.replacements) == (
        {"file": PATH, "line": 2, "name": "A", "output": "out", "old": '"x"', "new": '"y"'},
    )


def test_a_value_that_the_encoding_cannot_express() -> None:
    found = problem('# coding: cp864\nA = "x"  # cipipe: out\n', out="100%")
    assert (found.id, found.where) == ("dag-value-encoding", f"{PATH}:2")


def test_template_braces_are_a_warning() -> None:
    result = patch(b'A = ["x"]  # cipipe: out\n', PATH, outputs(out=["{{ ds }}"]))
    assert result.body == b'A = ["{{ ds }}"]  # cipipe: out\n'
    assert [(note.id, note.where) for note in result.warnings] == [
        ("dag-value-template", f"{PATH}:1")
    ]
