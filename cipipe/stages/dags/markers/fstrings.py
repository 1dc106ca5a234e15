"""f- and t-strings taken out of Python text, so that a parser older than their syntax can read the
rest.
"""

import re

_DEEPEST = 50
"""Formatted strings in each other. Python itself stops at 150."""

_OPENING = re.compile(r"""#|\"{3}|'{3}|"|'""")
_PREFIX = re.compile(r"\w*\Z")
_FORMATTED = re.compile(r"""(?<!\w)(?:[fFtT][rR]?|[rR][fFtT])["']""")
_REST = {
    '"': re.compile(r'[^\\"\n]*(?:\\.[^\\"\n]*)*"', re.DOTALL),
    "'": re.compile(r"[^\\'\n]*(?:\\.[^\\'\n]*)*'", re.DOTALL),
    '"""': re.compile(r'[^\\"]*(?:(?:\\.|"(?!""))[^\\"]*)*"""', re.DOTALL),
    "'''": re.compile(r"[^\\']*(?:(?:\\.|'(?!''))[^\\']*)*'''", re.DOTALL),
}


def without_formatted_strings(text: str) -> str:
    """Put empty parentheses in place of f- and t-strings.

    PEP 701 lets them nest quotes and hold comments, and PEP 750 adds a prefix: parsers older than
    these read them wrongly. No marker and no literal that we replace is ever inside one. Raises
    ValueError where they are nested too deep.
    """
    if not _FORMATTED.search(text):
        return text
    parts = []
    done = position = 0
    while opening := _OPENING.search(text, position):
        if opening.group() == "#":
            end = text.find("\n", opening.start())
            position = len(text) if end < 0 else end
            continue
        prefix = _prefix(text, opening.start())
        end_of_string = _string_end(text, opening.start())
        if end_of_string is None:
            if len(opening.group()) > 1 and prefix.isdisjoint("ft"):
                break  # it takes the rest of the text, whatever stands there
            position = opening.end()
            continue
        position = end_of_string
        if prefix and not prefix.isdisjoint("ft"):
            start = opening.start() - len(prefix)
            inner = re.sub(r"[^\n]", " ", text[start + 1 : position - 1])
            parts += [text[done:start], "(", inner, ")"]
            done = position
    return "".join((*parts, text[done:]))


def _prefix(text: str, start: int) -> frozenset[str]:
    match = _PREFIX.search(text, max(0, start - 3), start)
    word = match.group().lower() if match else ""
    return (
        frozenset(word)
        if word in {"f", "t", "r", "b", "u", "fr", "rf", "tr", "rt", "br", "rb"}
        else frozenset()
    )


def _string_end(text: str, start: int, depth: int = 0) -> int | None:
    """Where the string whose quotes begin at `start` ends; None if it does not."""
    quote = text[start : start + 3] if text[start : start + 3] in _REST else text[start]
    prefix = _prefix(text, start)
    if prefix.isdisjoint("ft"):
        rest = _REST[quote].match(text, start + len(quote))
        return rest.end() if rest else None
    return _formatted_end(text, start + len(quote), quote, depth + 1, raw="r" in prefix)


def _formatted_end(text: str, position: int, quote: str, depth: int, *, raw: bool) -> int | None:
    """Where a formatted string ends, `position` being just behind its opening quotes (PEP 701)."""
    _check(depth, text, position)
    while position < len(text):
        character = text[position]
        if text.startswith(quote, position):
            return position + len(quote)
        if character == "\n" and len(quote) == 1:
            return None
        if character == "\\":
            position = _escape_end(text, position, raw=raw)
        elif text.startswith("{{", position):
            position += 2
        elif character == "{":
            end = _field_end(text, position + 1, quote, depth, raw=raw)
            if end is None:
                return None
            position = end
        else:
            position += 1
    return None


def _check(depth: int, text: str, position: int) -> None:
    if depth > _DEEPEST:
        line = text.count("\n", 0, position) + 1
        message = f"line {line}: formatted strings nested more than {_DEEPEST} levels deep"
        raise ValueError(message)


def _escape_end(text: str, position: int, *, raw: bool) -> int:
    if not raw and text.startswith("\\N{", position):
        return text.find("}", position) + 1 or len(text)
    return position + 1 if text[position + 1 : position + 2] in {"{", "}"} else position + 2


def _field_end(text: str, position: int, quote: str, strings: int, *, raw: bool) -> int | None:
    """Where a replacement field ends, `position` being just behind its brace; `strings` is how deep
    it is in strings.
    """
    _check(strings, text, position)
    depth = 0
    specification = False
    while position < len(text):
        character = text[position]
        if specification:
            if character == "{":
                end = _field_end(text, position + 1, quote, strings + 1, raw=raw)
            elif character == "}":
                return position + 1
            elif text.startswith(quote, position):
                return None
            else:
                end = _escape_end(text, position, raw=raw) if character == "\\" else position + 1
        elif character in "\"'":
            end = _string_end(text, position, strings)
        elif character == "#":
            end = text.find("\n", position)
        else:
            if depth == 0 and character == "}":
                return position + 1
            depth += (character in "([{") - (character in ")]}")
            specification = depth == 0 and character == ":"
            end = position + 1
        if end is None or end < 0:
            return None
        position = end
    return None
