"""Terraform's outputs as text, for settings and titles; and the strings in any value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.model import Output
from cipipe.parse import listed, nearest

# Values that a setting can have, and their types in Terraform. One that is
# not known may be any.
_VALUES = (str, int, float)
_OF_SETTINGS = ("string", "number", "bool", "dynamic", None)


def text(name: str, known: Mapping[str, Output], *, stage: str) -> str:
    """The value of an output as Terraform writes it. Raises StageError if
    there is none, or none that a setting can have.
    """
    found = _known(name, known, stage=stage)
    refuse_unusable(name, found, stage=stage)
    # Terraform writes `true`, Python `True`.
    return str(found.value).lower() if isinstance(found.value, bool) else str(found.value)


def value(name: str, known: Mapping[str, Output], *, stage: str) -> Any:
    """The value of an output, of whatever type; UNSET for a sensitive one
    that is not kept in the ledger. Raises StageError if there is none.
    """
    return _known(name, known, stage=stage).value


def _known(name: str, known: Mapping[str, Output], *, stage: str) -> Output:
    if name not in known:
        where = f"stages.{stage}"
        otherwise = f"Known outputs: {listed(sorted(known))}"
        if not known:
            otherwise = "They have no outputs here yet: deploy them first with `cipipe run`."
        hint = nearest(name, known, otherwise=otherwise)
        raise StageError(
            "output-unknown",
            f"no stage that {stage} needs has an output {name!r}",
            hint=hint,
            where=where,
        )
    return known[name]


def refuse_unusable(name: str, found: Output, *, stage: str) -> None:
    """Raise StageError for an output that a setting cannot have, as far as that is known."""
    where = f"stages.{stage}"
    if found.sensitive:
        raise StageError("output-unusable", f"output {name} is sensitive", where=where)
    fits = found.type in _OF_SETTINGS if found.unknown else isinstance(found.value, _VALUES)
    if not fits:
        raise StageError("output-unusable", f"output {name} is not a string or number", where=where)


def terraform_type(type: Any) -> str:
    """A type as Terraform writes it in JSON, for people: `list of string`."""
    match type:
        case "dynamic" | None:
            return "unknown type"
        case str() as word:
            return word
        case ["list" | "set" | "map" as outer, inner]:
            return f"{outer} of {terraform_type(inner)}"
        case ["object" | "tuple" as outer, *_]:
            return str(outer)
        case _:
            return "unknown type"


def after_apply(name: str, known: Mapping[str, Output]) -> str:
    """An output that is only known after apply: `vpc_id: string, known after apply`."""
    found = known.get(name, Output())
    return f"{name}: {terraform_type(found.type)}, known after apply"


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


def produced_secret(known: Mapping[str, Output], names: Iterable[str]) -> bool:
    """Whether one of these outputs is sensitive and was not read from the ledger."""
    found = [known[name] for name in names if name in known]
    return any(output.sensitive and output.value is not msgspec.UNSET for output in found)


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
