"""GitHub's expressions, as far as this repository's workflows use them, evaluated as GitHub does.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_PART = re.compile(r"'(?:[^']|'')*'|&&|\|\||!(?!=)|[A-Za-z][\w-]*+(?:\.[\w-]++)*+(?!\s*\()")


def filled(text: str, contexts: Mapping[str, Any]) -> str:
    """A text with its expressions replaced."""
    return _EXPRESSION.sub(lambda found: _text(evaluated(found[1], contexts)), text)


def evaluated(expression: str, contexts: Mapping[str, Any]) -> Any:
    """The value of an expression, such as an `if:`. `contexts` has a value for `github.ref`, and so
    on; what it lacks is null. No job has failed or was cancelled.
    """
    found = _EXPRESSION.fullmatch(expression.strip())
    code = _PART.sub(lambda part: _python(part[0]), found[1] if found else expression)
    return eval(
        " ".join(code.split()),
        {
            "__builtins__": {},
            "value": lambda name: _Value.of(contexts.get(name)),
            "contains": lambda where, what: what in where,
            "format": lambda text, *values: text.format(*map(_text, values)),
            "fromJSON": lambda text: _Value.of(json.loads(text)),
            "startsWith": lambda text, start: _text(text).startswith(start),
            "cancelled": lambda: False,
            "failure": lambda: False,
        },
    )


def _python(part: str) -> str:
    words = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}
    if part in words:
        return words[part]
    if part.startswith("'"):
        return repr(part[1:-1].replace("''", "'"))
    return f"value({part!r})"


class _Value(list[Any]):
    """A list, or null: an index beyond the end gives null."""

    @classmethod
    def of(cls, found: Any) -> Any:
        if found is None or isinstance(found, list):
            return cls(found or [])
        return found

    def __getitem__(self, index: Any) -> Any:
        return self.of(super().__getitem__(index) if index < len(self) else None)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) or (not self and other == "")

    __hash__ = None


def _text(found: Any) -> str:
    if isinstance(found, bool):
        return str(found).lower()
    return "" if isinstance(found, _Value) and not found else str(found)
