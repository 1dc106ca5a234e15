"""What Terraform files and Dockerfiles name as their sources: text in, line numbers and names out.

Read loosely: this is for warnings, and what cannot be told from the text alone is left out.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Iterator

# Comments and heredocs are taken whole, so that nothing in them counts; a string ends at its line's end at the latest.
_HCL = re.compile(
    r"""(?:\#|//)[^\n]*|/\*.*?\*/|<<-?\s*(?P<end>\w+)\n.*?\n[ \t]*(?P=end)\b|(?P<string>"(?:\\.|[^"\\\n])*"?)"""
    r"""|(?P<word>[{}=]|[\w-]+)""",
    re.DOTALL,
)
_INSTRUCTION = re.compile(r"\s*(?:COPY|ADD)\s+(.*)", re.IGNORECASE | re.DOTALL)
_UNKNOWN = re.compile(r"[$]|<<|^[a-z+]+://|^git@")
_WILD = re.compile(r"[*?\[]")


def modules(body: bytes) -> Iterator[tuple[int, str]]:
    """The local sources of the `module` blocks of a `*.tf` file (`./…`, `../…`), each with its line."""
    text = body.decode(errors="surrogateescape")
    depth, module, last = 0, False, ["", "", ""]
    for found in _HCL.finditer(text):
        word = found["word"] or found["string"]
        if word is None:
            continue
        if word == "{":
            module = module or (depth == 0 and last[1] == "module")
            depth += 1
        elif word == "}":
            depth -= 1
            module = module and depth > 0
        elif module and depth == 1 and last[1:] == ["source", "="] and re.match(r'"\.\.?(/|"$)', word):
            yield text.count("\n", 0, found.start()) + 1, word.strip('"')
        last = [*last[1:], word]


def copied(body: bytes) -> Iterator[tuple[int, str]]:
    """What a Dockerfile's `COPY` and `ADD` take from the build context, each with its line; a folder for wildcards.

    Paths are relative to the context, `""` is all of it. Source: docs.docker.com/reference/dockerfile.
    """
    for number, line in _instructions(body.decode(errors="surrogateescape")):
        found = _INSTRUCTION.fullmatch(line)
        arguments = _arguments(found[1]) if found else []
        if any(argument.startswith("--from") for argument in arguments):
            continue
        for source in [a for a in arguments if not a.startswith("--")][:-1]:
            if not _UNKNOWN.search(source):
                literal = _WILD.split(source)[0]
                path = source if literal == source else posixpath.dirname(literal)
                yield number, posixpath.normpath(f"/{path}").strip("/")


def _instructions(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines: comments left out, lines that end in a backslash joined, with the number of the first."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        first = first if joined else number
        joined += line.rstrip().removesuffix("\\") + " "
        if not line.rstrip().endswith("\\"):
            yield first, joined.strip()
            joined = ""
    if joined:
        yield first, joined.strip()


def _arguments(text: str) -> list[str]:
    flags = re.match(r"(?:--\S+\s+)*", text)
    rest = text[flags.end() :] if flags else text
    try:
        names = [str(name) for name in json.loads(rest)] if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        return []
    return [*(flags[0].split() if flags else []), *names]
