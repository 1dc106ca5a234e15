"""The JSON Schema of cipipe.toml, for editors.

It is made from the types that parse the file, so it accepts every key and
type that the parser does, and no other. What only the whole file shows,
such as a name that does not exist, is left to `cipipe check`.
https://json-schema.org/draft/2020-12
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cipipe import ci
from cipipe.config.loading import ConfigFile
from cipipe.config.names import NAME
from cipipe.config.settings import StageTable
from cipipe.stages import KINDS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = {"pattern": f"^{NAME.pattern}$"}


def schema() -> dict[str, Any]:
    """The schema as a JSON document."""
    types = (ConfigFile, StageTable, *(kind.Settings for kind in KINDS.values()))
    _, made = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    definitions = {name: _without_null(table) for name, table in made.items()}

    top = definitions.pop(ConfigFile.__name__)
    shared = definitions.pop(StageTable.__name__)
    for name, kind in KINDS.items():
        settings = definitions.pop(kind.Settings.__name__)
        definitions[_stage(name)] = _stage_table(name, shared, settings)

    top["title"] = "cipipe.toml"
    top["description"] = "What cipipe deploys from this repository, and where."
    properties = top["properties"]
    properties["project"] = definitions.pop("ProjectSettings")
    properties["project"]["properties"]["name"] |= _NAMES
    properties["environments"]["propertyNames"] = _NAMES
    properties["oidc"]["propertyNames"] = {"enum": sorted(ci.PROVIDERS)}
    properties["stages"] |= {
        "propertyNames": _NAMES,
        "additionalProperties": {
            "oneOf": [{"$ref": f"#/$defs/{_stage(name)}"} for name in KINDS],
        },
    }
    definitions["Environment"]["properties"]["account_id"]["pattern"] = "^[0-9]{12}$"
    _restrict(definitions["Reference"])
    return {"$schema": _DIALECT, **top, "$defs": dict(sorted(definitions.items()))}


def _stage(kind: str) -> str:
    return f"stage of kind {kind}".replace(" ", "-")


def _stage_table(name: str, shared: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The table of a stage of that kind: the keys of every stage, and the kind's own."""
    return {
        "title": f"kind = {name}",
        "type": "object",
        "properties": {
            **shared["properties"],
            "kind": {"const": name},
            **settings["properties"],
        },
        "required": [*shared["required"], *settings["required"]],
        "additionalProperties": False,
        # A stage that is due by its content needs files.
        "anyOf": [
            {"required": ["paths"], "properties": {"paths": _SOME_FILES}},
            {"required": ["when"], "properties": {"when": {"not": {"const": "due"}}}},
        ],
    }


_SOME_FILES = {"contains": {"type": "string", "pattern": "^([^!]|$)"}}


def _restrict(reference: dict[str, Any]) -> None:
    """A reference names exactly one source, and a fingerprint is always known."""
    reference["oneOf"] = [{"required": [key]} for key in ("output", "fingerprint", "env")]
    reference["dependentSchemas"] = {"default": {"not": {"required": ["fingerprint"]}}}


def _without_null(value: Any) -> Any:
    """The same schema without null, which TOML does not have."""
    if isinstance(value, list):
        return [_without_null(item) for item in value if item != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    table = {key: _without_null(item) for key, item in value.items() if item is not None}
    choices = table.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:
        del table["anyOf"]
        table |= choices[0]
    return table
