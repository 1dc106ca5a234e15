"""The marker `# cipipe: NAME`, and the assignment that it stands behind (DESIGN, "The DAG
contract").

Everything here is known from the file alone; what the outputs say comes later, in `patch`.
"""

import re
import textwrap
import tokenize
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from cipipe.errors import Problem
from cipipe.stages.dags.markers.defaults import RuleError, evaluate, shape_wanted
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

# In bytes of any encoding: blanks need not be ASCII, such as the no-break space that editors and
# chats leave.
_HINT_OF_ONE = re.compile(rb"#[^!-~\r\n]*cipipe[^!-~\r\n]*:", re.IGNORECASE)
_MARKER = re.compile(r"#\s*+cipipe\s*+:(?P<rest>[^#]*)", re.IGNORECASE)
_REST = re.compile(
    r"\s*+(?P<output>[^\W\d][\w-]*+)\s*+(?P<sensitive>\(\s*+sensitive\s++ok\s*+\))?\s*+"
)


class Marker(msgspec.Struct, frozen=True):
    """A marker as written: the output that it asks for, and where it stands. `path` is as the
    caller names the file.
    """

    output: str
    path: str
    line: int
    sensitive_ok: bool

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


class Target(msgspec.Struct, frozen=True):
    """A literal that a marker has replaced: its extent in bytes, its column, and what it says of
    its type.
    """

    marker: Marker
    name: str
    start: int
    end: int
    column: int
    literal: str
    wanted: ExpectedValue


class Scan(msgspec.Struct, frozen=True):
    """What a file says: its text (None where it has no markers), its markers, what to replace, what
    is wrong.
    """

    text: Text | None
    markers: tuple[Marker, ...] = ()
    targets: tuple[Target, ...] = ()
    problems: tuple[Problem, ...] = ()


def scan(source: bytes, path: str) -> Scan:
    """Find the markers of a file and hold each to the contract; nothing is raised."""
    if not _HINT_OF_ONE.search(source):
        return Scan(None)
    if len(source) > LARGEST:
        return Scan(None, problems=(too_large(path, "has markers, and is"),))
    try:
        text = decode(source)
        lines = list(logical_lines(text.tokens()))
    except NotPythonError as error:
        hint = "A file with markers has to be Python that can be read; without markers it is uploaded as it is."
        return Scan(
            None,
            problems=(Problem("dag-not-python", f"cannot be read as Python: {error}", path, hint),),
        )
    found: list[Marker] = []
    targets: list[tuple[Target, LogicalLine]] = []
    wrong: list[Problem] = []
    for line in lines:
        for comment in line.comments:
            matches = list(_MARKER.finditer(comment.string))
            if not matches:
                continue
            where = f"{path}:{comment.start[0]}"
            try:
                marker = _parse([match["rest"] for match in matches], path, comment.start[0])
                found.append(marker)
                targets.append((_target(marker, line, comment, text), line))
            except RuleError as error:
                wrong.append(Problem(error.slug, str(error), where, error.hint))
    if targets:
        wrong += _reassigned(targets, lines)
    return Scan(text, tuple(found), tuple(target for target, _ in targets), tuple(wrong))


def markers(source: bytes, path: str) -> list[Marker]:
    """The markers of a file that can be read, misplaced ones included."""
    return list(scan(source, path).markers)


def _parse(rests: list[str], path: str, line: int) -> Marker:
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
            "Write `# cipipe: NAME`, or `# cipipe: NAME (sensitive ok)`; other remarks go behind a further `#`.",
        )
    return Marker(match["output"], path, line, match["sensitive"] is not None)


def _target(marker: Marker, line: LogicalLine, comment: tokenize.TokenInfo, text: Text) -> Target:
    tokens = line.tokens
    if comment is not line.trailing:
        raise RuleError(
            "dag-marker-misplaced",
            "the marker is not at the end of an assignment"
            + (": it stands inside one" if tokens else ""),
            f"It belongs on the last line of an assignment, {EXAMPLE}.",
        )
    if line.block or tokens[0].string in COMPOUND:
        raise RuleError(
            "dag-marker-in-block",
            "the marker is inside a block (function, class, if, with, …)",
            "Assign the value at the top of the module, without indentation, and use the name in the block.",
        )
    if outermost(tokens, ";"):
        raise RuleError(
            "dag-marker-semicolon",
            "the marker is on a line with several statements",
            "One statement on the line, without `;`.",
        )
    name, annotation, value = _assignment(tokens)
    value = _without_parentheses(value)
    start, end = value[0].start, value[-1].end
    literal = text.between(start, end)
    default = evaluate(literal)
    wanted = shape_wanted(
        default, text.between(annotation[0].start, annotation[-1].end) if annotation else ""
    )
    return Target(marker, name, text.offset(start), text.offset(end), start[1], literal, wanted)


def _assignment(tokens: Tokens) -> tuple[str, Tokens, Tokens]:
    """Name, annotation and value of `NAME = value` or `NAME: annotation = value`."""
    equals = outermost(tokens, "=")
    if not equals or equals[0] == len(tokens) - 1:
        raise RuleError(
            "dag-marker-misplaced",
            "the marker is on a line that assigns nothing with `=`",
            f"It belongs on an assignment, {EXAMPLE}.",
        )
    first, second = tokens[0], tokens[1]
    chained = len(equals) > 1 and not any(
        token.string == "lambda" for token in tokens[equals[0] : equals[1]]
    )
    if first.type != tokenize.NAME or second.string not in {"=", ":"} or chained:
        raise RuleError(
            "dag-marker-target",
            "the marked assignment does not have one plain name as its only target",
            "Give the value a line of its own: `NAME = literal  # cipipe: output`.",
        )
    return first.string, tokens[2 : equals[0]], tokens[equals[0] + 1 :]


def _without_parentheses(value: Tokens) -> Tokens:
    """What redundant parentheses hold: they, and what stands beside the literal in them, stay as
    they are.
    """
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
    first, last = 0, len(value) - 1
    while (
        last - first > 1
        and value[first].string == "("
        and closing.get(first) == last
        and first not in tuples
    ):
        first, last = first + 1, last - 1
    return value[first : last + 1]


def _reassigned(
    targets: list[tuple[Target, LogicalLine]], lines: list[LogicalLine]
) -> Iterator[Problem]:
    wanted = {target.name for target, _ in targets}
    naming = [
        line for line in lines if not wanted.isdisjoint([token[1] for token in line.tokens])
    ]  # few of many
    bindings: dict[str, list[tuple[tokenize.TokenInfo, LogicalLine]]] = defaultdict(list)
    for line in naming:
        for token in bound(line):
            bindings[token.string].append((token, line))
    for target, own in targets:
        other = next((token for token, line in bindings[target.name] if line is not own), None)
        if other is not None:
            yield Problem(
                "dag-name-reassigned",
                f"{target.name} gets another value on line {other.start[0]}",
                target.marker.where,
                "A marked name is assigned once in its module: give the other value another name.",
            )
