"""The types in a saved plan. tests/e2e/test_planned_outputs.py has plans of real Terraform."""

import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.tools.terraform.output_types import output_types


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


def value(type: Any, content: Any = None) -> bytes:
    """A DynamicValue, with its type beside it."""
    pair = [msgspec.json.encode(type), content]
    return field(1, msgspec.msgpack.encode(pair))


def output(name: str, *values: bytes) -> bytes:
    change = field(1, 1) + b"".join(field(2, one) for one in values)
    return field(4, field(1, name.encode()) + field(2, change) + field(3, 0))


def saved(folder: Path, message: bytes, *, name: str = "tfplan") -> Path:
    file = folder / "plan"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, message)
    return file


UNKNOWN = msgspec.msgpack.Ext(0, b"\0")
OTHERS = varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4) + field(11, b"x" * 300)


def test_the_type_after_apply(tmp_path: Path) -> None:
    message = (
        field(1, 3)
        + OTHERS
        + output("new", value("string", UNKNOWN))
        + output("changed", value("string", "x"), value(["list", "string"], [UNKNOWN]))
        + output("gone", field(1, msgspec.msgpack.encode(None)))
    )
    assert output_types(saved(tmp_path, message)) == {
        "new": "string",
        "changed": ["list", "string"],
    }


def test_another_version_has_no_types(tmp_path: Path) -> None:
    assert output_types(saved(tmp_path, field(1, 4) + output("new", value("string")))) == {}


def test_another_file_has_no_types(tmp_path: Path) -> None:
    assert output_types(tmp_path / "nothing") == {}
    (tmp_path / "text").write_text("not a plan")
    assert output_types(tmp_path / "text") == {}
    assert output_types(saved(tmp_path, field(1, 3), name="encrypted")) == {}


@pytest.mark.parametrize("end", range(1, 60))
def test_a_damaged_message_raises_nothing(end: int, tmp_path: Path) -> None:
    message = field(1, 3) + output("new", value(["object", {"a": "string"}], {"a": UNKNOWN}))
    assert len(message) > 40
    found = output_types(saved(tmp_path, message[:end]))
    assert found in ({}, {"new": ["object", {"a": "string"}]})
