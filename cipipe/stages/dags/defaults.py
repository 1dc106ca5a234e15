"""What a marked literal, and the annotation before it, say of the output: its type, and whether None will do."""

import ast
import re
import warnings
from typing import Any

from cipipe.stages.dags.values import TYPES, Shape, Wanted, shape_of, supported

_OPTIONAL = re.compile(r"(?:\w+\.)*Optional\[(.*)\]", re.DOTALL)
_UNION = re.compile(r"(?:\w+\.)*Union\[(.*)\]", re.DOTALL)
_BASE = re.compile(r"(?:\w+\.)*(\w+)")


class RuleError(Exception):
    """A marker breaks a rule of the contract; `slug` is the id of the problem that it becomes."""

    def __init__(self, slug: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.slug = slug
        self.hint = hint


def evaluate(literal: str) -> Any:
    """The value of a literal's source text. Raises RuleError where it is not one, or of no type that Terraform has."""
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


def shape_wanted(default: Any, annotation: str) -> Wanted:
    """What may replace a default that is annotated like this (empty text: not at all). Raises RuleError."""
    base, optional = _annotated(annotation)
    if default is not None:
        return Wanted(default, shape_of(default), optional)
    if base is None:
        raise RuleError(
            "dag-default-none",
            "the marked value is None, which does not say what type the output has",
            "Annotate the name, such as `NAME: str | None = None`, or give it a value of the right type.",
        )
    return Wanted(None, Shape((), base), optional=True)


def _annotated(annotation: str) -> tuple[type | None, bool]:
    """The plain type in an annotation (None where it is not one that we know), and whether None may stand for it."""
    text = _unquoted(annotation)
    optional = False
    if match := _OPTIONAL.fullmatch(text):
        text, optional = _unquoted(match[1]), True
    if match := _UNION.fullmatch(text):
        parts = [_unquoted(part) for part in match[1].split(",")]
    else:
        parts = [_unquoted(part) for part in text.split("|")]
    if "None" in parts:
        optional = True
        parts.remove("None")
    base = _BASE.match(parts[0]) if parts else None
    return (TYPES.get(base[1]) if base else None), optional


def _unquoted(text: str) -> str:
    return text.strip().strip("\"'").strip()
