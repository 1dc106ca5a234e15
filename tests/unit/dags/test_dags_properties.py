"""For any file and any value: only literals change, they mean the value, and twice is once."""

import ast
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cipipe.errors import ProblemsError
from cipipe.model import Output
from cipipe.stages.dags.markers.logical_lines import logical_lines
from cipipe.stages.dags.markers.patch import patch
from cipipe.stages.dags.markers.text import decode

# Shift JIS writes a yen sign as a backslash, which would take the quote after it out of a filler's
# string.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0¥"), max_size=20)
SCALARS = (
    st.text(max_size=20)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
COMMENTS = TEXT.map(
    lambda text: "# " + "".join(c for c in text if c not in "\r\n").replace("cipipe", "")
)
FILLERS = st.one_of(
    COMMENTS,
    TEXT.map(lambda text: f"S = {text!a}"),
    TEXT.map(
        lambda text: (
            "S = '''" + text.replace("\\", "").replace("'", "").replace("cipipe", "") + "'''"
        )
    ),
    st.sampled_from(
        [
            "",
            "\x0c",
            "def f(a=1):\n    return a",
            'S = f"{x["a"]} # {1:>{2}}"',
            "if x: pass",
            "x = [\n 1,\n]",
        ]
    ),
)
WRAPPINGS = st.sampled_from([("", ""), ("(", ")"), ("((  ", "\t))"), ("(  # é\n  ", "\n)")])


def spelled(value: Any) -> str:
    """A literal of the same shape, spelled differently than the patcher does."""
    return repr(value)


def witness(value: Any) -> Any:
    """A default that the value fits."""
    if isinstance(value, list | dict):
        return type(value)()
    return type(value)()


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types at every depth; in lists and maps, 1.0 may become 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, float) and isinstance(other, int) and not isinstance(other, bool):
        return one == other
    return type(one) is type(other) and one == other


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(FILLERS, max_size=3), VALUES, WRAPPINGS, COMMENTS),
        min_size=1,
        max_size=3,
    ),
    ENDS,
    st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "koi8-r", "shift_jis"]),
)
def test_any_file(
    statements: list[tuple[list[str], Any, tuple[str, str], str]], end: str, encoding: str
) -> None:
    before: list[str] = []
    outputs = {}
    cuts = [{"utf-8": "", "utf-8-sig": "\ufeff"}.get(encoding, f"# -*- coding: {encoding} -*-\n")]
    for index, (fillers, value, (opening, closing), comment) in enumerate(statements):
        outputs[f"o{index}"] = Output(value=value)
        cuts[-1] += "".join(f"{filler}\n" for filler in fillers) + f"N{index} = {opening}"
        before.append(spelled(witness(value)))
        cuts.append(f"{closing}  # cipipe: o{index}  {comment}\n")
    codec = encoding.removesuffix("-sig")
    kept = [cut.replace("\n", end).encode(codec, errors="replace") for cut in cuts]
    source = kept[0] + b"".join(
        literal.encode() + rest for literal, rest in zip(before, kept[1:], strict=True)
    )

    result = patch(source, "x.py", outputs)

    rest = result.body
    for index, piece in enumerate(kept):
        assert rest.startswith(piece)
        rest = rest[len(piece) :]
        if index < len(statements):
            literal, found, _ = rest.partition(kept[index + 1])
            assert found
            assert literal.isascii()
            assert same(statements[index][1], ast.literal_eval(literal.decode()))
            rest = rest[len(literal) :]
    assert rest == b""
    assert patch(result.body, "x.py", outputs).body == result.body


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["utf-8", "latin-1", "cp1252"]))
def test_no_file_makes_it_crash(text: str, encoding: str) -> None:
    """Whatever surrounds the marker, the result is a patched file or a list of problems."""
    source = f"{text}\nA = 1  # cipipe: out\n{text}".encode(encoding, errors="replace")
    try:
        result = patch(source, "x.py", {"out": Output(value=2)})
    except ProblemsError:
        pass
    else:
        assert result.body in (
            source,
            source.replace(b"A = 1  # cipipe: out", b"A = 2  # cipipe: out"),
        )


def test_the_standard_library_is_read_as_python_reads_it() -> None:
    """Logical lines start where Python's parser sees statements, in files full of f-strings."""
    files = [
        path
        for path in sorted(Path(ast.__file__).parent.glob("*.py"))
        if b'f"' in path.read_bytes()
    ][:40]
    assert len(files) > 20
    for path in files:
        source = path.read_bytes()
        text = decode(source)
        ours = {
            line.tokens[0].start[0]
            for line in logical_lines(text.tokens())
            if line.tokens and not line.block
        }
        theirs = {
            min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", []))])
            for n in ast.parse(source).body
        }
        assert theirs <= ours, path
        assert patch(
            source + b"\nA = 1  # cipipe: out\n", path.name, {"out": Output(value=2)}
        ).body == (source + b"\nA = 2  # cipipe: out\n")
