"""`.airflowignore`: which files Airflow does not take for DAG files. Regular expressions in Airflow
2, globs in Airflow 3.

As `airflow.utils.file.find_path_from_directory` reads them: a file in a folder adds to those above
it, for what is below it; what stands in an ignored folder is ignored. Regular expressions are held
against the path from the DAGs folder.
https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/dags.html#airflowignore
"""

import json
import posixpath
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cipipe.errors import Problem
from cipipe.tools import process

NAME = ".airflowignore"
SYNTAX = "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"

_MATCHER = Path(__file__).with_name("ignore_matcher.py")
_FIRST_WITH_GLOBS = 3
_COMMENT = re.compile(r"\s*#.*")
_FIRST_WITH_RE2 = (2, 7)
_NOT_IN_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+)")
"""Lookaround, atomic groups, conditions, references to groups, and possessive quantifiers."""

_CLASS = re.compile(r"(\\.)|\[\^?\]?(?:\\.|[^\]\\])*+\]")

_QUANTIFIERS = re.compile(r"[*+?{]")


class Ignored(NamedTuple):
    """The files that are ignored, and what could not be understood."""

    paths: frozenset[str]
    problems: tuple[Problem, ...] = ()


class _Rule(NamedTuple):
    """One line. `segments` for a glob; `folder` is where its file stands, with a slash; `take`: `!`
    takes it back.
    """

    text: str
    file: str
    folder: str
    segments: tuple[re.Pattern[str] | None, ...] = ()
    folders_only: bool = False
    anchored: bool = False
    take: bool = False


def ignored(
    bodies: Mapping[str, bytes], *, version: str | None, env: Mapping[str, str], root: str = ""
) -> Ignored:
    """Which of the files are ignored; their paths are relative to the source, which lies at `root`
    of the DAGs folder.

    Without a version, the files say themselves what they are: globs, if they hold what is no
    regular expression.
    """
    files = {
        path: _lines(body) for path, body in bodies.items() if posixpath.basename(path) == NAME
    }
    if not any(files.values()):
        return Ignored(frozenset())
    names = [path for path in bodies if path not in files]
    if _globs(version, env, [line for lines in files.values() for line in lines]):
        rules = [_glob(line, path) for path, lines in files.items() for line in lines]
        wrong = [
            _problem(path, _broken(line))
            for path, lines in files.items()
            for line in lines
            if _is_broken(line)
        ]
        return Ignored(frozenset(path for path in names if _is_ignored(path, rules)), tuple(wrong))
    return _by_expressions(files, names, root, linear=uses_re2(version))


def _lines(body: bytes) -> list[str]:
    text = body.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return [line for raw in text.split("\n") if (line := _COMMENT.sub("", raw))]


def _globs(version: str | None, env: Mapping[str, str], lines: Iterable[str]) -> bool:
    if SYNTAX in env:
        return env[SYNTAX].strip().lower() == "glob"
    if version is not None:
        return int(version.partition(".")[0]) >= _FIRST_WITH_GLOBS
    return any(line.startswith("!") or _compiled(line) is None for line in lines)


# --- regular expressions -----------------------------------------------------------------------------------------------


def uses_re2(version: str | None) -> bool:
    """Whether this Airflow uses RE2, which reads less than Python does. Not said: as if it were
    current.
    """
    numbers = [int(part) for part in re.findall(r"\d+", version or "")[:2]]
    return len(numbers) < len(_FIRST_WITH_RE2) or tuple(numbers) >= _FIRST_WITH_RE2


def re2_reads(expression: str) -> bool:
    """Whether an expression that Python reads is one of RE2, too."""
    return not _NOT_IN_RE2.search(_CLASS.sub(lambda found: found[1] or "x", expression))


def _by_expressions(
    files: Mapping[str, list[str]], names: list[str], root: str, *, linear: bool
) -> Ignored:
    """Expressions are searched for in the path of a file and in those of its folders."""
    found: set[str] = set()
    wrong: list[Problem] = []
    for file, lines in files.items():
        folder = file.removesuffix(NAME)
        below = [name for name in names if name.startswith(folder)]
        paths = list(dict.fromkeys(path for name in below for path in _with_folders(name, folder)))
        for line in lines:
            if _compiled(line) is None:
                wrong.append(
                    _problem(
                        file, f"{line!r} is not a regular expression, and Airflow leaves it out"
                    )
                )
                continue
            if linear and not re2_reads(line):
                wrong.append(
                    _problem(file, f"{line!r} is no expression of RE2, and Airflow leaves it out")
                )
                continue
            matching = _search(line, [f"{root}{path}" for path in paths])
            if matching is None:
                wrong.append(_problem(file, f"{line!r} takes too long, and is left out here"))
                continue
            hit = {paths[number] for number in matching}
            found.update(name for name in below if not hit.isdisjoint(_with_folders(name, folder)))
    return Ignored(frozenset(found), tuple(wrong))


def _compiled(line: str) -> re.Pattern[str] | None:
    try:
        return re.compile(line)
    except (re.error, OverflowError, RecursionError):
        return None


def _search(line: str, paths: list[str]) -> list[int] | None:
    """The numbers of the paths in which the expression is found; None where that takes too long.

    What may go back and forth for ever is left to a process that ends itself.
    """
    if "(" not in line and len(_QUANTIFIERS.findall(line)) <= 1:
        expression = re.compile(line)
        return [number for number, path in enumerate(paths) if expression.search(path)]
    question = json.dumps([line, paths]).encode()
    done = process.run(
        [sys.executable, "-I", "-S", str(_MATCHER)], env={}, stdin=question, check=False
    )
    return list(json.loads(done.stdout)) if done.returncode == 0 else None


def _with_folders(name: str, above: str) -> list[str]:
    """A path, and its folders below `above`."""
    parts = name.removeprefix(above).split("/")
    return [above + "/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _problem(file: str, message: str) -> Problem:
    return Problem(
        "dag-ignore-rule",
        message,
        file,
        "Write a simpler expression; Airflow 3 reads globs by default.",
    )


# --- globs -------------------------------------------------------------------------------------------------------------


def _glob(line: str, file: str) -> _Rule:
    body = line.rstrip()
    take = body.startswith("!")
    body = body.removeprefix("!")
    inner = body.rstrip("/")
    segments = tuple(
        None if segment == "**" else _segment(segment) for segment in inner.lstrip("/").split("/")
    )
    return _Rule(
        line,
        file,
        file.removesuffix(NAME),
        segments,
        folders_only=body != inner,
        anchored="/" in inner,
        take=take,
    )


def _is_broken(line: str) -> bool:
    body = line.rstrip("\n")
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1 or body.strip() == "!"


def _broken(line: str) -> str:
    return f"{line!r} is no pattern, and stops Airflow from reading any DAG (what follows a # is a comment, after a \\ too)"


_PIECE = re.compile(
    r"\\(?P<escaped>.)|(?P<star>\*+)|(?P<any>\?)|\[(?P<not>[!^]?)(?P<class>\]?[^\]]*)\]|(?P<other>.)",
    re.DOTALL,
)


def _segment(text: str) -> re.Pattern[str]:
    """One segment of a glob. What stands between two stars is taken where it is found first, so
    that it takes no time.
    """
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
    head, *rest = pieces
    between = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    try:
        return re.compile(head + between + (f".*{rest[-1]}" if rest else ""), re.DOTALL)
    except re.error:  # a class whose range is the wrong way round matches nothing
        return re.compile(r"(?!)")


def _is_ignored(path: str, rules: list[_Rule]) -> bool:
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        here = "/".join(parts[:length])
        above = here[: -len(parts[length - 1])]
        is_folder = length < len(parts)
        result = False
        for rule in rules:
            if (
                above.startswith(rule.folder)
                and (is_folder or not rule.folders_only)
                and _matches(rule, here, is_folder)
            ):
                result = not rule.take
        if result:
            return True
    return False


def _matches(rule: _Rule, path: str, is_folder: bool) -> bool:
    parts = (
        path.removeprefix(rule.folder).split("/") if rule.anchored else [posixpath.basename(path)]
    )
    if is_folder and len(rule.segments) > 1 and rule.segments[-1] is None:
        return _fits(rule.segments[:-1], parts) or _fits(rule.segments, parts)
    return _fits(rule.segments, parts)


def _fits(segments: tuple[re.Pattern[str] | None, ...], parts: list[str]) -> bool:
    """Whether segments match parts; only the last `**` is ever gone back to."""
    at = segment = 0
    star, taken = -1, 0
    while at < len(parts):
        wanted = segments[segment] if segment < len(segments) else ...
        if wanted is None:
            star, taken = segment, at
            segment += 1
        elif isinstance(wanted, re.Pattern) and wanted.fullmatch(parts[at]):
            at, segment = at + 1, segment + 1
        elif star >= 0:
            taken += 1
            at, segment = taken, star + 1
        else:
            return False
    return all(left is None for left in segments[segment:])
