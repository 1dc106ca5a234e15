"""What a Dockerfile copies from its build context, and whether it needs
BuildKit.

This is for warnings, so it is loose: what the text alone does not tell is
left out. Source: docs.docker.com/reference/dockerfile.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cipipe.stages.image.dockerfile_syntax import (
    HEREDOC,
    expanded,
    flags_of,
    instructions,
    words_of,
)


class CopySource(NamedTuple):
    line: int
    # Relative to the top of the context (`""` is all of it); may have
    # wildcards.
    path: str
    exclude: tuple[str, ...] = ()


_ELSEWHERE = re.compile(r"<<|[A-Za-z+]+://|git@")
"""How an argument of `COPY` or `ADD` starts that is no path: a here-document or a URL."""

_COPY_FLAGS = frozenset({"link", "chmod", "parents", "exclude"})
_BUILDKIT_FLAGS = {
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": _COPY_FLAGS,
    "ADD": _COPY_FLAGS | {"checksum", "keep-git-dir", "unpack"},
}
"""What Docker's classic builder does not know."""

_STEPS = frozenset({"FROM", "RUN", "COPY", "ADD", "WORKDIR"})
"""The instructions that BuildKit counts as steps; all others change the configuration only."""

_ARG = re.compile(r"(\w+)(?:=(.*))?", re.DOTALL)


def copy_sources(body: bytes, build_args: Mapping[str, str | None]) -> Iterator[CopySource]:
    """The sources of `COPY`, `ADD` and of bind mounts that lie in the
    context: not those of other build stages and images, and no URLs.

    `build_args` are those of the build; None is a value that is not known.
    """
    # `ARG` before the first `FROM` counts only in build stages that declare
    # it again.
    before_stages = _Variables()
    here: _Variables | None = None

    for line, instruction, escape in instructions(body.decode(errors="surrogateescape")):
        name, _, rest = instruction.partition(" ")
        name = name.upper()
        rest = rest.strip()
        if name == "FROM":
            here = _Variables()
        elif name == "ARG":
            _declare(rest, build_args, before_stages=before_stages, here=here)
        elif name == "ENV" and here is not None:
            here.env |= _environment(rest, here.known, escape)
        elif name in {"COPY", "ADD"}:
            known = here.known if here else {}
            for source in _copied(rest, known, escape):
                yield source._replace(line=line)
        elif name == "RUN":
            for path in _mounted(rest):
                yield CopySource(line, path)


def base_images(body: bytes, build_args: Mapping[str, str | None]) -> Iterator[str]:
    """The images that `FROM` names, but for earlier build stages and those
    that name a digest, which never change.
    """
    before_stages = _Variables()
    stages = {"scratch"}
    for _, instruction, escape in instructions(body.decode(errors="surrogateescape")):
        name, _, rest = instruction.partition(" ")
        if name.upper() == "ARG" and len(stages) == 1:
            _declare(rest.strip(), build_args, before_stages=before_stages, here=None)
        elif name.upper() == "FROM":
            words = flags_of(rest.strip())[1].split()
            image = expanded(words[0], before_stages.known, escape) if words else None
            if image and "@" not in image and image.lower() not in stages:
                yield image
            # One without a name counts too: `ARG` below it is its own.
            stages.add(words[-1].lower() if len(words) > 2 else f"#{len(stages)}")


def needs_buildkit(body: bytes) -> tuple[int, str] | None:
    """The first thing that Docker's classic builder does not know, with its
    line; None where there is none.
    """
    for line, instruction, escape in instructions(body.decode(errors="surrogateescape")):
        name, _, rest = instruction.partition(" ")
        name = name.upper()
        if name not in _BUILDKIT_FLAGS:
            continue
        flags = _BUILDKIT_FLAGS[name] & flags_of(rest.strip())[0].keys()
        if flags:
            return line, f"{name} --{min(flags)}"
        if any(HEREDOC.fullmatch(word) for word in words_of(instruction, escape)):
            return line, f"{name} with a here-document"
    return None


def step_lines(body: bytes) -> dict[tuple[str | None, int], int]:
    """The line of each step, by how builders name it in what they print.

    BuildKit: the name of the build stage (`stage-N`; empty if it is the
    only one and has no name) and the step's number in it. The classic
    builder: None and the number from the top.
    """
    found: dict[tuple[str | None, int], int] = {}
    stages: list[str] = []
    number = 0
    listed = list(instructions(body.decode(errors="surrogateescape")))
    only = sum(text.upper().startswith("FROM ") for _, text, _ in listed) == 1

    for count, (line, instruction, _) in enumerate(listed, 1):
        found[None, count] = line
        words = instruction.split()
        name = words[0].upper()
        if name == "FROM":
            named = len(words) > 3 and words[-2].upper() == "AS"
            unnamed = "" if only else f"stage-{len(stages)}"
            stages.append(words[-1].lower() if named else unnamed)
            number = 0
        if stages and name in _STEPS:
            number += 1
            found[stages[-1], number] = line
    return found


def split_wildcards(path: str) -> tuple[str, str]:
    """The folder that a path's wildcards are matched in, and the pattern,
    which is empty without wildcards.
    """
    segments = path.split("/")
    for number, segment in enumerate(segments):
        if re.search(r"[*?\[\\]", segment):
            return "/".join(segments[:number]), "/".join(segments[number:])
    return path, ""


def _copied(text: str, known: Mapping[str, str], escape: str) -> Iterator[CopySource]:
    flags, rest = flags_of(text)
    if "from" not in flags:
        for path in _arguments(rest, known, escape):
            yield CopySource(0, _from_top(path), tuple(flags.get("exclude", ())))


def _arguments(text: str, known: Mapping[str, str], escape: str) -> Iterator[str]:
    """All arguments but the last, which is the destination, where they are files of the context."""
    words: list[str | None]
    try:
        listed = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        listed = None
    if isinstance(listed, list):
        words = [expanded(str(word), known, None) for word in listed]
    else:
        words = [expanded(word, known, escape) for word in text.split()]
    yield from (word for word in words[:-1] if word and not _ELSEWHERE.match(word))


def _mounted(text: str) -> Iterator[str]:
    for mount in flags_of(text)[0].get("mount", ()):
        path = _bound(mount)
        if path is not None and "$" not in path:
            yield _from_top(path)


def _bound(mount: str) -> str | None:
    """What a `--mount` binds from the context: `""` for all of it."""
    pairs = [pair.partition("=") for pair in mount.strip("\"'").split(",")]
    options = {key.lower(): value for key, _, value in pairs}
    if options.get("type", "bind") != "bind" or "from" in options:
        return None
    return options.get("source", options.get("src", ""))


def _from_top(path: str) -> str:
    return posixpath.normpath(f"/{path}").strip("/")


@dataclass
class _Variables:
    """The variables of a build stage, or those before the first one."""

    args: dict[str, str] = field(default_factory=dict)
    # None is a value that is not known. It still hides the argument of that
    # name.
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, str]:
        values = {**self.args, **self.env}
        return {name: value for name, value in values.items() if value is not None}


def _declare(
    text: str,
    build_args: Mapping[str, str | None],
    *,
    before_stages: _Variables,
    here: _Variables | None,
) -> None:
    """Apply an `ARG` instruction."""
    scope = before_stages if here is None else here
    for word in text.split():
        found = _ARG.fullmatch(word)
        if found is None:
            continue
        name, default = found.groups()
        if name in build_args:
            value = build_args[name]
        elif default is not None:
            value = expanded(default, scope.known, "\\")
        else:
            value = before_stages.args.get(name)

        scope.args.pop(name, None)
        if value is not None:
            scope.args[name] = value


def _environment(text: str, known: Mapping[str, str], escape: str) -> dict[str, str | None]:
    """`ENV A=b C="d e"`, or the old `ENV A b`; None for a value that is not known."""
    words = words_of(text, escape)
    if words and "=" not in words[0]:
        pairs = [(words[0], text[len(words[0]) :].strip())]
    else:
        pairs = [(name, value) for name, _, value in (word.partition("=") for word in words)]
    return {name: expanded(value, known, escape) for name, value in pairs}
