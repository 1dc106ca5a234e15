"""Rules of `.airflowignore` as globs, the syntax of Airflow 3: like
`.gitignore`.

Matching takes linear time for every pattern: no rule of a commit makes a
deployment hang.
"""

import posixpath
import re
from collections.abc import Mapping
from typing import NamedTuple

_PIECE = re.compile(
    r"\\(?P<escaped>.)"
    r"|(?P<star>\*+)"
    r"|(?P<any>\?)"
    r"|\[(?P<not>[!^]?)(?P<class>\]?[^\]]*)\]"
    r"|(?P<other>.)",
    re.DOTALL,
)


class _Rule(NamedTuple):
    """One line of a file."""

    # The folder of its file, empty or with a slash at the end: it counts
    # below that only.
    folder: str
    # One expression for each segment of a path; None for `**`.
    segments: tuple[re.Pattern[str] | None, ...]
    # A slash at the end: only folders match.
    folders_only: bool
    # A slash elsewhere: the whole path below the folder has to match, and
    # not its last part.
    anchored: bool
    # An exclamation mark in front: what matches is not ignored after all.
    negated: bool


def matching(
    rules: Mapping[str, list[str]], names: list[str]
) -> tuple[set[str], list[tuple[str, str]]]:
    """The names that rules match, and what is wrong, as pairs of a rule's
    folder and a message.

    `rules` are lines by the folder of their file, which is empty or has a
    slash at the end.
    """
    parsed = []
    wrong = []
    for folder, lines in rules.items():
        for line in lines:
            parsed.append(_rule(line, folder))
            if _is_broken(line):
                message = (
                    f"{line!r} is no pattern, and stops Airflow from reading any DAG"
                    " (what follows a # is a comment, after a \\ too)"
                )
                wrong.append((folder, message))
    return {name for name in names if _is_ignored(name, parsed)}, wrong


def _rule(line: str, folder: str) -> _Rule:
    body = line.rstrip()
    negated = body.startswith("!")
    body = body.removeprefix("!")
    inner = body.rstrip("/")
    segments = inner.lstrip("/").split("/")
    return _Rule(
        folder=folder,
        segments=tuple(None if segment == "**" else _segment(segment) for segment in segments),
        folders_only=body != inner,
        anchored="/" in inner,
        negated=negated,
    )


def _is_broken(line: str) -> bool:
    """A backslash at the end that escapes nothing, or a lone `!`: Airflow raises an error there."""
    body = line.rstrip("\n")
    backslashes = len(body) - len(body.rstrip("\\"))
    return backslashes % 2 == 1 or body.strip() == "!"


def _segment(text: str) -> re.Pattern[str]:
    """One segment of a glob as an expression."""
    pieces = [""]
    for found in _PIECE.finditer(text):
        if found["star"]:
            pieces.append("")
        elif found["any"]:
            pieces[-1] += "[^/]"
        elif found["class"]:
            inside = re.sub(r"([\\\[&~|^])", r"\\\1", found["class"]).replace("]", r"\]")
            pieces[-1] += f"[{'^' if found['not'] else ''}{inside}]"
        else:
            pieces[-1] += re.escape(found["escaped"] or found["other"])

    # What is between two stars is matched where it is found first, in an
    # atomic group: a later place would never help, and trying them all
    # takes exponential time.
    head, *rest = pieces
    between = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    tail = f".*{rest[-1]}" if rest else ""
    try:
        return re.compile(head + between + tail, re.DOTALL)
    except re.error:
        # A class with its range the wrong way round matches nothing.
        return re.compile(r"(?!)")


def _is_ignored(path: str, rules: list[_Rule]) -> bool:
    """Whether the path or a folder above it is ignored; the last matching rule decides."""
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        here = "/".join(parts[:length])
        above = here[: -len(parts[length - 1])]
        is_folder = length < len(parts)
        result = False
        for rule in rules:
            applies = above.startswith(rule.folder) and (is_folder or not rule.folders_only)
            if applies and _matches(rule, here, is_folder):
                result = not rule.negated
        # Nothing below an ignored folder can be taken back: Airflow does
        # not look there.
        if result:
            return True
    return False


def _matches(rule: _Rule, path: str, is_folder: bool) -> bool:
    if rule.anchored:
        parts = path.removeprefix(rule.folder).split("/")
    else:
        parts = [posixpath.basename(path)]

    # For a folder, `x/**` matches `x` as well: all of it is ignored.
    if is_folder and len(rule.segments) > 1 and rule.segments[-1] is None:
        return _fits(rule.segments[:-1], parts) or _fits(rule.segments, parts)
    return _fits(rule.segments, parts)


def _fits(segments: tuple[re.Pattern[str] | None, ...], parts: list[str]) -> bool:
    """Whether segments match parts; only the last `**` is ever extended, as one star in fnmatch."""
    at = 0
    segment = 0
    star = -1
    covered = 0
    while at < len(parts):
        wanted = segments[segment] if segment < len(segments) else ...
        if wanted is None:
            star = segment
            covered = at
            segment += 1
        elif isinstance(wanted, re.Pattern) and wanted.fullmatch(parts[at]):
            at += 1
            segment += 1
        elif star >= 0:
            # Let the `**` cover one more part, and try again behind it.
            covered += 1
            at = covered
            segment = star + 1
        else:
            return False
    return all(left is None for left in segments[segment:])
