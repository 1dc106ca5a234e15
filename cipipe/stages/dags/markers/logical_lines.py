"""Logical lines of a Python file: their tokens, their comments, and the
names that they bind.

Works on tokens alone and not on a syntax tree, so that syntax newer than
the running Python does not matter.
"""

import itertools
import keyword
import tokenize
from collections.abc import Iterable, Iterator

import msgspec

Tokens = list[tokenize.TokenInfo]

# What opens a block. `match` and `case` are not reserved words, and may be
# names: see `_is_case`.
COMPOUND = frozenset(
    {
        *("if", "elif", "else"),
        *("for", "while"),
        *("try", "except", "finally"),
        *("with", "async", "def", "class"),
    },
)
_STRUCTURE = frozenset(
    {
        *(tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.NEWLINE, tokenize.NL),
        *(tokenize.ENCODING, tokenize.ENDMARKER),
    }
)
_AUGMENTED = frozenset(
    {"+=", "-=", "*=", "/=", "//=", "%=", "@=", "&=", "|=", "^=", ">>=", "<<=", "**="}
)
_OPENING = frozenset({"(", "[", "{"})
_CLOSING = frozenset({")", "]", "}"})


class LogicalLine(msgspec.Struct, frozen=True):
    """One logical line of a file: a statement, or several with semicolons."""

    # Empty where there are only comments.
    tokens: Tokens
    # Those on lines of their own before it, those between its tokens, and
    # the one behind it.
    comments: Tokens
    # Whether it is indented.
    block: bool
    # Whether it is inside a function or a class, where assigning binds no
    # name of the module.
    local: bool

    @property
    def trailing(self) -> tokenize.TokenInfo | None:
        """The comment at the end of the last physical line."""
        if not self.tokens or not self.comments:
            return None
        last = self.comments[-1]
        return last if last.start[0] == self.tokens[-1].end[0] else None


def logical_lines(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[LogicalLine]:
    """Group the tokens of a file into logical lines."""
    blocks: list[bool] = []
    line: Tokens = []
    comments: Tokens = []
    opens_local = False
    for token in tokens:
        # Nearly all tokens take the first branch, so its cost is the cost
        # of a file. An index is faster than the attribute.
        kind = token[0]
        if kind not in _STRUCTURE:
            line.append(token)
        elif kind == tokenize.INDENT:
            blocks.append(opens_local)
        elif kind == tokenize.DEDENT:
            blocks.pop()
        elif kind == tokenize.COMMENT:
            comments.append(token)
        elif kind == tokenize.NEWLINE or not line:
            if line:
                words = [word.string for word in line[:2]]
                opens_local = words[0] in {"def", "class"} or words == ["async", "def"]
            if line or comments:
                yield LogicalLine(line, comments, block=bool(blocks), local=any(blocks))
                line = []
                comments = []

    if comments:
        yield LogicalLine([], comments, block=bool(blocks), local=any(blocks))


def outermost(tokens: Tokens, *wanted: str) -> list[int]:
    """The indexes of operators and keywords outside of all brackets."""
    depth = 0
    found = []
    for index, token in enumerate(tokens):
        if token.type not in {tokenize.OP, tokenize.NAME}:
            continue
        if token.string in _OPENING:
            depth += 1
        elif token.string in _CLOSING:
            depth -= 1
        elif depth == 0 and token.string in wanted:
            found.append(index)
    return found


def bound(line: LogicalLine) -> Iterator[tokenize.TokenInfo]:
    """The names that a logical line binds at module level, as the tokens that bind them."""
    if line.local:
        if line.tokens and line.tokens[0].string == "global":
            yield from _names(line.tokens[1:])
        return

    for part in _simple_parts(line):
        if line.block and _is_case(part):
            yield from _captured(part[1:])
        else:
            yield from _bound_by(part)
        for name, operator in itertools.pairwise(part):
            if operator.string == ":=":
                yield name


def _simple_parts(line: LogicalLine) -> Iterator[Tokens]:
    """The statements of a line: those between semicolons, and what is
    behind the colon of an `if`.

    The body of a `def` or `class` on the same line is left out: it binds
    local names.
    """
    tokens = line.tokens
    start = 0
    for end in [*outermost(tokens, ";"), len(tokens)]:
        part = tokens[start:end]
        start = end + 1

        opens = part and (part[0].string in COMPOUND or (line.block and _is_case(part)))
        if opens and (colons := outermost(part, ":")):
            yield part[: colons[0]]
            defines = {"def", "class"}.intersection(token.string for token in part[:2])
            part = [] if defines else part[colons[0] + 1 :]
        if part:
            yield part


def _bound_by(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    words = [token.string for token in part]
    if words[0] == "async":
        part = part[1:]
        words = words[1:]
    if not words:
        return
    match words[0]:
        case "def" | "class":
            yield from part[1:2]
        case "for":
            yield from _names(part[1 : words.index("in") if "in" in words else None])
        case "import" | "from":
            yield from _imported(part)
        case "with" | "except":
            yield from _behind_as(part)
        case "del":
            yield from _names(part[1:])
        case _:
            yield from _assigned(part)


def _assigned(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    # The `=` of a lambda's default argument is no assignment.
    lambdas = [*outermost(part, "lambda"), len(part)]
    equals = outermost(part[: lambdas[0]], "=", *_AUGMENTED)

    annotated = len(part) > 1 and part[1].string == ":"
    if annotated and equals:
        yield part[0]
    elif equals and not annotated:
        yield from _names(part[: equals[-1]])


def _behind_as(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    for index, token in enumerate(part):
        if token.string == "as":
            yield from _names(_up_to_comma(part, index + 1))


def _up_to_comma(tokens: Tokens, start: int) -> Tokens:
    """The target behind an `as`: up to a comma, another `as`, or the closing bracket around it."""
    depth = 0
    for index in range(start, len(tokens)):
        text = tokens[index].string
        depth += (text in _OPENING) - (text in _CLOSING)
        if depth < 0 or text == "as" or (depth == 0 and text == ","):
            return tokens[start:index]
    return tokens[start:]


def _is_case(part: Tokens) -> bool:
    """Whether a line of a block is a `case` of `match`, and does not use a name `case`."""
    if len(part) < 2 or part[0].string != "case":
        return False
    first = part[1]
    return first.type != tokenize.OP or first.string in {*_OPENING, "-", "*"}


def _captured(pattern: Tokens) -> Iterator[tokenize.TokenInfo]:
    """The names that a pattern binds: no classes, no attributes, nothing of the guard."""
    guard = outermost(pattern, "if")
    pattern = pattern[: guard[0]] if guard else pattern
    for index, token in enumerate(pattern):
        before = pattern[index - 1].string if index else ""
        after = pattern[index + 1].string if index + 1 < len(pattern) else ""
        if _is_name(token) and before != "." and after not in {".", "(", "="}:
            yield token


def _imported(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    words = [token.string for token in part]
    start = words.index("import") + 1 if "import" in words else len(words)
    names = [token for token in part[start:] if token.string not in "()"]

    # `a.b as c` binds c, `a.b` binds a. None ends the last item.
    item: Tokens = []
    for token in [*names, None]:
        if token is not None and token.string != ",":
            item.append(token)
        elif item:
            yield item[-1] if any(word.string == "as" for word in item) else item[0]
            item = []


def _names(tokens: Tokens) -> Iterator[tokenize.TokenInfo]:
    """Plain names among targets: no attributes, nothing subscripted or called, no subscripts."""
    skip = 0
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        after = tokens[index + 1].string if index + 1 < len(tokens) else ""
        attribute = before is not None and before.string == "."
        trailer = before is not None and (_is_name(before) or before.string in {")", "]"})
        if skip:
            skip += (token.string in {"(", "["}) - (token.string in {")", "]"})
        elif token.string in {"(", "["} and trailer:
            skip = 1
        elif _is_name(token) and not attribute and after not in {".", "(", "["}:
            yield token


def _is_name(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.NAME and not keyword.iskeyword(token.string)
