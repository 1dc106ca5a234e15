"""A Python file as text in which the byte offset of every character is
known.

Lines are split where Python splits them (LF, CRLF and a lone CR, nothing
else), so a position that `tokenize` reports can be turned into an offset
into the file, whatever its encoding.
"""

import io
import itertools
import re
import tokenize
from codecs import BOM_UTF8
from collections.abc import Iterator

import msgspec

from cipipe.stages.dags.markers.fstrings import without_formatted_strings

# Not `str.splitlines`: it also splits at form feeds, U+2028 and the like,
# where Python does not.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_BYTE_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class NotPythonError(ValueError):
    """The file is not Python in any version that we know of."""


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded file."""

    source: bytes
    encoding: str
    # Each line ends with LF, whatever the file has.
    lines: tuple[str, ...]
    # The byte offset of each line in `source`, and that of the end.
    starts: tuple[int, ...]
    # The line end of the first line: what new lines are written with.
    newline: str

    def offset(self, position: tuple[int, int]) -> int:
        """The byte offset of a `tokenize` position (row from 1, column from 0, in characters)."""
        row, column = position
        return self.starts[row - 1] + len(self.lines[row - 1][:column].encode(self.encoding))

    def between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        """The text between two positions, with LF at the end of each line."""
        first_row, first_column = start
        last_row, last_column = end
        if first_row == last_row:
            return self.lines[first_row - 1][first_column:last_column]

        first = self.lines[first_row - 1][first_column:]
        middle = self.lines[first_row : last_row - 1]
        last = self.lines[last_row - 1][:last_column]
        return "".join((first, *middle, last))

    def tokens(self) -> Iterator[tokenize.TokenInfo]:
        """The tokens; a formatted string appears as empty parentheses of
        the same extent.

        Raises NotPythonError.
        """
        try:
            text = without_formatted_strings("".join(self.lines))
        except ValueError as error:
            raise NotPythonError(str(error)) from error

        # With one more LF, a last line without a line end is tokenized like
        # every other line.
        reader = io.StringIO(text + "\n", newline="\n")
        try:
            for token in tokenize.generate_tokens(reader.readline):
                # Python 3.11 reports an open string as an ERRORTOKEN and
                # goes on; later ones raise.
                if token[0] == tokenize.ERRORTOKEN and token.string[:1] in {'"', "'"}:
                    raise NotPythonError(f"line {token.start[0]}: a string is not closed")
                yield token
        except (tokenize.TokenError, SyntaxError) as error:
            raise NotPythonError(str(error.args[0])) from error


def decode(source: bytes) -> Text:
    """Decode a file as Python does (PEP 263: byte-order mark, then coding
    line, else UTF-8).

    Raises NotPythonError.
    """
    start = len(BOM_UTF8) if source.startswith(BOM_UTF8) else 0
    byte_lines = (match.group() for match in _BYTE_LINE.finditer(source))
    try:
        encoding, _ = tokenize.detect_encoding(lambda: next(byte_lines, b""))
        # `utf-8-sig` would write a second byte-order mark: the first one is
        # skipped by `start`.
        encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        text = source[start:].decode(encoding)
        # Offsets are found by encoding the text before: that must produce
        # the same bytes.
        if text.encode(encoding) != source[start:]:
            raise NotPythonError(f"decoding it from {encoding} and encoding it again changes it")
    except (SyntaxError, LookupError, UnicodeError) as error:
        raise NotPythonError(str(error)) from error

    lines = _LINE.findall(text)
    sizes = (len(line.encode(encoding)) for line in lines)
    return Text(
        source=source,
        encoding=encoding,
        lines=tuple(_with_line_feed(line) for line in lines),
        starts=tuple(itertools.accumulate(sizes, initial=start)),
        newline=_line_end(lines[0]) if lines else "\n",
    )


def _line_end(line: str) -> str:
    if line.endswith("\r\n"):
        return "\r\n"
    return line[-1] if line.endswith(("\r", "\n")) else "\n"


def _with_line_feed(line: str) -> str:
    return line.rstrip("\r\n") + "\n" if line.endswith(("\r", "\n")) else line
