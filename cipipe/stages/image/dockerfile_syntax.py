"""The syntax of Dockerfiles: logical lines, words, flags, and variables in
words.

Source: docs.docker.com/reference/dockerfile.
"""

import re
from collections.abc import Iterator, Mapping

HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
"""A word that starts a here-document."""

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*")
_MAY_HAVE_HEREDOCS = re.compile(r"\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s", re.IGNORECASE)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|\Z)")


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Logical lines, each with the number of its first line and the escape
    character.

    Lines that end in the escape character are joined; comments and blank
    lines between them do not count. Here-documents are skipped.
    """
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
    escape = "\\"
    # Directives are comments at the top of the file; the first other line
    # ends them.
    may_be_directive = True
    joined: list[str] = []
    first = 0

    for number, raw in lines:
        line = raw.removesuffix("\r")
        if may_be_directive:
            found = _DIRECTIVE.fullmatch(line.strip())
            may_be_directive = found is not None
            if found is not None and found[1].lower() == "escape" and found[2] in {"\\", "`"}:
                escape = found[2]
        if not line.strip() or line.lstrip().startswith("#"):
            continue

        first = first if joined else number
        stripped = line.rstrip(" \t")
        if stripped.endswith(escape) and not stripped.endswith(escape * 2):
            joined.append(stripped[:-1])
            continue
        instruction = re.sub(r"\A(\w+)\s+", r"\1 ", "".join([*joined, line]).strip())
        yield first, instruction, escape

        joined = []
        if _MAY_HAVE_HEREDOCS.match(instruction):
            for word in words_of(instruction, escape):
                if heredoc := HEREDOC.fullmatch(word):
                    end = re.sub(r"['\"\\]", "", heredoc[2])
                    _skip_heredoc(lines, end, tabs=bool(heredoc[1]))

    if joined:
        yield first, "".join(joined).strip(), escape


def without_frontend(body: bytes) -> bytes:
    """The Dockerfile without the directive `syntax`, which names the image that reads it. All
    lines keep their numbers, but for other directives.
    """
    lines = body.split(b"\n")
    directives = 0
    while directives < len(lines) and _DIRECTIVE.fullmatch(_text(lines[directives])):
        directives += 1
    is_syntax = [
        bool((found := _DIRECTIVE.fullmatch(_text(line))) and found[1].lower() == "syntax")
        for line in lines[:directives]
    ]
    kept = [line for line, named in zip(lines, is_syntax, strict=False) if not named]
    # A comment ends the directives, so it comes after them.
    return b"\n".join([*kept, *[b"#"] * sum(is_syntax), *lines[directives:]])


def _text(line: bytes) -> str:
    return line.decode(errors="surrogateescape").removeprefix("\ufeff").strip()


def _skip_heredoc(lines: Iterator[tuple[int, str]], end: str, *, tabs: bool) -> None:
    """`tabs`: it started with `<<-`, so tabs before the closing word do not count."""
    for _, raw in lines:
        line = raw.removesuffix("\r")
        if (line.lstrip("\t") if tabs else line) == end:
            return


def words_of(text: str, escape: str) -> list[str]:
    """A shell's words, with their quotes."""
    escaped = re.escape(escape)
    quoted = rf"\"(?:[^\"{escaped}]|{escaped}.)*+(?:\"|\Z)|'[^']*+(?:'|\Z)"
    return re.findall(rf"(?:[^\s\"'{escaped}]|{escaped}(?:.|\Z)|{quoted})+", text, re.DOTALL)


def flags_of(text: str) -> tuple[dict[str, list[str]], str]:
    """The values of the `--flags` that an instruction starts with, and the rest of it."""
    flags: dict[str, list[str]] = {}
    at = 0
    while found := _FLAG.match(text, at):
        flags.setdefault(found[1], []).append(found[2] or "")
        at = found.end()
    return flags, text[at:]


_MAX_WORD = 4096
"""Characters of an expanded word: `ENV A=$A$A`, line after line, doubles it each time."""

_PIECE = re.compile(
    r"""\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?:(?P<colon>:?)(?P<kind>[-+])(?P<word>[^{}$]*))?\})"""
    r"""|(?P<quote>["'])|(?P<other>.)""",
    re.DOTALL,
)


def expanded(word: str, known: Mapping[str, str], escape: str | None) -> str | None:
    """A word with its variables filled in; None if that is not possible.

    With an escape character its quotes are removed, too; without one (in
    JSON) there are none.
    """
    result = ""
    # The quote that is open: `"`, `'` or none.
    quote = ""
    at = 0
    while at < len(word):
        if escape is not None and word[at] == escape and quote != "'":
            result += word[at + 1 : at + 2]
            at += 2
            continue
        found = _PIECE.match(word, at)
        if found is None:
            return None
        at = found.end()

        name = found["name"] or found["braced"]
        if quote == "'" and found[0] != "'":
            result += found[0]
        elif name:
            value = _substituted(found, known.get(name))
            if value is None:
                return None
            result += value
        elif found["other"] == "$":
            return None
        elif found["quote"] and escape is not None and quote in {"", found[0]}:
            quote = "" if quote else found[0]
        else:
            result += found[0]
    return None if quote or len(result) > _MAX_WORD else result


def _substituted(found: "re.Match[str]", value: str | None) -> str | None:
    """The value of a variable in a word: `$A`, `${A:-word}`, `${A-word}`,
    `${A:+word}` or `${A+word}`.
    """
    # With a colon, an empty variable counts as one that is not set.
    is_set = bool(value) if found["colon"] else value is not None
    if found["kind"] == "-":
        return value if is_set else str(found["word"])
    if found["kind"] == "+":
        return str(found["word"]) if is_set else None
    return value
