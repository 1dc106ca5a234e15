"""Terraform roots that are written in JSON: what `*.tf.json` files declare.

https://developer.hashicorp.com/terraform/language/syntax/json
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cipipe import bounded


def has_provider(body: bytes) -> bool:
    """Whether the file configures a provider."""
    return any(_labelled(body, "provider"))


def backend_settings(body: bytes) -> dict[str, str]:
    """The settings of the file's backend that are plain text."""
    found: dict[str, str] = {}
    for block in _blocks(_document(body), "terraform"):
        for backends in _blocks(block, "backend"):
            for settings in backends.values():
                for attributes in settings if isinstance(settings, list) else [settings]:
                    found |= _plain(attributes)
    return found


def outputs(body: bytes) -> dict[str, str]:
    """Each output's name, and its block as text."""
    return {name: json.dumps(block) for name, block in _labelled(body, "output")}


def _plain(attributes: Any) -> Mapping[str, str]:
    if not isinstance(attributes, dict):
        return {}
    return {
        key: value
        for key, value in attributes.items()
        if isinstance(value, str) and not set(value) & set('$%\\\n"')
    }


def _labelled(body: bytes, kind: str) -> Iterator[tuple[str, Any]]:
    """The blocks of a kind, each with its label."""
    for table in _blocks(_document(body), kind):
        yield from table.items()


def _document(body: bytes) -> Any:
    """The file's content; None where it is not JSON."""
    try:
        return bounded.loads(body)
    except ValueError:
        return None


def _blocks(table: Any, key: str) -> Iterator[dict[str, Any]]:
    """The blocks of that name: one table, or a list of them. A file may be a list of tables."""
    for one in table if isinstance(table, list) else [table]:
        value = one.get(key) if isinstance(one, dict) else None
        for block in value if isinstance(value, list) else [value]:
            if isinstance(block, dict):
                yield block
