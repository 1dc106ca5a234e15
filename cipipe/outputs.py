"""Terraform's outputs as text, for settings and titles; and the strings in any value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.model import Output
from cipipe.parse import listed, nearest


def text(name: str, known: Mapping[str, Output], *, stage: str) -> str:
    """The value of an output as Terraform writes it. Raises StageError if
    there is none, or none that a setting can have.
    """
    where = f"stages.{stage}"
    if name not in known:
        names = listed(sorted(known)) or "none yet"
        hint = nearest(name, known, otherwise=f"Known outputs: {names}")
        raise StageError(
            "output-unknown",
            f"no stage that {stage} needs has an output {name!r}",
            hint=hint,
            where=where,
        )
    found = known[name]
    if found.sensitive:
        raise StageError("output-unusable", f"output {name} is sensitive", where=where)
    if not isinstance(found.value, (str, int, float)):
        raise StageError("output-unusable", f"output {name} is not a string or number", where=where)
    # Terraform writes `true`, Python `True`.
    return str(found.value).lower() if isinstance(found.value, bool) else str(found.value)


def filled(title: str, known: Mapping[str, Output], given: Mapping[str, str] | None = None) -> str:
    """A step's title with the known outputs filled in. `given` are the
    values of settings that come from outputs.

    An empty value, such as that of an optional resource that does not
    exist, is shown as `(none)`.
    """
    values = {
        name: output.value
        for name, output in known.items()
        if isinstance(output.value, str) and not output.sensitive
    }
    # A default may stand in for an output that is null.
    values |= given or {}
    for name, value in values.items():
        title = title.replace(f"{{{name}}}", value or "(none)")
    return title


def secrets(known: Iterable[Output]) -> Iterator[Any]:
    """The values of sensitive outputs that are known."""
    for output in known:
        if output.sensitive and output.value is not msgspec.UNSET:
            yield output.value


def strings(value: Any) -> Iterator[str]:
    """Every string in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from strings(item)
