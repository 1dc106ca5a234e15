"""Rules of `.airflowignore` as regular expressions, the syntax of Airflow
2.

Airflow searches for them in the paths of files and of their folders, seen
from the DAGs folder.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from cipipe.tools import process

_MATCHER = Path(__file__).with_name("ignore_matcher.py")
_FIRST_WITH_RE2 = (2, 7)

# Lookaround, atomic groups, conditions, references to groups, and
# possessive quantifiers.
_NOT_IN_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+)")
# A class of characters, or an escaped one, which is kept.
_CLASS = re.compile(r"(\\.)|\[\^?\]?(?:\\.|[^\]\\])*+\]")
_QUANTIFIERS = re.compile(r"[*+?{]")


def matching(
    rules: Mapping[str, list[str]], names: list[str], root: str, *, linear: bool
) -> tuple[set[str], list[tuple[str, str]]]:
    """The names that rules match, and what is wrong, as pairs of a rule's
    folder and a message.

    `rules` are lines by the folder of their file, which is empty or has a
    slash at the end. `linear`: Airflow reads them with RE2, and leaves out
    what that does not know.
    """
    found: set[str] = set()
    wrong: list[tuple[str, str]] = []
    for folder, lines in rules.items():
        below = [name for name in names if name.startswith(folder)]
        # Many files share their folders: each path is searched once.
        paths = list(dict.fromkeys(path for name in below for path in _with_folders(name, folder)))
        for line in lines:
            if compiled(line) is None:
                message = f"{line!r} is not a regular expression, and Airflow leaves it out"
                wrong.append((folder, message))
                continue
            if linear and not re2_reads(line):
                message = f"{line!r} is not an expression of RE2, and Airflow leaves it out"
                wrong.append((folder, message))
                continue
            numbers = _search(line, [f"{root}{path}" for path in paths])
            if numbers is None:
                wrong.append((folder, f"{line!r} takes too long, and is left out here"))
                continue

            hit = {paths[number] for number in numbers}
            found.update(name for name in below if not hit.isdisjoint(_with_folders(name, folder)))
    return found, wrong


def uses_re2(version: str | None) -> bool:
    """Whether this Airflow uses RE2, which knows less than Python's `re`. By default it does."""
    numbers = [int(part) for part in re.findall(r"\d+", version or "")[:2]]
    return len(numbers) < len(_FIRST_WITH_RE2) or tuple(numbers) >= _FIRST_WITH_RE2


def re2_reads(expression: str) -> bool:
    """Whether an expression that Python accepts is one of RE2, too."""
    # What is in a class of characters has no special meaning: `[(?=]` is
    # fine.
    return not _NOT_IN_RE2.search(_CLASS.sub(lambda found: found[1] or "x", expression))


def compiled(line: str) -> re.Pattern[str] | None:
    try:
        return re.compile(line)
    except (re.error, OverflowError, RecursionError):
        return None


def _search(line: str, paths: list[str]) -> list[int] | None:
    """The numbers of the paths in which the expression is found; None where that takes too long."""
    # One quantifier outside of groups cannot backtrack for long. Everything
    # else may take forever, so that a process of its own does it, which
    # stops itself.
    if "(" not in line and len(_QUANTIFIERS.findall(line)) <= 1:
        expression = re.compile(line)
        return [number for number, path in enumerate(paths) if expression.search(path)]

    argv = [sys.executable, "-I", "-S", str(_MATCHER)]
    question = json.dumps([line, paths]).encode()
    done = process.run(argv, env={}, stdin=question, check=False)
    return list(json.loads(done.stdout)) if done.returncode == 0 else None


def _with_folders(name: str, above: str) -> list[str]:
    """A path, and its folders below `above`."""
    parts = name.removeprefix(above).split("/")
    return [above + "/".join(parts[:length]) for length in range(1, len(parts) + 1)]
