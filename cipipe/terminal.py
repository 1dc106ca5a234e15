"""Makes text from elsewhere safe to print: terminals and the logs of CI
services act on control characters and escape sequences.

Sequences: ECMA-48, and "XTerm Control Sequences" for the end of an
operating system command.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

# Gives a word (first) a colour (second); without a terminal it returns the
# word.
Style = Callable[[str, str], str]


def unstyled(word: str, colour: str) -> str:  # noqa: ARG001 - a Style
    """The Style without colours."""
    return word


_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_RESET = "\x1b[0m"

_SEQUENCE = re.compile(
    # CSI: colours, the cursor, erasing.
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"
    # OSC, DCS and others with a text.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f\n]*+(?:\x07|\x1b\\|\x9c)"
    # Character sets.
    r"|\x1b[ -/]++[0-~]"
    # Single functions. The start of a longer sequence without its end is shown instead.
    r"|\x1b[0-OQ-WYZ\\`-~]"
)


def plain(text: str) -> str:
    """The text without escape sequences, colours included. Other control characters stay."""
    return _SEQUENCE.sub("", text) if "\x1b" in text or not text.isprintable() else text


def visible(text: str) -> str:
    """Text on one line: control characters, line ends and invisible
    characters become visible escapes.
    """
    if text.isprintable():
        return text
    return "".join(
        char if _harmless(char) else char.encode("unicode_escape").decode() for char in text
    )


def line(text: str, *, colour: bool) -> str:
    """A line of output as it may be printed: with its tabs and, with
    `colour`, its colours.

    A colour that is still on is reset at the end of the line.
    """
    if text.isprintable():
        return text
    if not colour:
        return _tabbed(plain(text))
    # Everything but colours is removed, then what is between the colours
    # made visible.
    kept = _SEQUENCE.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", text)
    colours = _COLOUR.findall(kept)
    parts = [_tabbed(part) for part in _COLOUR.split(kept)]
    shown = "".join(part + code for part, code in zip(parts, [*colours, ""], strict=True))
    return shown + _RESET if colours and colours[-1] not in {_RESET, "\x1b[m"} else shown


def lines(text: str) -> list[str]:
    """The lines of a message without escape sequences; other control characters become visible."""
    return [line(part, colour=False) for part in text.splitlines()]


def some(names: Iterable[str], most: int) -> str:
    """The first names on one line, and how many more there are."""
    every = list(names)
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")


def _tabbed(text: str) -> str:
    return "\t".join(map(visible, text.split("\t")))


def _harmless(char: str) -> bool:
    kind = unicodedata.category(char)
    return kind[0] != "C" and kind not in {"Zl", "Zp"}
