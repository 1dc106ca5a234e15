"""The framing of fingerprints: no two inputs run into each other, and nothing counts that should
not.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe import fingerprint
from cipipe.fingerprint import consumed, effective
from cipipe.model import Output
from cipipe.tools.git.client import Entry


def digest(kind: str, settings: Any, entries: Iterable[Entry]) -> str:
    """The fingerprint over these entries, framed here as it is promised."""
    fields = [
        field for e in sorted(entries, key=lambda e: e.path) for field in (e.mode, e.oid, e.path)
    ]
    return fingerprint.digest(
        kind, settings, [len(field).to_bytes(8, "big") + field for field in fields]
    )


A = Entry(b"100644", b"1" * 40, b"a")
B = Entry(b"100644", b"2" * 40, b"b")


def test_the_value_is_kept_for_ever() -> None:
    """Another value here makes every stage of everybody due: raise VERSION then, and say so in the
    change log.
    """
    assert (
        digest("image", {"context": "dbt"}, [A])
        == "d368ae484c011abf06a6d92c90de564d8aa62f2e4c7fa8d9536ef05fc261aa1b"
    )


@pytest.mark.parametrize(
    "other",
    [
        ("imag", {"a": 1}, [A, B]),
        ("image", {"a": 2}, [A, B]),
        ("image", {"a": "1"}, [A, B]),
        ("image", {"b": 1}, [A, B]),
        ("image", {}, [A, B]),
        ("image", {"a": 1}, [A]),
        ("image", {"a": 1}, []),
        ("image", {"a": 1}, [A, Entry(b"100755", B.oid, B.path)]),
        ("image", {"a": 1}, [A, Entry(b"120000", B.oid, B.path)]),
        ("image", {"a": 1}, [A, Entry(b"160000", B.oid, B.path)]),
        ("image", {"a": 1}, [A, Entry(B.mode, b"3" * 40, B.path)]),
        ("image", {"a": 1}, [A, Entry(B.mode, B.oid, b"c")]),
        ("image", {"a": 1}, [A, Entry(B.mode, B.oid, b"b\n")]),
        ("image", {"a": 1}, [Entry(A.mode, A.oid, B.path), Entry(B.mode, B.oid, A.path)]),
    ],
)
def test_everything_counts(other: tuple[str, Any, list[Entry]]) -> None:
    assert digest("image", {"a": 1}, [A, B]) != digest(*other)


def test_the_order_of_keys_does_not_count() -> None:
    assert digest("k", {"a": 1, "b": {"c": 2, "d": 3}}, [A, B]) == digest(
        "k", {"b": {"d": 3, "c": 2}, "a": 1}, [A, B]
    )


PIECE = st.binary(max_size=3)
INPUT = st.tuples(
    st.text("ab{}", max_size=3),
    st.text("ab{}", max_size=3),
    st.lists(st.tuples(PIECE, PIECE, PIECE), max_size=3),
)


@given(INPUT, INPUT)
def test_no_two_inputs_run_into_each_other(one: Any, other: Any) -> None:
    def made(kind: str, settings: str, entries: list[tuple[bytes, bytes, bytes]]) -> str:
        return digest(kind, settings, [Entry(*entry) for entry in entries])

    def plain(kind: str, settings: str, entries: list[tuple[bytes, bytes, bytes]]) -> Any:
        return kind, settings, sorted(entries, key=lambda entry: entry[2])

    assert (made(*one) == made(*other)) is (plain(*one) == plain(*other))


def test_what_moves_from_one_field_to_the_next_changes_the_digest() -> None:
    entries = [
        Entry(b"ab", b"c", b"d"),
        Entry(b"a", b"bc", b"d"),
        Entry(b"a", b"b", b"cd"),
        Entry(b"", b"abc", b"d"),
    ]
    assert len({digest("k", {}, [entry]) for entry in entries}) == len(entries)
    assert digest("k", {}, [A, B]) != digest(
        "k", {}, [Entry(A.mode, A.oid, A.path + B.mode + B.oid + B.path)]
    )


def test_an_effective_digest_holds_the_values_consumed() -> None:
    base = effective("f" * 64, {})
    assert (
        len(
            {
                base,
                effective("e" * 64, {}),
                effective("f" * 64, {"a": 1}),
                effective("f" * 64, {"a": "1"}),
                effective("f" * 64, {"b": 1}),
                effective("f" * 64, {"a": None}),
            }
        )
        == 6
    )
    assert effective("f", {"a": 1, "b": 2}) == effective("f", {"b": 2, "a": 1})


def test_of_a_sensitive_output_only_its_presence_counts() -> None:
    outputs = {
        "s": Output(value="one", sensitive=True),
        "p": Output(value=["x"]),
        "q": Output(value="unused"),
    }
    assert consumed(outputs, ["s", "p", "absent"]) == {"p": ["x"], "s": None}
    assert consumed({"s": Output(sensitive=True)}, ["s"]) == consumed(outputs, ["s"])
