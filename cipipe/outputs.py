"""Terraform's outputs as settings and titles take them: text, of values that are no secret; and the
texts in any value.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.model import Output
from cipipe.parse import nearest


def text(name: str, known: Mapping[str, Output], *, stage: str) -> str:
    """The value of an output as Terraform writes it. Raises StageError where there is none that a
    setting can take.
    """
    where = f"stages.{stage}"
    if name not in known:
        hint = nearest(
            name, known, otherwise="Known outputs: " + (", ".join(sorted(known)) or "none yet")
        )
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
    return str(found.value).lower() if isinstance(found.value, bool) else str(found.value)


def filled(title: str, known: Mapping[str, Output], given: Mapping[str, str] | None = None) -> str:
    """A step's title, with the outputs in it that are known by now; `given` are the settings that
    come from outputs.

    A setting that turned out empty, such as that of an environment which is not there, is shown as
    `(none)`.
    """
    values = {
        n: o.value for n, o in known.items() if isinstance(o.value, str) and not o.sensitive
    } | dict(given or {})
    for name, value in values.items():
        title = title.replace(f"{{{name}}}", value or "(none)")
    return title


def secrets(known: Iterable[Output]) -> Iterator[Any]:
    """The values of sensitive outputs, as far as they are known."""
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
