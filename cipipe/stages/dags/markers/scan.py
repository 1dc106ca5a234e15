"""Find the markers `# cipipe: NAME` in a file, and the literal that each of
them replaces.

Everything here is known from the file alone; the outputs come in later, in
`patch`.
"""

import re
import textwrap
import tokenize
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from cipipe.errors import Problem
from cipipe.stages.dags.markers.defaults import RuleError, evaluate, expected_value
from cipipe.stages.dags.markers.limits import LARGEST, too_large
from cipipe.stages.dags.markers.logical_lines import (
    COMPOUND,
    LogicalLine,
    Tokens,
    bound,
    logical_lines,
    outermost,
)
from cipipe.stages.dags.markers.text import NotPythonError, Text, decode
from cipipe.stages.dags.markers.values import ExpectedValue

EXAMPLE = 'such as `CLUSTER = "local"  # cipipe: ecs_cluster_name`'

# A quick look at the bytes, in any encoding: a file that does not match has
# no marker. Blanks need not be ASCII, such as the no-break space that
# editors and chats leave.
_MAY_HAVE_MARKER = re.compile(rb"#[^!-~\r\n]*cipipe[^!-~\r\n]*:", re.IGNORECASE)

# The possessive quantifiers keep these linear, whatever the comment
# contains.
_MARKER = re.compile(r"#\s*+cipipe\s*+:(?P<rest>[^#]*)", re.IGNORECASE)
_REST = re.compile(
    r"\s*+(?P<output>[^\W\d][\w-]*+(?:\.[\w-]++)?)\s*+"
    r"(?P<sensitive>\(\s*+sensitive\s++ok\s*+\))?\s*+"
)


class Marker(msgspec.Struct, frozen=True):
    """A marker as it is written in a file."""

    # The output that it names.
    output: str
    # The file, by whatever name the caller uses.
    path: str
    line: int
    # Whether a sensitive value may be written into the file.
    sensitive_ok: bool

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A literal that a marker replaces."""

    marker: Marker
    # The name that it is assigned to.
    name: str
    # Offsets of the literal in the file, in bytes.
    start: int
    end: int
    # Where the literal starts in its line, in characters.
    column: int
    # Its source text, with LF as line end.
    literal: str
    expected: ExpectedValue


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a file."""

    # None where the file has no markers, or cannot be parsed: it is not to
    # be changed.
    text: Text | None
    # All markers, also those that break a rule.
    markers: tuple[Marker, ...] = ()
    targets: tuple[Target, ...] = ()
    problems: tuple[Problem, ...] = ()


def scan(source: bytes, path: str) -> Scan:
    """Find the markers of a file, and check the rules for each. What is wrong is in the result."""
    if not _MAY_HAVE_MARKER.search(source):
        return Scan(text=None)
    if len(source) > LARGEST:
        return Scan(text=None, problems=(too_large(path, "has markers, and is"),))
    try:
        text = decode(source)
        lines = list(logical_lines(text.tokens()))
    except NotPythonError as error:
        return Scan(text=None, problems=(_not_python(error, path),))

    found: list[Marker] = []
    targets: list[tuple[Target, LogicalLine]] = []
    problems: list[Problem] = []
    for line in lines:
        for comment in line.comments:
            rests = [match["rest"] for match in _MARKER.finditer(comment.string)]
            if not rests:
                continue
            row = comment.start[0]
            try:
                marker = _parse(rests, path, row)
                found.append(marker)
                targets.append((_target(marker, line, comment, text=text), line))
            except RuleError as error:
                problems.append(Problem(error.slug, str(error), f"{path}:{row}", hint=error.hint))

    if targets:
        problems += _reassigned(targets, lines)
    return Scan(
        text=text,
        markers=tuple(found),
        targets=tuple(target for target, _ in targets),
        problems=tuple(problems),
    )


def markers(source: bytes, path: str) -> list[Marker]:
    """The markers of a file that can be parsed, misplaced ones included."""
    return list(scan(source, path).markers)


def _not_python(error: NotPythonError, path: str) -> Problem:
    return Problem(
        "dag-not-python",
        f"cannot be read as Python: {error}",
        path,
        hint="A file with markers has to be valid Python; without markers it is uploaded as it is.",
    )


def _parse(rests: list[str], path: str, line: int) -> Marker:
    """The marker of a comment; `rests` is the text behind each `cipipe:` in it."""
    rest = rests[0]
    if len(rests) > 1:
        raise RuleError(
            "dag-marker-syntax",
            f"there are {len(rests)} markers behind one value",
            "A value comes from one output: leave one marker, or split the assignment.",
        )
    match = _REST.fullmatch(rest)
    if match is None:
        raise RuleError(
            "dag-marker-syntax",
            f"the marker `# cipipe:{textwrap.shorten(rest, 80)}` does not name one output",
            "Write `# cipipe: NAME`, or `# cipipe: NAME (sensitive ok)`;"
            " other remarks go behind a further `#`.",
        )
    return Marker(match["output"], path, line, sensitive_ok=match["sensitive"] is not None)


def _target(marker: Marker, line: LogicalLine, comment: tokenize.TokenInfo, text: Text) -> Target:
    _check_place(line, comment)
    name, annotation, value = _assignment(line.tokens)
    value = _without_parentheses(value)

    start = value[0].start
    end = value[-1].end
    literal = text.between(start, end)
    note = text.between(annotation[0].start, annotation[-1].end) if annotation else ""
    return Target(
        marker=marker,
        name=name,
        start=text.offset(start),
        end=text.offset(end),
        column=start[1],
        literal=literal,
        expected=expected_value(evaluate(literal), note),
    )


def _check_place(line: LogicalLine, comment: tokenize.TokenInfo) -> None:
    """Raise RuleError where the marker is not at the end of a statement of its own."""
    tokens = line.tokens
    if comment is not line.trailing:
        raise RuleError(
            "dag-marker-misplaced",
            "the marker is not at the end of an assignment"
            + (": it is inside one" if tokens else ""),
            f"It belongs on the last line of an assignment, {EXAMPLE}.",
        )
    if line.block or tokens[0].string in COMPOUND:
        raise RuleError(
            "dag-marker-in-block",
            "the marker is inside a block (function, class, if, with, …)",
            "Assign the value at the top of the module, without indentation,"
            " and use the name in the block.",
        )
    if outermost(tokens, ";"):
        raise RuleError(
            "dag-marker-semicolon",
            "the marker is on a line with several statements",
            "One statement on the line, without `;`.",
        )


def _assignment(tokens: Tokens) -> tuple[str, Tokens, Tokens]:
    """Name, annotation and value of `NAME = value` or `NAME: annotation = value`."""
    equals = outermost(tokens, "=")
    if not equals or equals[0] == len(tokens) - 1:
        raise RuleError(
            "dag-marker-misplaced",
            "the marker is on a line that assigns nothing with `=`",
            f"It belongs on an assignment, {EXAMPLE}.",
        )

    # `A = B = 1` is chained; `A = lambda b=1: b` is not: that is the
    # default of an argument.
    between = tokens[equals[0] : equals[1]] if len(equals) > 1 else []
    chained = bool(between) and not any(token.string == "lambda" for token in between)
    first = tokens[0]
    if first.type != tokenize.NAME or tokens[1].string not in {"=", ":"} or chained:
        raise RuleError(
            "dag-marker-target",
            "the marked assignment does not have one plain name as its only target",
            "Give the value a line of its own: `NAME = literal  # cipipe: output`.",
        )
    return first.string, tokens[2 : equals[0]], tokens[equals[0] + 1 :]


def _without_parentheses(value: Tokens) -> Tokens:
    """What is inside redundant parentheses. They, and what else they enclose, stay in the file."""
    closing: dict[int, int] = {}
    tuples = set()
    opened: list[int] = []
    for index, token in enumerate(value):
        if token.string in {"(", "[", "{"}:
            opened.append(index)
        elif opened and token.string in {")", "]", "}"}:
            closing[opened.pop()] = index
        elif opened and token.string == ",":
            tuples.add(opened[-1])

    first = 0
    last = len(value) - 1
    while (
        last - first > 1
        and value[first].string == "("
        and closing.get(first) == last
        and first not in tuples
    ):
        first += 1
        last -= 1
    return value[first : last + 1]


def _reassigned(
    targets: list[tuple[Target, LogicalLine]], lines: list[LogicalLine]
) -> Iterator[Problem]:
    """Marked names that the module binds a second time: the marker would not decide their value."""
    wanted = {target.name for target, _ in targets}
    bindings: dict[str, list[tuple[tokenize.TokenInfo, LogicalLine]]] = defaultdict(list)
    for line in lines:
        # Few lines mention a marked name, and `bound` is slow.
        if wanted.isdisjoint([token[1] for token in line.tokens]):
            continue
        for token in bound(line):
            bindings[token.string].append((token, line))

    for target, own in targets:
        other = next((token for token, line in bindings[target.name] if line is not own), None)
        if other is not None:
            yield Problem(
                "dag-name-reassigned",
                f"{target.name} gets another value on line {other.start[0]}",
                target.marker.where,
                hint="A marked name is assigned once in its module:"
                " give the other value another name.",
            )
