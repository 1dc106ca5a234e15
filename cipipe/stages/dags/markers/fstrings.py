"""f- and t-strings cut out of Python text, so that an older parser can
tokenize the rest.

PEP 701 (Python 3.12) lets f-strings nest quotes and contain comments, and
PEP 750 (3.14) adds t-strings. A tokenizer older than these misreads them,
and would misplace every marker behind them.
"""

import re

# How deep formatted strings may be nested here. Python itself stops at 150.
_DEEPEST = 50

_OPENING = re.compile(r"""#|\"{3}|'{3}|"|'""")
_PREFIX = re.compile(r"\w*\Z")
_PREFIXES = {"f", "t", "r", "b", "u", "fr", "rf", "tr", "rt", "br", "rb"}
_FORMATTED = re.compile(r"""(?<!\w)(?:[fFtT][rR]?|[rR][fFtT])["']""")

# The rest of a plain string behind its opening quotes, up to and including
# the closing ones.
_REST = {
    '"': re.compile(r'[^\\"\n]*(?:\\.[^\\"\n]*)*"', re.DOTALL),
    "'": re.compile(r"[^\\'\n]*(?:\\.[^\\'\n]*)*'", re.DOTALL),
    '"""': re.compile(r'[^\\"]*(?:(?:\\.|"(?!""))[^\\"]*)*"""', re.DOTALL),
    "'''": re.compile(r"[^\\']*(?:(?:\\.|'(?!''))[^\\']*)*'''", re.DOTALL),
}


def without_formatted_strings(text: str) -> str:
    """Put empty parentheses in place of f- and t-strings, of the same
    extent in rows and columns.

    Nothing is lost: no marker, and no literal that is replaced, is ever
    inside one. Raises ValueError where they are nested too deep.
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
            # An open triple-quoted string reaches to the end of the file.
            # An open f-string breaks the syntax; the tokenizer reports it
            # when it gets there.
            if len(opening.group()) > 1 and prefix.isdisjoint("ft"):
                break
            position = opening.end()
            continue

        position = end_of_string
        if not prefix.isdisjoint("ft"):
            start = opening.start() - len(prefix)
            inner = re.sub(r"[^\n]", " ", text[start + 1 : position - 1])
            parts += [text[done:start], "(", inner, ")"]
            done = position
    return "".join((*parts, text[done:]))


def _prefix(text: str, start: int) -> frozenset[str]:
    """The letters before the quotes at `start`, if they are a string prefix."""
    match = _PREFIX.search(text, max(0, start - 3), start)
    word = match.group().lower() if match else ""
    return frozenset(word) if word in _PREFIXES else frozenset()


def _string_end(text: str, start: int, depth: int = 0) -> int | None:
    """The end of the string with its opening quotes at `start`; None if it is not closed."""
    quote = text[start : start + 3] if text[start : start + 3] in _REST else text[start]
    prefix = _prefix(text, start)
    if prefix.isdisjoint("ft"):
        rest = _REST[quote].match(text, start + len(quote))
        return rest.end() if rest else None
    return _formatted_end(text, start + len(quote), quote, depth=depth + 1, raw="r" in prefix)


def _formatted_end(text: str, position: int, quote: str, depth: int, *, raw: bool) -> int | None:
    """The end of a formatted string; `position` is just behind its opening quotes (PEP 701)."""
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
            end = _field_end(text, position + 1, quote, strings=depth, raw=raw)
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
    # The braces of `\N{NAME}` are no field.
    if not raw and text.startswith("\\N{", position):
        return text.find("}", position) + 1 or len(text)
    # A backslash does not escape a brace: `\{x}` is a backslash and a
    # field.
    if text[position + 1 : position + 2] in {"{", "}"}:
        return position + 1
    return position + 2


def _field_end(text: str, position: int, quote: str, strings: int, *, raw: bool) -> int | None:
    """The end of a replacement field; `position` is just behind its opening
    brace.

    `strings` is the number of formatted strings around it.
    """
    _check(strings, text, position)
    brackets = 0
    in_format = False
    while position < len(text):
        character = text[position]
        if in_format:
            # Behind the colon the text is that of the string again, with
            # fields of its own.
            if character == "{":
                end = _field_end(text, position + 1, quote, strings=strings + 1, raw=raw)
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
            if brackets == 0 and character == "}":
                return position + 1
            brackets += (character in "([{") - (character in ")]}")
            in_format = brackets == 0 and character == ":"
            end = position + 1

        if end is None or end < 0:
            return None
        position = end
    return None
