"""Terraform's values as Python literals: whether one fits the default, and
how it is written.

A default is the example of its type: `"x"` accepts a string, `[1]` a list
of numbers, `{}` any map.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from cipipe.bounded import DEEPEST, deeper

_WIDTH = 120
# Above this, two whole numbers may be the same float.
_EXACT = 2**53

# What a value of each of Terraform's types may become. The first is how
# messages name it.
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "number": (float, int),
    **dict.fromkeys(("list", "set", "tuple"), (list, tuple, set)),
    **dict.fromkeys(("map", "object"), (dict,)),
}

# The types that a marked name may have, by the names that annotations use.
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
    """A value does not have the type of the default. `null`: it is null where no null may be."""

    def __init__(self, message: str, *, null: bool = False) -> None:
        super().__init__(message)
        self.null = null


class Shape:
    """The type that one position in a default allows: what its examples
    there have in common.

    Positions further in are worked out when a value is compared with them,
    and not before: merging all of them in advance takes time exponential in
    the depth of the default.
    """

    # None where anything goes: the examples are of several types, or there
    # are none.
    kind: type | None

    def __init__(self, examples: Sequence[Any], kind: type | None = None) -> None:
        kinds = {type(example) for example in examples}
        common = kinds.pop() if len(kinds) == 1 else None
        self.kind = kind or (None if common is type(None) else common)
        self._examples = examples if self.kind else ()

    @cached_property
    def item(self) -> "Shape | None":
        """The shape of a list's items or a map's values; None where the default has no example."""
        below: list[Any] = []
        for example in self._examples:
            below += example.values() if isinstance(example, dict) else example
        return Shape(below) if below else None

    def of(self, key: str) -> "Shape | None":
        """The shape of a map's value: by its key, if the default has that, else by all values."""
        if key not in self._keys:
            named = [example[key] for example in self._examples if key in example]
            self._keys[key] = Shape(named) if named else self.item
        return self._keys[key]

    @cached_property
    def _keys(self) -> dict[str, "Shape | None"]:
        return {}


class Annotation(msgspec.Struct, frozen=True):
    """What the annotation of a name says about its type."""

    # None where it is no type that we know.
    base: type | None = None
    # Whether the value may be None.
    optional: bool = False
    # The same for the items of a list or the values of a map.
    item: "Annotation | None" = None


class ExpectedValue(msgspec.Struct, frozen=True):
    """What may replace a literal: values of that shape, or None where it is optional."""

    default: Any
    shape: Shape
    optional: bool
    item: Annotation | None = None

    def fit(self, value: Any) -> Any:
        """The value as the Python type that the default has. Raises MismatchError."""
        if value is None and self.optional:
            return None
        if deeper(value):
            raise MismatchError(f"it is nested more than {DEEPEST} levels deep")
        return _fit(self.shape, value, "it", annotation=Annotation(item=self.item))

    def check_type(self, type: Any) -> None:
        """The same for a value that is only known after apply, as far as
        its type says it. `type` is as Terraform writes types; None where it
        is not known.
        """
        _check_type(self.shape, type, "it")


def supported(value: Any) -> bool:
    """Whether a literal's value consists of types that a Terraform value can become."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and supported(item) for key, item in value.items())
    if isinstance(value, list | tuple | set):
        return all(map(supported, value))
    # Not isinstance: bytes and complex numbers are no JSON, and a bool is
    # no int.
    return value is None or type(value) in {str, int, float, bool}


def render(value: Any, *, width: int = _WIDTH, newline: str = "\n") -> str:
    """A value as an ASCII literal that evaluates to it, on several lines if wider than `width`."""
    text = _render(value)
    if len(text) <= width or not isinstance(value, list | tuple | set | dict) or not value:
        return text

    if isinstance(value, dict):
        items = [f"{_render(key)}: {_render(item)}" for key, item in value.items()]
    else:
        items = [_render(item) for item in _ordered(value)]
    lines = [f"    {item},{newline}" for item in items]
    return "".join((text[0], newline, *lines, text[-1]))


def shape_of(value: Any) -> Shape:
    """The shape of a literal's value; every value fits its own."""
    return Shape([value])


def _fit(shape: Shape | None, value: Any, what: str, annotation: Annotation | None) -> Any:
    if shape is None or shape.kind is None:
        return _free(value, what)
    if value is None:
        if annotation is not None and annotation.optional:
            return None
        raise MismatchError(f"{what} is null", null=True)

    kind = shape.kind
    below = annotation.item if annotation is not None else None
    if kind is float and type(value) in {int, float}:
        return _fit_float(value, what)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind in {list, tuple, set} and type(value) is list:
        return _fit_items(shape, value, what, below=below)
    if kind is dict and type(value) is dict:
        return {
            key: _fit(shape.of(key), item, f"{key!r} of {what}", annotation=below)
            for key, item in value.items()
        }
    # Not isinstance: a bool is an int in Python, and is none in Terraform.
    if type(value) is not kind:
        raise MismatchError(f"{what} is {_TERRAFORM[type(value)]}, not {_TERRAFORM[kind]}")
    return value


def _fit_float(value: float, what: str) -> float:
    _check_range(value, what)
    if float(value) != value:
        raise MismatchError(f"{what} is a whole number that a float cannot represent exactly")
    return float(value)


def _fit_items(shape: Shape, value: list[Any], what: str, below: Annotation | None) -> Any:
    items = [
        _fit(shape.item, item, f"item {index} of {what}", annotation=below)
        for index, item in enumerate(value)
    ]
    if shape.kind is set and not all(isinstance(item, str | int | float) for item in items):
        raise MismatchError(f"{what} has items that a set cannot contain")
    return shape.kind(items) if shape.kind else items


def _free(value: Any, what: str) -> Any:
    """A value of any type. Terraform has one type of numbers: exact whole ones become ints."""
    if type(value) is list:
        return [_free(item, what) for item in value]
    if type(value) is dict:
        return {key: _free(item, what) for key, item in value.items()}
    if type(value) is float:
        _check_range(value, what)
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    return value


def _check_type(shape: Shape | None, type: Any, what: str) -> None:
    outer, *inner = type if isinstance(type, list) and type else [type]
    allowed = _PYTHON.get(str(outer))
    if shape is None or shape.kind is None or allowed is None:
        return
    if shape.kind not in allowed:
        raise MismatchError(f"{what} is {_TERRAFORM[allowed[0]]}, not {_TERRAFORM[shape.kind]}")

    match outer, inner:
        case "list" | "set", [item]:
            _check_type(shape.item, item, f"an item of {what}")
        case "tuple", [[*items]]:
            for index, item in enumerate(items):
                _check_type(shape.item, item, f"item {index} of {what}")
        case "map", [item]:
            _check_type(shape.item, item, f"a value of {what}")
        case "object", [dict() as items, *_]:
            for key, item in items.items():
                _check_type(shape.of(key), item, f"{key!r} of {what}")


def _check_range(value: float, what: str) -> None:
    # Written with `not`, so that NaN is refused too: every comparison with
    # it is false.
    if not abs(value) <= sys.float_info.max:
        raise MismatchError(f"{what} is too large, or is no number that Python can write")


def _ordered(value: Any) -> list[Any]:
    # A set has no order of its own; without one, the same value would give
    # other bytes each time.
    if isinstance(value, set):
        return sorted(value, key=lambda item: (type(item).__name__, item))
    return list(value)


def _render(value: Any) -> str:
    if isinstance(value, str):
        return _render_text(value)
    if isinstance(value, dict):
        return "{" + _render_entries(value) + "}"
    if isinstance(value, set):
        # `{}` would be an empty map.
        return "{" + ", ".join(map(_render, _ordered(value))) + "}" if value else "set()"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_render, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_render, value)) + "]"
    return repr(value)


def _render_text(value: str) -> str:
    """Double quotes, as formatters write them, where that needs no escape."""
    text = ascii(value)
    return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text


def _render_entries(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{_render(key)}: {_render(item)}" for key, item in value.items())
