"""JSON that comes from outside, read within limits: what is larger or nested deeper is refused, and
never hangs.

Everything here raises ValueError, with a message that says what is wrong with the text.
"""

import json
from pathlib import Path
from typing import IO, Any

import msgspec

KIB = 1024
LARGEST = 16 * 1024 * KIB
DEEPEST = 100
"""Levels of lists and objects in each other. Python's own limit depends on who calls, and on what
is done afterwards.
"""

_NESTS = (dict, list, tuple, set)


def read(path: Path, *, largest: int = LARGEST) -> bytes:
    """The contents of a file. Raises OSError, too."""
    with path.open("rb") as file:
        return read_from(file, largest=largest)


def read_from(file: IO[bytes], *, largest: int = LARGEST) -> bytes:
    """What can still be read from an open file, which need not have an end."""
    data = file.read(largest + 1)
    if len(data) > largest:
        message = f"it is larger than {largest // KIB} KiB"
        raise ValueError(message)
    return data


def loads(text: bytes | str, **how: Any) -> Any:
    """Parse JSON; `how` goes to `json.loads`."""
    try:
        found = json.loads(text, **how)
    except RecursionError:
        found = None
        deep = True
    else:
        deep = _brackets(text) > DEEPEST and deeper(found)
    if deep:
        message = f"it is nested too deeply, on more than {DEEPEST} levels"
        raise ValueError(message)
    return found


def decode(body: bytes | str, type: Any = Any) -> Any:
    """Parse JSON into what has that type. Raises msgspec.DecodeError, for what is nested too deeply
    as well.
    """
    try:
        return msgspec.json.decode(body, type=type)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise msgspec.DecodeError(message) from error


def _brackets(text: bytes | str) -> int:
    return (
        text.count(b"[") + text.count(b"{")
        if isinstance(text, bytes)
        else text.count("[") + text.count("{")
    )


def deeper(value: Any, levels: int = DEEPEST) -> bool:
    """Whether lists, maps, tuples and sets lie in each other on more than so many levels."""
    level = [value] if isinstance(value, _NESTS) else []
    for _ in range(levels):
        level = [
            child
            for some in level
            for child in (some.values() if isinstance(some, dict) else some)
            if isinstance(child, _NESTS)
        ]
    return bool(level)
