"""Which backend the files of a Terraform root declare: text in, names and
lines out.

For checks before Terraform runs, and for messages. After `init`, Terraform
itself says which backend it uses.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

# The tokens that matter. Comments and heredocs match as a whole, so that
# nothing in them counts; a string ends at its line's end at the latest.
_HCL = re.compile(
    r"""(?:\#|//)[^\n]*"""
    r"""|/\*.*?\*/"""
    r"""|<<-?[ \t]*(?P<end>[\w-]+)\n(?:.*?\n)??[ \t]*(?P=end)\b"""
    r"""|(?P<string>"(?:\\.|[^"\\\n])*"?)"""
    r"""|(?P<word>[{}=]|[\w-]+)""",
    re.DOTALL,
)


class Declared(msgspec.Struct, frozen=True):
    """A `backend` or `cloud` block."""

    # `cloud` for a `cloud` block.
    type: str
    # The name of the file, without folder.
    file: str
    line: int


def declared(files: Mapping[str, bytes]) -> Declared | None:
    """The block that counts, from a root's files by name; None where there is none."""
    found = None
    # Override files are merged over all others, in alphabetical order.
    for name in sorted(files, key=lambda name: (_overrides(name), name)):
        if name.startswith("."):
            # Terraform does not load it either.
            continue
        if name.endswith((".tf", ".tofu")):
            found = next(_in_hcl(name, files[name].decode(errors="replace")), found)
        elif name.endswith((".tf.json", ".tofu.json")):
            found = next(_in_json(name, files[name]), found)
    return found


def _overrides(name: str) -> bool:
    stem = name.removesuffix(".json").removesuffix(".tf").removesuffix(".tofu")
    return stem == "override" or stem.endswith("_override")


def _in_hcl(name: str, text: str) -> Iterator[Declared]:
    text = text.replace("\r\n", "\n")
    depth = 0
    # Whether the current top-level block is `terraform`.
    inside = False
    last = ["", "", ""]
    for found in _HCL.finditer(text):
        word = found["word"] or found["string"]
        if word is None:
            continue
        if word == "{":
            line = text.count("\n", 0, found.start()) + 1
            if depth == 0:
                # A label or a value of that name has another word before
                # it.
                inside = last[-1] == "terraform" and last[-2] in {"", "}"}
            elif inside and depth == 1 and last[-2] == "backend":
                yield Declared(last[-1].strip('"'), name, line)
            elif inside and depth == 1 and last[-1] == "cloud":
                yield Declared("cloud", name, line)
            depth += 1
        elif word == "}":
            depth = max(0, depth - 1)
        last = [*last[1:], word]


def _in_json(name: str, body: bytes) -> Iterator[Declared]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return
    tables = found if isinstance(found, list) else [found]
    for block in (block for table in tables for block in _blocks(table, "terraform")):
        for backend in _blocks(block, "backend"):
            for kind in backend:
                yield Declared(str(kind), name, 1)
        if list(_blocks(block, "cloud")):
            yield Declared("cloud", name, 1)


def _blocks(table: Any, key: str) -> Iterator[dict[str, Any]]:
    """The blocks of that name in JSON: one table, or a list of them."""
    if not isinstance(table, dict):
        return
    value = table.get(key)
    for block in value if isinstance(value, list) else [value]:
        if isinstance(block, dict):
            yield block
