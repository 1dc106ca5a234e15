"""Text of others, made safe to print: a terminal and a CI service's log act on control characters
and escape sequences.

Sequences: ECMA-48, and "XTerm Control Sequences" for what ends an operating system command.
"""

import re
import unicodedata
from collections.abc import Callable

Style = Callable[[str, str], str]
"""Colours a word (first) in a colour (second); without a terminal it returns the word."""

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = "\x1b[0m"

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # CSI: colours, the cursor, erasing
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f\n]*+(?:\x07|\x1b\\|\x9c)"  # OSC, DCS and the like
    r"|\x1b[ -/]++[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"  # single functions; what opens a longer sequence is shown instead
)


def plain(text: str) -> str:
    """The text without escape sequences, colours included. Other control characters stay."""
    return _SEQUENCE.sub("", text) if "\x1b" in text or not text.isprintable() else text


def visible(text: str) -> str:
    """Text on one line: control characters, line ends and invisible characters are shown as
    escapes, not obeyed.
    """
    if text.isprintable():
        return text
    return "".join(
        char if _harmless(char) else char.encode("unicode_escape").decode() for char in text
    )


def line(text: str, *, colour: bool) -> str:
    """A line of output as it may be printed: tabs stay, and colours where there are any; nothing
    else acts.

    A colour that is left on ends with the line.
    """
    if text.isprintable():
        return text
    if not colour:
        return _tabbed(plain(text))
    kept = _SEQUENCE.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", text)
    colours = _COLOUR.findall(kept)
    parts = [_tabbed(part) for part in _COLOUR.split(kept)]
    shown = "".join(part + code for part, code in zip(parts, [*colours, ""], strict=True))
    return shown + _RESET if colours and colours[-1] not in {_RESET, "\x1b[m"} else shown


def lines(text: str) -> list[str]:
    """A message of several lines as lines without escape sequences; other control characters are
    shown.
    """
    return [line(part, colour=False) for part in text.splitlines()]


def _tabbed(text: str) -> str:
    return "\t".join(map(visible, text.split("\t")))


def _harmless(char: str) -> bool:
    kind = unicodedata.category(char)
    return kind[0] != "C" and kind not in {"Zl", "Zp"}
