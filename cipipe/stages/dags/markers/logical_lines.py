"""Logical lines of a Python file: their tokens, their comments, and the names that they bind.

Works on tokens alone, so that syntax newer than the running parser is no obstacle.
"""

import itertools
import keyword
import tokenize
from collections.abc import Iterable, Iterator

import msgspec

Tokens = list[tokenize.TokenInfo]

COMPOUND = frozenset(
    {
        "if",
        "elif",
        "else",
        "for",
        "while",
        "try",
        "except",
        "finally",
        "with",
        "async",
        "def",
        "class",
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


class LogicalLine(msgspec.Struct, frozen=True):
    """One logical line. `tokens` is empty where only comments stand. `block`: indented; `local`: in
    a def or class.
    """

    tokens: Tokens
    comments: Tokens
    block: bool
    local: bool

    @property
    def trailing(self) -> tokenize.TokenInfo | None:
        """The comment on the last physical line."""
        if self.tokens and self.comments and self.comments[-1].start[0] == self.tokens[-1].end[0]:
            return self.comments[-1]
        return None


def logical_lines(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[LogicalLine]:
    """Group tokens into logical lines."""
    blocks: list[bool] = []
    line: Tokens = []
    comments: Tokens = []
    opens_local = False
    for token in tokens:
        kind = token[0]
        if kind not in _STRUCTURE:  # nearly all of them: what a file costs is what this costs
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
                line, comments = [], []
    if comments:
        yield LogicalLine([], comments, block=bool(blocks), local=any(blocks))


def outermost(tokens: Tokens, *wanted: str) -> list[int]:
    """The indexes of operators and keywords that stand outside all brackets."""
    depth = 0
    found = []
    for index, token in enumerate(tokens):
        if token.type not in {tokenize.OP, tokenize.NAME}:
            continue
        if token.string in {"(", "[", "{"}:
            depth += 1
        elif token.string in {")", "]", "}"}:
            depth -= 1
        elif depth == 0 and token.string in wanted:
            found.append(index)
    return found


def bound(statement: LogicalLine) -> Iterator[tokenize.TokenInfo]:
    """The names that a logical line binds at module level, as the tokens where it does so."""
    if statement.local:
        if statement.tokens and statement.tokens[0].string == "global":
            yield from _names(statement.tokens[1:])
        return
    for part in _simple_parts(statement):
        yield from _captured(part[1:]) if statement.block and _is_case(part) else _bound_by(part)
        for name, operator in itertools.pairwise(part):
            if operator.string == ":=":
                yield name


def _simple_parts(statement: LogicalLine) -> Iterator[Tokens]:
    tokens = statement.tokens
    start = 0
    for end in [*outermost(tokens, ";"), len(tokens)]:
        part = tokens[start:end]
        start = end + 1
        opens = part and (part[0].string in COMPOUND or (statement.block and _is_case(part)))
        if opens and (colons := outermost(part, ":")):
            yield part[: colons[0]]
            defines = {"def", "class"}.intersection(token.string for token in part[:2])
            part = [] if defines else part[colons[0] + 1 :]
        if part:
            yield part


def _bound_by(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    words = [token.string for token in part]
    if words[0] == "async":
        part, words = part[1:], words[1:]
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
    lambdas = [*outermost(part, "lambda"), len(part)]
    equals = outermost(part[: lambdas[0]], "=", *_AUGMENTED)
    if len(part) > 1 and part[1].string == ":":
        yield from part[:1] if equals else ()
    elif equals:
        yield from _names(part[: equals[-1]])


def _behind_as(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    for index, token in enumerate(part):
        if token.string == "as":
            yield from _names(_up_to_comma(part, index + 1))


def _up_to_comma(tokens: Tokens, start: int) -> Tokens:
    """The target behind an `as`: up to a comma or another `as`, or to the end of the brackets that
    it stands in.
    """
    depth = 0
    for index in range(start, len(tokens)):
        text = tokens[index].string
        depth += (text in {"(", "[", "{"}) - (text in {")", "]", "}"})
        if depth < 0 or text == "as" or (depth == 0 and text == ","):
            return tokens[start:index]
    return tokens[start:]


def _is_case(part: Tokens) -> bool:
    """Whether a line of a block is a `case` of `match`, and not a use of the name `case`."""
    if len(part) < 2 or part[0].string != "case":
        return False
    first = part[1]
    return first.type != tokenize.OP or first.string in {"(", "[", "{", "-", "*"}


def _captured(pattern: Tokens) -> Iterator[tokenize.TokenInfo]:
    """The names that a pattern binds: not classes, their attributes, or what has a dot; nor what a
    guard says.
    """
    guard = outermost(pattern, "if")
    pattern = pattern[: guard[0]] if guard else pattern
    for index, token in enumerate(pattern):
        before = pattern[index - 1] if index else None
        after = pattern[index + 1] if index + 1 < len(pattern) else None
        dotted = before is not None and before.string == "."
        if (
            _is_name(token)
            and not dotted
            and (after is None or after.string not in {".", "(", "="})
        ):
            yield token


def _imported(part: Tokens) -> Iterator[tokenize.TokenInfo]:
    words = [token.string for token in part]
    start = words.index("import") + 1 if "import" in words else len(words)
    names = [token for token in part[start:] if token.string not in "()"]
    item: Tokens = []
    for token in [*names, None]:
        if token is not None and token.string != ",":
            item.append(token)
        elif item:
            yield item[-1] if any(word.string == "as" for word in item) else item[0]
            item = []


def _names(tokens: Tokens) -> Iterator[tokenize.TokenInfo]:
    """Plain names among targets: not attributes, not what is subscripted or called, not what is in
    a subscript.
    """
    skip = 0
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        after = tokens[index + 1].string if index + 1 < len(tokens) else ""
        trailer = before is not None and (_is_name(before) or before.string in {")", "]"})
        if skip:
            skip += (token.string in {"(", "["}) - (token.string in {")", "]"})
        elif token.string in {"(", "["} and trailer:
            skip = 1
        elif (
            _is_name(token)
            and after not in {".", "(", "["}
            and (before is None or before.string != ".")
        ):
            yield token


def _is_name(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.NAME and not keyword.iskeyword(token.string)
