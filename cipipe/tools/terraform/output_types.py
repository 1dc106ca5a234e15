"""The types of the outputs in a saved plan.

`terraform show -json` leaves out the type of a value that is only known
after apply, and the saved plan has it: a ZIP archive with a message of
Protocol Buffers in it. This format is Terraform's own. A file of another
version, or that is anything else, has no types for us, and nothing fails.
https://github.com/hashicorp/terraform/blob/v1.11/internal/plans/planproto/planfile.proto
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

# The version of the message that has these fields.
_VERSION = 3

# The numbers of the fields, by message: Plan, OutputChange, Change and
# DynamicValue.
_PLAN_VERSION = 1
_PLAN_OUTPUT = 4
_OUTPUT_NAME = 1
_OUTPUT_CHANGE = 2
_CHANGE_VALUE = 2
_VALUE_MSGPACK = 1

# Wire types: a number, eight bytes, a length with as many bytes, four
# bytes.
_NUMBER, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def output_types(file: Path) -> dict[str, Any]:
    """The type of each output in a saved plan, as Terraform writes types in
    JSON: a word, or a list.

    An output of which no type is found is missing.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            plan = list(_fields(archive.read("tfplan")))
        if (_PLAN_VERSION, _VERSION) not in plan:
            return {}
        return dict(_outputs([value for number, value in plan if number == _PLAN_OUTPUT]))
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile, msgspec.MsgspecError):
        return {}


def _outputs(messages: list[Any]) -> Iterator[tuple[str, Any]]:
    for message in messages:
        fields = dict(_fields(message))
        change = fields[_OUTPUT_CHANGE]
        # Before and after, of which the first or the last may be missing.
        values = [value for number, value in _fields(change) if number == _CHANGE_VALUE]
        encoded = dict(_fields(values[-1]))[_VALUE_MSGPACK]
        match msgspec.msgpack.decode(encoded):
            # A value that may be of any type has its own beside it.
            case [bytes() as type, _]:
                yield fields[_OUTPUT_NAME].decode(), msgspec.json.decode(type)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The number and the value of each field of a message.

    Source: https://protobuf.dev/programming-guides/encoding
    """
    position = 0
    while position < len(message):
        key, position = _number(message, position)
        wire = key & 7
        if wire == _NUMBER:
            value, position = _number(message, position)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, position = _number(message, position)
        elif wire in {_EIGHT, _FOUR}:
            size = 8 if wire == _EIGHT else 4
        else:
            message_error = f"wire type {wire}"
            raise ValueError(message_error)
        yield key >> 3, message[position : position + size]
        position += size


def _number(message: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    number = 0
    for shift in range(0, 64, 7):
        byte = message[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    message_error = "a number of more than 64 bits"
    raise ValueError(message_error)
