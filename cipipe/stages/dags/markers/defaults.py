"""What a marked literal and its annotation say about the output: its type,
and if it may be None.

Both are source text, and are never executed: `ast` parses them, and only
literals are evaluated.
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

# Limits for annotations that somebody made to be slow: members of a union,
# nested item types.
_MOST_MEMBERS = 500
_DEEPEST = 20


class RuleError(Exception):
    """A marker breaks a rule of the contract; `slug` is the id of the problem that it becomes."""

    def __init__(self, slug: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.slug = slug
        self.hint = hint


def evaluate(literal: str) -> Any:
    """The value of a literal's source text.

    Raises RuleError where it is no literal, or of no type that Terraform
    has.
    """
    try:
        # An invalid escape such as "\d" is a warning that belongs to the
        # file, not to this run.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The parentheses let the literal go over several lines; a
            # comment may end its last one.
            value = ast.literal_eval(f"({literal}\n)")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = ...
    if not supported(value):
        raise RuleError(
            "dag-default-not-literal",
            "the marked value is not a literal of strings, numbers, booleans, lists and maps",
            "It is replaced at deployment, and is the value in a local run:"
            " write a plain literal, no call, no f-string.",
        )
    return value


def expected_value(default: Any, annotation: str) -> ExpectedValue:
    """What may replace a default; `annotation` is source text, empty where
    there is none.

    Raises RuleError where the two do not say the type.
    """
    found = annotated(annotation)
    if default is not None:
        return ExpectedValue(
            default=default,
            shape=shape_of(default),
            optional=found.optional,
            item=found.item,
        )
    if found.base is None:
        raise RuleError(
            "dag-default-none",
            "the marked value is None, which does not say what type the output has",
            "Annotate the name, such as `NAME: str | None = None`,"
            " or give it a value of the right type.",
        )
    return ExpectedValue(None, Shape((), found.base), optional=True)


def annotated(annotation: str) -> Annotation:
    """What the text of an annotation says; nothing where it cannot be parsed."""
    node = _parsed(annotation)
    return _annotation(node, 0) if node is not None else Annotation()


def _parsed(text: str) -> ast.expr | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(f"({text}\n)", mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _annotation(node: ast.expr, depth: int) -> Annotation:
    """The first type of a union, and whether None is one of the others."""
    optional = False
    types: list[ast.expr] = []
    waiting = [node]
    for _ in range(_MOST_MEMBERS):
        if not waiting:
            break
        member = waiting.pop()
        name = _named(member)[0]
        optional = optional or name in {"None", "NoneType", "Optional"}
        inner = _members(member)
        if inner is not None:
            waiting += reversed(inner)
        elif name not in {"None", "NoneType"}:
            types.append(member)

    if not types:
        return Annotation(optional=optional)
    name, arguments = _named(types[0])
    base = TYPES.get(name)
    item = None
    if arguments and depth < _DEEPEST:
        # The values of a map are its second argument.
        item = _annotation(arguments[-1 if base is dict else 0], depth + 1)
    return Annotation(base, optional, item)


def _members(node: ast.expr) -> list[ast.expr] | None:
    """The types that a union, a wrapper or a quoted type consists of; None for other types."""
    name, arguments = _named(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [node.left, node.right]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        quoted = _parsed(node.value)
        return [] if quoted is None else [quoted]
    if name == "Literal":
        constants = [value for value in arguments if isinstance(value, ast.Constant)]
        return [ast.Name(type(constant.value).__name__) for constant in constants]
    if name in {"Optional", "Union"}:
        return arguments
    return arguments[:1] if name in _WRAPPERS else None


def _named(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """The last part of a type's name, and the arguments in brackets behind it."""
    arguments: list[ast.expr] = []
    if isinstance(node, ast.Subscript):
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        node = node.value
    if isinstance(node, ast.Constant) and node.value is None:
        return "None", arguments
    # `typing.Optional` is an attribute, `Optional` a name; anything else
    # has neither.
    return getattr(node, "attr", getattr(node, "id", "")), arguments
