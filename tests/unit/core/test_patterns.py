"""The pattern language: examples, and an independent, slow reading of the same rules to compare
with.
"""

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cipipe.patterns import Patterns, complaint
from support.budget import cpu_seconds


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        ("a", b"a", True),
        ("a", b"a/b", False),
        ("a", b"b/a", False),
        ("a/**", b"a/b", True),
        ("a/**", b"a/b/c/d", True),
        ("a/**", b"a", False),
        ("a/**", b"ab/c", False),
        ("a/**", b"x/a/b", False),
        ("a/**", b"A/b", False),
        ("**", b"a", True),
        ("**", b"a/b/c", True),
        ("**/a", b"a", True),
        ("**/a", b"x/y/a", True),
        ("**/a", b"x/ba", False),
        ("a/**/b", b"a/b", True),
        ("a/**/b", b"a/x/y/b", True),
        ("a/**/b", b"a/xb", False),
        ("a/**/**", b"a/x", True),
        ("*", b"a", True),
        ("*", b"a/b", False),
        ("*.md", b"README.md", True),
        ("*.md", b"docs/README.md", False),
        ("**/*.md", b"README.md", True),
        ("**/*.md", b"docs/x/README.md", True),
        ("a/*/c", b"a/b/c", True),
        ("a/*/c", b"a/b/b/c", False),
        ("a?c", b"abc", True),
        ("a?c", b"ac", False),
        ("a?c", b"a/c", False),
        ("a*", b".a", False),
        ("*", b".hidden", True),
        ("a.b", b"axb", False),
        ("a+", b"a+", True),
        ("a+", b"aa", False),
        ("[ab]", b"a", False),
        ("[ab]", b"[ab]", True),
        ("{a,b}", b"{a,b}", True),
        ("(a|b)$", b"(a|b)$", True),
        ("a\\d", b"a1", False),
        ("a/**", b"a/new\nline", True),
        ("a/**", b"a/\n", True),
        ("a/*", b"a/x\ny", True),
        ("a/?", b"a/\n", True),
        ("a/*.sql", b"a/x.sql\n", False),
        ("a/**", b"a/\xff\xfe", True),
        ("a/*", b"a/caf\xe9", True),
        ("a/caf\u00e9", "a/caf\u00e9".encode(), True),
        ("a/**", b"a/$(id)", True),
        ("a/**", b"a/-rf", True),
        ("-x/**", b"-x/a", True),
        ("a/** !a/**/*.md", b"a/x.py", True),
        ("a/** !a/**/*.md", b"a/x.md", False),
        ("a/** !a/**/*.md", b"a/b/c/x.md", False),
        ("a/** !a/b/**", b"a/b/c", False),
        ("a/** !a/b/**", b"a/bb", True),
        ("!a/b a/**", b"a/b", False),
        ("a/** !a/b/** a/b/c", b"a/b/c", False),
        ("!a/**", b"a/b", False),
        ("!a/**", b"b", False),
        ("", b"a", False),
    ],
)
def test_examples(patterns: str, path: bytes, expected: bool) -> None:
    assert Patterns(patterns.split()).matches(path) is expected


SEGMENT = st.sampled_from(
    ["a", "b", "ab", "a.", "*", "?", "a*", "*b", "a?", "**", "[a]", "\n", "*a*", "*a*b", "?*b*"]
)
PATTERN = st.lists(SEGMENT, min_size=1, max_size=6).map("/".join)
PLAIN_OR_NOT = st.tuples(st.sampled_from(["", "", "!"]), PATTERN).map("".join)
NAME = st.sampled_from(
    [b"a", b"b", b"ab", b"aa", b"a.", b"ax", b"xb", b"[a]", b"\n", b"\xff", b"a\n", b"aab", b"abab"]
)
PATH = st.lists(NAME, min_size=1, max_size=5).map(b"/".join)


@given(PATTERN, PATH)
@example("a/**", b"a/\n")
def test_a_pattern_means_what_the_slow_reading_says(pattern: str, path: bytes) -> None:
    assert Patterns([pattern]).matches(path) is slow(pattern.encode(), path)


@given(st.lists(PLAIN_OR_NOT, max_size=4), PATH)
def test_one_plain_pattern_and_no_other_one(patterns: list[str], path: bytes) -> None:
    plain = any(slow(p.encode(), path) for p in patterns if not p.startswith("!"))
    taken = any(slow(p[1:].encode(), path) for p in patterns if p.startswith("!"))
    assert Patterns(patterns).matches(path) is (plain and not taken)


@given(st.lists(PLAIN_OR_NOT, max_size=4), PATH)
@example(["a/**", "!a/**/*b"], b"a/x/b")
def test_names_in_a_folder_match_as_whole_paths_do(patterns: list[str], path: bytes) -> None:
    chosen = Patterns(patterns)
    folder, slash, name = path.rpartition(b"/")
    names = chosen.names_in(folder + slash)
    assert (names is not None and names.fullmatch(name) is not None) is chosen.matches(path)


@given(st.lists(PLAIN_OR_NOT, max_size=4), PATH)
@example(["a/**", "!a/**/*b"], b"a/x/b")
@example(["a/**", "!a/**/*b"], b"a/x/b-")
@example(["a/*", "!a/*", "!a/*b"], b"a/x")
def test_endings_in_a_folder_match_as_whole_paths_do(patterns: list[str], path: bytes) -> None:
    chosen = Patterns(patterns)
    folder, slash, name = path.rpartition(b"/")
    endings = chosen.endings_in(folder + slash)
    if endings is not None:
        assert (not name.endswith(endings)) is chosen.matches(path)


@pytest.mark.parametrize(
    ("patterns", "folder", "endings"),
    [
        ("a/**", b"a/b/", ()),
        ("a/** !a/**/*.md !**/*.txt", b"a/b/", (b".md", b".txt")),
        ("a/** !a/*.md", b"a/b/", ()),
        ("a/** !a/**/README.md", b"a/b/", None),
        ("a/** !a/**/*.m?", b"a/b/", None),
        ("a/** !a/b/**", b"a/b/", None),
        ("a/**/*.sql", b"a/b/", None),
        ("a/**", b"b/", None),
    ],
)
def test_endings(patterns: str, folder: bytes, endings: tuple[bytes, ...] | None) -> None:
    assert Patterns(patterns.split()).endings_in(folder) == endings


@given(st.lists(PLAIN_OR_NOT, max_size=4), PATH)
def test_a_folder_that_counts_whole_holds_nothing_that_does_not_match(
    patterns: list[str], path: bytes
) -> None:
    found = Patterns(patterns)
    for folder in found.folders:
        assert found.matches(folder + b"/" + path)


@given(st.lists(PLAIN_OR_NOT, max_size=4), PATH)
def test_every_match_lies_where_it_is_looked_for(patterns: list[str], path: bytes) -> None:
    found = Patterns(patterns)
    looked_at = [*found.folders, *found.prefixes]
    below = b"" in looked_at or any(
        path == place or path.startswith(place + b"/") for place in looked_at
    )
    assert below or not found.matches(path)


@pytest.mark.parametrize(
    ("patterns", "folders", "prefixes"),
    [
        ("a/**", [b"a"], []),
        ("a/** a/b/**", [b"a"], []),
        ("a/** a/b/*.sql a/x", [b"a"], []),
        ("a/** ab/**", [b"a", b"ab"], []),
        ("a/** !b/**", [b"a"], []),
        ("a/** !a/b", [], [b"a"]),
        ("a/b/** !a/**", [], [b"a/b"]),
        ("a/** !**/*.md", [], [b"a"]),
        ("a/*.sql b/c", [], [b"a", b"b/c"]),
        ("a/x a/x/y", [], [b"a/x"]),
        ("**", [], [b""]),
        ("*.md a/*.sql", [], [b""]),
        ("a*/**", [], [b""]),
    ],
)
def test_what_is_looked_up(patterns: str, folders: list[bytes], prefixes: list[bytes]) -> None:
    found = Patterns(patterns.split())
    assert (list(found.folders), list(found.prefixes)) == (folders, prefixes)


def test_a_submodule_counts_by_its_path_and_by_what_would_be_below_it() -> None:
    for pattern in ("lib", "lib/**", "**", "*"):
        assert Patterns([pattern]).matches_link(b"lib"), pattern
    assert not Patterns(["lib/*.sql"]).matches_link(b"lib")
    assert not Patterns(["**", "!lib"]).matches_link(b"lib")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("x/*_*_*_*_*_*_*_*.py", b"x/" + b"_" * 4000 + b".sql", False),
        ("x/*_*_*_*_*_*_*_*.py", b"x/" + b"_" * 4000 + b".py", True),
        ("*a" * 60 + "b", b"a" * 4000, False),
        ("?*" * 60 + "b", b"a" * 4000, False),
        ("**/" * 60 + "b", b"a/" * 2000 + b"a", False),
        ("**/a/" * 60 + "b", b"a/" * 2000 + b"c", False),
        ("**/*a*a*/" * 30 + "**/b", b"aaaa/" * 1000 + b"c", False),
        ("**/*a*a*/" * 30 + "**", b"aaaa/" * 1000 + b"c", True),
    ],
)
def test_many_stars_take_no_time(pattern: str, path: bytes, expected: bool) -> None:
    with cpu_seconds():
        chosen = Patterns([pattern])
        assert chosen.matches(path) is expected
        assert Patterns(["**", f"!{pattern}"]).matches(path) is not expected
        folder, slash, name = path.rpartition(b"/")
        names = chosen.names_in(folder + slash)
        assert (names is not None and names.fullmatch(name) is not None) is expected


@pytest.mark.parametrize("pattern", ["a", "a/**", "**/a", "!a/*", "a/b c", "a-b/?", "...", "a/..b"])
def test_nothing_is_wrong_with(pattern: str) -> None:
    assert complaint(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "is empty"),
        ("!", "is empty"),
        ("/a", "starts with a slash"),
        ("!/a", "starts with a slash"),
        ("a/", "below a folder is a/**"),
        ("a//b", "empty"),
        ("./a", "segment"),
        ("a/../b", "segment"),
        ("a/**.sql", "be alone"),
        ("a**/b", "be alone"),
        ("***", "be alone"),
    ],
)
def test_something_is_wrong_with(pattern: str, words: str) -> None:
    assert words in (complaint(pattern) or "")


def slow(pattern: bytes, path: bytes) -> bool:
    """What docs/configuration.md says of path patterns, done segment by segment, byte by byte, by
    trying everything.
    """
    return _segments(tuple(pattern.split(b"/")), tuple(path.split(b"/")))


@cache
def _segments(pattern: tuple[bytes, ...], path: tuple[bytes, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == b"**":
        least = 1 if len(pattern) == 1 else 0
        return any(_segments(pattern[1:], path[taken:]) for taken in range(least, len(path) + 1))
    return bool(path) and _bytes(pattern[0], path[0]) and _segments(pattern[1:], path[1:])


@cache
def _bytes(pattern: bytes, name: bytes) -> bool:
    if not pattern:
        return not name
    if pattern[:1] == b"*":
        return any(_bytes(pattern[1:], name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and pattern[:1] in {b"?", name[:1]} and _bytes(pattern[1:], name[1:])
