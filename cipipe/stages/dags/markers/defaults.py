"""What a marked literal, and the annotation before it, say of the output: its type, and whether
None will do.
"""

import ast
import warnings
from typing import Any

from cipipe.stages.dags.markers.values import (
    TYPES,
    Annotation,
    ExpectedValue,
    Shape,
    shape_of,
    supported,
)

_WRAPPERS = {"Annotated", "ClassVar", "Final"}
_MOST_PARTS = 500
_DEEPEST = 20


class RuleError(Exception):
    """A marker breaks a rule of the contract; `slug` is the id of the problem that it becomes."""

    def __init__(self, slug: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.slug = slug
        self.hint = hint


def evaluate(literal: str) -> Any:
    """The value of a literal's source text. Raises RuleError where it is not one, or of no type
    that Terraform has.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(f"({literal}\n)")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = ...
    if not supported(value):
        raise RuleError(
            "dag-default-not-literal",
            "the marked value is not a literal of strings, numbers, booleans, lists and maps",
            "It is replaced at deployment, and is the value in a local run: write a plain literal, no call, no f-string.",
        )
    return value


def shape_wanted(default: Any, annotation: str) -> ExpectedValue:
    """What may replace a default that is annotated like this (empty text: not at all). Raises
    RuleError.
    """
    noted = annotated(annotation)
    if default is not None:
        return ExpectedValue(default, shape_of(default), noted.optional, noted.item)
    if noted.base is None:
        raise RuleError(
            "dag-default-none",
            "the marked value is None, which does not say what type the output has",
            "Annotate the name, such as `NAME: str | None = None`, or give it a value of the right type.",
        )
    return ExpectedValue(None, Shape((), noted.base), optional=True)


def annotated(annotation: str) -> Annotation:
    """What the text of an annotation says; nothing where it cannot be read."""
    node = _parsed(annotation)
    return _said(node, 0) if node is not None else Annotation()


def _parsed(text: str) -> ast.expr | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(f"({text}\n)", mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _said(node: ast.expr, depth: int) -> Annotation:
    """The first type of a union, and whether None is one of the others."""
    optional = False
    found: list[ast.expr] = []
    waiting = [node]
    for _ in range(_MOST_PARTS):
        if not waiting:
            break
        part = waiting.pop()
        name = _named(part)[0]
        optional = optional or name in {"None", "NoneType", "Optional"}
        parts = _parts(part)
        if parts is not None:
            waiting += reversed(parts)
        elif name not in {"None", "NoneType"}:
            found.append(part)
    if not found:
        return Annotation(optional=optional)
    name, arguments = _named(found[0])
    item = (
        _said(arguments[-1 if TYPES.get(name) is dict else 0], depth + 1)
        if arguments and depth < _DEEPEST
        else None
    )
    return Annotation(TYPES.get(name), optional, item)


def _parts(node: ast.expr) -> list[ast.expr] | None:
    """What a union, a wrapper or a quoted type consists of; None for other types."""
    name, arguments = _named(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [node.left, node.right]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        quoted = _parsed(node.value)
        return [] if quoted is None else [quoted]
    if name == "Literal":
        kinds = [
            type(value.value).__name__ for value in arguments if isinstance(value, ast.Constant)
        ]
        return [ast.Name(kind) for kind in kinds]
    if name in {"Optional", "Union"}:
        return arguments
    return arguments[:1] if name in _WRAPPERS else None


def _named(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """The last part of a type's name, and what stands in the brackets behind it."""
    arguments: list[ast.expr] = []
    if isinstance(node, ast.Subscript):
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        node = node.value
    if isinstance(node, ast.Constant) and node.value is None:
        return "None", arguments
    return getattr(node, "attr", getattr(node, "id", "")), arguments
