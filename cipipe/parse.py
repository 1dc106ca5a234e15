"""Untyped data → every problem that it has against a type, and the line
that each is on.

msgspec stops at the first problem; this walks the structs and has msgspec
check each leaf.
"""

import contextlib
import itertools
import re
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from cipipe.errors import Problem

T = TypeVar("T")

_STRING_OR_COMMENT = r""""(?:[^"\\]|\\.)*"|'[^']*'|#.*"""

# How msgspec's messages end: the path below the value.
_AT = r" - at `\$(.*)`$"

# No suggestion for a name longer than this, or among more than this many:
# it would take too long.
_LONGEST = 200
_MANY = 1000

# Names in a hint.
_LISTED = 20

# Characters of a TOML file, and parts of a dotted key.
_LARGEST = 512 * 1024
_PARTS = 16
_DOTTED = re.compile(r"\.[^\n=.]*+" * _PARTS)


def within_limits(text: str) -> str:
    """The text of a TOML file that can be parsed in reasonable time. Raises
    ValueError.

    Parsers are quadratic in the parts of a dotted key, and their result is
    nested as deeply.
    """
    if len(text) > _LARGEST:
        message = f"it is larger than {_LARGEST // 1024} KiB"
        raise ValueError(message)
    if _DOTTED.search(text):
        for number, line in enumerate(text.split("\n"), start=1):
            if _DOTTED.search(line) and _DOTTED.search(re.sub(_STRING_OR_COMMENT, '""', line)):
                message = f"a key of more than {_PARTS} parts (at line {number})"
                raise ValueError(message)
    return text


def collect(value: Any, kind: Any, path: str, *, also: Iterable[str] = ()) -> Iterator[Problem]:
    """Every way in which `value` is not a `kind`. `also` are keys that
    somebody else reads, for suggestions.
    """
    # Most of a file is right, and msgspec says so at once.
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.convert(value, kind)
        return

    struct = _struct(kind, value)
    if struct is not None:
        yield from _table(value=value, struct=struct, path=path, also=list(also))
    elif typing.get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from collect(item, typing.get_args(kind)[1], _join(path, key))
    elif typing.get_origin(kind) is tuple and isinstance(value, list):
        for number, item in enumerate(value):
            yield from collect(item, typing.get_args(kind)[0], f"{path}[{number}]")
    else:
        yield from _leaf(value, kind, path)


def nearest(name: str, known: Collection[str], *, otherwise: str | None = None) -> str | None:
    """`Perhaps you meant …`, where a known name is near."""
    import difflib  # only for errors

    if len(name) > _LONGEST or len(known) > _MANY:
        return otherwise
    found = difflib.get_close_matches(name, known, n=1)
    return f"Perhaps you meant {found[0]!r}." if found else otherwise


def listed(names: Collection[str]) -> str:
    """The names for a hint: the first ones, and how many more there are."""
    first = list(itertools.islice(names, _LISTED))
    more = [f"… and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return ", ".join([*first, *more])


def tables(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of that key; empty where there is none, or something else."""
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def converted(value: Any, kind: type[T]) -> T | None:
    """The value as that type; None where it is absent or wrong."""
    try:
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


class Located:
    """The text of a TOML file, to find the line that a key path is on."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        depth = 0
        for number, line in enumerate(text.split("\n"), start=1):
            header = re.match(r"\s*\[+([^\[\]]+)\]+\s*(#.*)?$", line)
            key = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
            bare = re.sub(_STRING_OR_COMMENT, "", line)
            inside = depth > 0
            depth += bare.count("[") - bare.count("]")
            # A list over several lines: what looks like a key in it is
            # none.
            if inside:
                continue
            if header:
                table = _split(header[1])
                self._lines.setdefault(table, number)
            elif key:
                self._lines.setdefault((*table, *_split(key[1])), number)

    def place(self, problem: Problem) -> Problem:
        """The problem with `FILE:LINE: ` before its key path: the line of
        the key, or else of the nearest table above it.
        """
        parts = _split(re.sub(r"\[\d+\]", "", problem.where))
        while parts and parts not in self._lines:
            parts = parts[:-1]
        line = f":{self._lines[parts]}" if parts else ""
        return replace(problem, where=f"{self._name}{line}: {problem.where}".rstrip(": "))


def _leaf(value: Any, kind: Any, path: str) -> Iterator[Problem]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        found = re.search(_AT, str(error))
        where = path + (found[1] if found else "")
        message = _plain(re.sub(_AT, "", str(error)).replace("`", "").lower())
        hint = None
        if typing.get_origin(kind) is typing.Literal and isinstance(value, str):
            allowed = typing.get_args(kind)
            message = f"{value!r} is not allowed here"
            hint = nearest(value, allowed, otherwise="One of " + ", ".join(allowed))
        yield Problem("config-wrong-type", message, where, hint=hint)


def _table(
    value: Any, struct: type[msgspec.Struct], path: str, also: list[str]
) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem("config-wrong-type", f"expected a table, got {_name(value)}", path)
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in value:
        if key not in fields:
            hint = None
            # A file of thousands of wrong keys would take minutes to make
            # suggestions for.
            if len(value) <= _MANY:
                known = [*fields, *also]
                hint = nearest(key, known, otherwise="Known here: " + ", ".join(sorted(known)))
            yield Problem("config-unknown-key", f"unknown key {key!r}", _join(path, key), hint=hint)
    for key, field in fields.items():
        if key in value:
            yield from collect(value[key], field.type, _join(path, key))
        elif field.required:
            yield Problem("config-missing-key", f"{key!r} is missing", _join(path, key))


def _struct(kind: Any, value: Any) -> type[msgspec.Struct] | None:
    """The struct that a value has to be: the type itself, or the only
    struct of a union, where the value is a table.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if isinstance(kind, types.UnionType) and isinstance(value, dict):
        for one in typing.get_args(kind):
            if isinstance(one, type) and issubclass(one, msgspec.Struct):
                return one
    return None


def _plain(message: str) -> str:
    """A message of msgspec in TOML's words."""
    for technical, plain in (
        ("object", "a table"),
        ("array", "a list"),
        ("str", "a string"),
        ("int", "a number"),
        ("bool", "true or false"),
    ):
        message = re.sub(rf"\b{technical}\b", plain, message)
    return message


def _name(value: Any) -> str:
    return _plain("array" if isinstance(value, list) else type(value).__name__)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _split(path: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in path.split("."))
