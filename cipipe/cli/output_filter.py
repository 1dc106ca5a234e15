"""The filter that all output passes: secrets are masked, and text is only
ever text.

Escape sequences are removed, and so is what a CI service would execute.
Only the lines that a provider makes itself (to fold, to warn, to mask) are
printed as they are.
"""

import contextlib
import io
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from cipipe import terminal
from cipipe.ci import Provider
from cipipe.redact import Redactor

# A string of a JSON document, with the colon that makes it a key.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"(\s*+:)?')

# What the keys of our own documents look like. Other keys may come from
# anywhere.
_OWN_KEY = re.compile(r"[a-z_]{1,40}")

# A `##[` of GitHub's runner, which also ignores characters outside of ASCII
# in it.
_COMMAND = re.compile(r"#(?=[^\x00-\x7f]*+#[^\x00-\x7f]*+\[)")


class Filter:
    """Makes text safe to print in a job of `provider`.

    `redactor` is called each time, because a command may replace the
    console's.
    """

    def __init__(self, provider: Provider, redactor: Callable[[], Redactor]) -> None:
        self._provider = provider
        self._redactor = redactor

    def text(self, text: str, *, colour: bool = False) -> str:
        """Text of any number of lines."""
        masked = self._redactor().text(text)
        return "\n".join(self._line(line, colour=colour) for line in masked.split("\n"))

    def titled(self, text: str) -> str:
        """Text, of one line or more, that becomes part of a line that the provider makes."""
        return self._redactor().text("\n".join(terminal.lines(self._redactor().text(text))))

    def json(self, document: str) -> str:
        """A JSON document that decodes to the same values, but for what is
        masked in its strings.

        Keys that are the document's own stay as they are, and so do
        numbers, `true` and `null`.
        """
        return _STRING.sub(self._string, document)

    def _line(self, text: str, *, colour: bool) -> str:
        shown = terminal.line(text.removesuffix("\r"), colour=colour)
        if shown != text:
            # A secret that an escape sequence interrupted is in one piece
            # now.
            shown = self._redactor().text(shown)
        return self._provider.inert(shown)

    def _string(self, found: re.Match[str]) -> str:
        literal = found[0].removesuffix(found[1] or "")
        colon = found[1] or ""
        value = literal[1:-1]
        plain = value.isprintable() and not {"\\", "#"} & set(value)
        if plain and self._redactor().text(value) == value:
            return found[0]
        value = json.loads(literal, strict=False)
        if not (colon and _OWN_KEY.fullmatch(value)):
            value = self._redactor().text(value)
        written = json.dumps(value, ensure_ascii=False)
        # Escaped where a provider, a terminal or a reader of lines would
        # not take it for text.
        shown = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in written)
        return _COMMAND.sub(r"\\u0023", shown) + colon


class Log(io.TextIOBase):
    """Standard error, line by line and filtered. A write never fails.

    A log that nobody reads any more, or a full disk, must not stop a
    deployment half-way.
    """

    def __init__(self, filtered: Callable[[str], str]) -> None:
        self._filtered = filtered
        self._lock = threading.RLock()
        self._pending = ""
        self._real: TextIO | None = None

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace `sys.stderr`, to filter what Python, threads and libraries print as well."""
        self._real = sys.stderr
        try:
            with contextlib.redirect_stderr(self):
                yield
        finally:
            self.flush()
            self._real = None

    def write(self, text: str) -> int:
        """Print whole lines; the rest follows when its line ends, or when it is flushed."""
        with self._lock:
            whole, newline, self._pending = (self._pending + text).rpartition("\n")
            if newline:
                self._print(self._filtered(whole) + "\n")
        return len(text)

    def flush(self) -> None:
        """Print what has no line end yet, such as a question."""
        with self._lock:
            if self._pending:
                self._print(self._filtered(self._pending))
                self._pending = ""

    def own(self, lines: str) -> None:
        """Print lines that the provider made, as they are."""
        with self._lock:
            self._print(lines + "\n")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def _stream(self) -> TextIO:
        return self._real or sys.stderr

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
