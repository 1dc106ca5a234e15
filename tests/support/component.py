"""A GitLab component with its inputs filled in, as GitLab does it: in the text, before it is read
as YAML. A value that is no string becomes JSON.

https://docs.gitlab.com/ci/inputs/
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from support.tools import ROOT

DEPLOY = ROOT / "templates/deploy/template.yml"

_TYPES: dict[str, type] = {"string": str, "array": list, "boolean": bool, "number": float}


def spec(path: Path = DEPLOY) -> dict[str, Any]:
    """The inputs that a component declares."""
    header, _ = _documents(path)
    inputs = yaml.safe_load(header)["spec"]["inputs"]
    assert isinstance(inputs, dict)
    return inputs


def component(inputs: dict[str, Any], path: Path = DEPLOY) -> dict[str, Any]:
    """The jobs of a component, for these inputs. Fails where GitLab would refuse them."""
    declared = spec(path)
    assert set(inputs) <= set(declared), f"unknown inputs: {set(inputs) - set(declared)}"
    values = {name: _value(name, one, inputs) for name, one in declared.items()}

    def filled(found: re.Match[str]) -> str:
        value = values[found[1]]
        return value if isinstance(value, str) else json.dumps(value)

    _, body = _documents(path)
    made = yaml.safe_load(re.sub(r"\$\[\[ inputs\.(\w+) \]\]", filled, body))
    assert isinstance(made, dict)
    return made


def _documents(path: Path) -> tuple[str, str]:
    header, separator, body = path.read_text().partition("\n---\n")
    assert separator
    return header, body


def _value(name: str, declared: dict[str, Any], inputs: dict[str, Any]) -> Any:
    value = inputs.get(name, declared.get("default"))
    assert value is not None, f"the input {name} is required"
    assert isinstance(value, _TYPES[declared.get("type", "string")]), name
    if "regex" in declared:
        assert re.search(declared["regex"], str(value)), name
    if "options" in declared:
        assert value in declared["options"], name
    return value
