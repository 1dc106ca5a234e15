"""Terraform's values as Python literals: does a value fit where a default stands, and how is it
written.

A default is the type's witness: `"x"` wants a string, `[1]` a list of numbers, `{}` any map.
"""

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from cipipe.bounded import DEEPEST, deeper

_WIDTH = 120
_EXACT = 2**53

TYPES: dict[str, type] = {
    **dict.fromkeys(("str", "Text"), str),
    "int": int,
    "float": float,
    "bool": bool,
    **dict.fromkeys(("list", "List", "Sequence", "Iterable"), list),
    **dict.fromkeys(("tuple", "Tuple"), tuple),
    **dict.fromkeys(("set", "Set", "AbstractSet"), set),
    **dict.fromkeys(("dict", "Dict", "Mapping"), dict),
}
"""The types that a marked name may have, by the names that annotations use."""

_TERRAFORM = {
    str: "a string",
    bool: "a bool",
    int: "a whole number",
    float: "a number",
    list: "a list",
    tuple: "a list",
    set: "a list",
    dict: "a map",
    type(None): "null",
}


class MismatchError(ValueError):
    """A value does not have the type that the default asks for. `null`: it has no value at all."""

    def __init__(self, message: str, *, null: bool = False) -> None:
        super().__init__(message)
        self.null = null


class Shape:
    """What a default says of the type of a value in one place: what its own values there have in
    common.

    `kind` is None where anything goes (values that do not agree, or None). The places below are
    worked out when a value is held against them and not before: to merge them all beforehand takes
    time exponential in the default's depth.
    """

    def __init__(self, examples: Sequence[Any], kind: type | None = None) -> None:
        kinds = {type(example) for example in examples}
        one = kinds.pop() if len(kinds) == 1 else type(None)
        self.kind = kind or (None if one is type(None) else one)
        self._examples = examples if self.kind else ()

    @cached_property
    def item(self) -> "Shape | None":
        """The shape of a list's items or of a map's values; None where the default has none."""
        below = [
            child for e in self._examples for child in (e.values() if isinstance(e, dict) else e)
        ]
        return Shape(below) if below else None

    def of(self, key: str) -> "Shape | None":
        """The shape of a map's value: that of the default's values of this name, where it has any."""
        if key not in self._keys:
            named = [example[key] for example in self._examples if key in example]
            self._keys[key] = Shape(named) if named else self.item
        return self._keys[key]

    @cached_property
    def _keys(self) -> dict[str, "Shape | None"]:
        return {}


class Annotation(msgspec.Struct, frozen=True):
    """What an annotation says: the plain type (None where it is not one that we know), whether None
    may stand for it, and the same of a list's items or a map's values.
    """

    base: type | None = None
    optional: bool = False
    item: "Annotation | None" = None


class ExpectedValue(msgspec.Struct, frozen=True):
    """What may stand in a literal's place: values of that shape, or None where `optional`. `item`
    is of what is in them.
    """

    default: Any
    shape: Shape
    optional: bool
    item: Annotation | None = None

    def fit(self, value: Any) -> Any:
        """The value as Python is to have it. Raises MismatchError."""
        if value is None and self.optional:
            return None
        if deeper(value):
            raise MismatchError(f"it is nested more than {DEEPEST} levels deep")
        return _fit(self.shape, value, "it", Annotation(item=self.item))


def supported(value: Any) -> bool:
    """Whether a literal's value is made of the types that Terraform's values can become."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and supported(item) for key, item in value.items())
    if isinstance(value, list | tuple | set):
        return all(map(supported, value))
    return value is None or type(value) in {str, int, float, bool}


def render(value: Any, *, width: int = _WIDTH, newline: str = "\n") -> str:
    """A value as an ASCII literal that evaluates to it; one item a line where it is wider than
    `width`.
    """
    text = _render(value)
    if len(text) <= width or not isinstance(value, list | tuple | set | dict) or not value:
        return text
    items = (
        [f"{_render(key)}: {_render(item)}" for key, item in value.items()]
        if isinstance(value, dict)
        else [_render(item) for item in _ordered(value)]
    )
    return "".join((text[0], newline, *(f"    {item},{newline}" for item in items), text[-1]))


def shape_of(value: Any) -> Shape:
    """The shape of a literal's value; every value fits its own."""
    return Shape([value])


def _fit(shape: Shape | None, value: Any, what: str, noted: Annotation | None) -> Any:
    if (
        shape is None
        or shape.kind is None
        or (value is None and noted is not None and noted.optional)
    ):
        return _free(value, what)
    kind = shape.kind
    below = noted.item if noted is not None else None
    if value is None:
        raise MismatchError(f"{what} is null", null=True)
    if kind is float and type(value) in {int, float}:
        _check_range(value, what)
        if float(value) != value:
            raise MismatchError(f"{what} is a whole number that a float cannot hold exactly")
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind in {list, tuple, set} and type(value) is list:
        items = [
            _fit(shape.item, item, f"item {index} of {what}", below)
            for index, item in enumerate(value)
        ]
        if kind is set and not all(isinstance(item, str | int | float) for item in items):
            raise MismatchError(f"{what} has items that a set cannot hold")
        return kind(items)
    if kind is dict and type(value) is dict:
        return {
            key: _fit(shape.of(key), item, f"{key!r} of {what}", below)
            for key, item in value.items()
        }
    if type(value) is not kind:
        raise MismatchError(f"{what} is {_TERRAFORM[type(value)]}, not {_TERRAFORM[kind]}")
    return value


def _free(value: Any, what: str) -> Any:
    """A value of which nothing is asked: numbers become whole where they are so exactly."""
    if type(value) is list:
        return [_free(item, what) for item in value]
    if type(value) is dict:
        return {key: _free(item, what) for key, item in value.items()}
    if type(value) is float:
        _check_range(value, what)
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    return value


def _check_range(value: float, what: str) -> None:
    if (
        not abs(value) <= sys.float_info.max
    ):  # so that NaN, which no comparison holds for, is refused as well
        raise MismatchError(f"{what} is not a number that Python writes, or too large a one")


def _ordered(value: Any) -> list[Any]:
    return (
        sorted(value, key=lambda item: (type(item).__name__, item))
        if isinstance(value, set)
        else list(value)
    )


def _render(value: Any) -> str:
    if isinstance(value, str):
        text = ascii(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_render(key)}: {_render(item)}" for key, item in value.items()) + "}"
        )
    if isinstance(value, set):
        return "{" + ", ".join(map(_render, _ordered(value))) + "}" if value else "set()"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_render, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_render, value)) + "]"
    return repr(value)
