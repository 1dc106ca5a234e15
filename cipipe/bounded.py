"""JSON from outside, read within limits: what is larger or nested more
deeply is refused.

Everything here raises ValueError, with a message that says what is wrong
with the text.
"""

import json
from pathlib import Path
from typing import IO, Any

import msgspec

KIB = 1024

# Bytes.
LARGEST = 16 * 1024 * KIB

# Levels of lists and objects in each other. Python's own limit depends on
# how deep the caller is, and what can be parsed may be too deep to be
# written again.
DEEPEST = 100

_NESTS = (dict, list, tuple, set)


def read(path: Path, *, largest: int = LARGEST) -> bytes:
    """The contents of a file. Raises OSError and ValueError."""
    with path.open("rb") as file:
        return read_from(file, largest=largest)


def read_from(file: IO[bytes], *, largest: int = LARGEST) -> bytes:
    """The rest of an open file, which may be endless. Raises ValueError."""
    # One byte more than allowed says whether it is too large.
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
        # Counting brackets is much faster than walking what was parsed.
        deep = _brackets(text) > DEEPEST and deeper(found)
    if deep:
        message = f"it is nested too deeply, on more than {DEEPEST} levels"
        raise ValueError(message)
    return found


def decode(body: bytes | str, type: Any = Any) -> Any:
    """Parse JSON into that type. Raises msgspec.DecodeError, also for what is nested too deeply."""
    try:
        return msgspec.json.decode(body, type=type)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise msgspec.DecodeError(message) from error


def _brackets(text: bytes | str) -> int:
    if isinstance(text, bytes):
        return text.count(b"[") + text.count(b"{")
    return text.count("[") + text.count("{")


def deeper(value: Any, levels: int = DEEPEST) -> bool:
    """Whether lists, maps, tuples and sets are nested on more than so many levels."""
    # A level at a time, because recursion would meet Python's own limit.
    level = [value] if isinstance(value, _NESTS) else []
    for _ in range(levels):
        level = [
            child
            for some in level
            for child in (some.values() if isinstance(some, dict) else some)
            if isinstance(child, _NESTS)
        ]
    return bool(level)
