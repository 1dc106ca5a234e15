"""Terraform roots: folders that Terraform is run in, not modules that others call."""

import posixpath
import re
from collections.abc import Iterator

import msgspec

from cipipe.pipeline.adoption import terraform_json
from cipipe.pipeline.adoption.files import Files, grouped
from cipipe.stages.terraform.files.hcl import references_in, references_in_json
from cipipe.tools.terraform.blocks import declared

_JSON = ".tf.json"
_PROVIDER = re.compile(rb'^[ \t]*provider[ \t]+"', re.MULTILINE)
# On one line, or up to a brace at the beginning of a line.
_OUTPUT = re.compile(
    r'^output[ \t]+"([\w-]+)"[ \t]*\{(?:([^\n]*)\}[ \t]*$|(.*?)^\})', re.MULTILINE | re.DOTALL
)
_BLOCK = re.compile(r'^[ \t]*backend[ \t]+"[\w-]+"[ \t]*\{([^{}]*)\}', re.MULTILINE)
_ATTRIBUTE = re.compile(r'^[ \t]*(\w+)[ \t]*=[ \t]*"([^"\\$%\n]*)"[ \t]*$', re.MULTILINE)


class FoundRoot(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    # None where the state would be lost with the job.
    backend: str | None
    # What the block has in it, as far as it is plain text.
    settings: dict[str, str]
    # Each output's name, and its block as text.
    outputs: dict[str, str]
    # Relative to the root.
    var_files: tuple[str, ...]
    # Folders of local modules, relative to the top of the repository.
    modules: tuple[str, ...]
    # Whether some of it is written in JSON.
    has_json: bool = False


def roots(files: Files) -> list[FoundRoot]:
    """Every root, in the order of their paths."""
    folders = grouped(files, lambda name: name.endswith((".tf", _JSON)))
    called = {path: tuple(_modules(path, body)) for path, body in folders.items()}
    modules = {module for found in called.values() for module in found}
    return [
        _root(path, body, files, tuple(_reached(path, called)))
        for path, body in folders.items()
        if path not in modules and _runs(body)
    ]


def _runs(files: dict[str, bytes]) -> bool:
    return declared(files) is not None or any(
        terraform_json.has_provider(body) if name.endswith(_JSON) else _PROVIDER.search(body)
        for name, body in files.items()
    )


def _root(path: str, files: dict[str, bytes], every: Files, modules: tuple[str, ...]) -> FoundRoot:
    block = declared(files)
    in_json = {name: body for name, body in files.items() if name.endswith(_JSON)}
    text = "\n".join(
        body.decode(errors="replace") for name, body in files.items() if name not in in_json
    )
    outputs = {name: line or block for name, line, block in _OUTPUT.findall(text)}
    for body in in_json.values():
        outputs |= terraform_json.outputs(body)
    attributes: dict[str, str] = {}
    if block is not None and block.file in in_json:
        attributes = terraform_json.backend_settings(files[block.file])
    elif block is not None and (found := _BLOCK.search(files[block.file].decode(errors="replace"))):
        attributes = dict(_ATTRIBUTE.findall(found[1]))
    above = "" if path == "." else f"{path}/"
    return FoundRoot(
        path=path,
        backend=block.type if block is not None else None,
        settings=attributes,
        outputs=outputs,
        var_files=tuple(
            name.removeprefix(above)
            for name in every
            if name.startswith(above) and name.endswith(".tfvars")
        ),
        modules=modules,
        has_json=bool(in_json),
    )


def _modules(path: str, files: dict[str, bytes]) -> Iterator[str]:
    for name, body in files.items():
        read = references_in_json if name.endswith(_JSON) else references_in
        for reference in read(body):
            if reference.is_module:
                yield posixpath.normpath(posixpath.join(path, reference.path))


def _reached(path: str, called: dict[str, tuple[str, ...]]) -> list[str]:
    """The modules of a root, and those that they call in turn."""
    found: dict[str, None] = {}
    waiting = [*called.get(path, ())]
    while waiting:
        module = waiting.pop()
        if module not in found and module in called:
            found[module] = None
            waiting += called[module]
    return sorted(found)
