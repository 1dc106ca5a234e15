"""A Python file as text of which every character's byte is known.

Lines are split where Python splits them (LF, CRLF and lone CR, nothing else), so a position that
`tokenize` reports can be turned into an offset into the file, whatever its encoding.
"""

import io
import itertools
import re
import tokenize
from codecs import BOM_UTF8
from collections.abc import Iterator

import msgspec

from cipipe.stages.dags.markers.fstrings import without_formatted_strings

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_BYTE_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class NotPythonError(ValueError):
    """The file cannot be read as Python by any version that we know of."""


class Text(msgspec.Struct, frozen=True):
    """A decoded file. `lines` end in LF only; `starts` holds each line's offset in bytes."""

    source: bytes
    encoding: str
    lines: tuple[str, ...]
    starts: tuple[int, ...]
    newline: str

    def offset(self, position: tuple[int, int]) -> int:
        """The byte offset of a `tokenize` position (row from 1, column from 0, in characters)."""
        row, column = position
        return self.starts[row - 1] + len(self.lines[row - 1][:column].encode(self.encoding))

    def between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        """The text between two positions, lines ending in LF."""
        if start[0] == end[0]:
            return self.lines[start[0] - 1][start[1] : end[1]]
        middle = self.lines[start[0] : end[0] - 1]
        return "".join(
            (self.lines[start[0] - 1][start[1] :], *middle, self.lines[end[0] - 1][: end[1]])
        )

    def tokens(self) -> Iterator[tokenize.TokenInfo]:
        """The tokens, formatted strings standing as empty parentheses of the same extent. Raises
        NotPythonError.
        """
        try:
            text = without_formatted_strings("".join(self.lines))
        except ValueError as error:
            raise NotPythonError(str(error)) from error
        try:
            for token in tokenize.generate_tokens(io.StringIO(text + "\n", newline="\n").readline):
                if token[0] == tokenize.ERRORTOKEN and token.string[:1] in {'"', "'"}:
                    raise NotPythonError(f"line {token.start[0]}: a string that does not end")
                yield token
        except (tokenize.TokenError, SyntaxError) as error:
            raise NotPythonError(str(error.args[0])) from error


def decode(source: bytes) -> Text:
    """Decode a file as Python would (PEP 263: byte-order mark, then coding line, else UTF-8).
    Raises NotPythonError.
    """
    start = len(BOM_UTF8) if source.startswith(BOM_UTF8) else 0
    byte_lines = (match.group() for match in _BYTE_LINE.finditer(source))
    try:
        encoding, _ = tokenize.detect_encoding(lambda: next(byte_lines, b""))
        encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        text = source[start:].decode(encoding)
        if text.encode(encoding) != source[start:]:
            raise NotPythonError(f"it does not survive decoding from {encoding} and encoding again")
    except (SyntaxError, LookupError, UnicodeError) as error:
        raise NotPythonError(str(error)) from error
    lines = _LINE.findall(text)
    starts = tuple(
        itertools.accumulate((len(line.encode(encoding)) for line in lines), initial=start)
    )
    first = lines[0] if lines else ""
    newline = (
        "\r\n" if first.endswith("\r\n") else first[-1:] if first.endswith(("\r", "\n")) else "\n"
    )
    return Text(source, encoding, tuple(_with_line_feed(line) for line in lines), starts, newline)


def _with_line_feed(line: str) -> str:
    return line.rstrip("\r\n") + "\n" if line.endswith(("\r", "\n")) else line
