"""What a Dockerfile takes from its build context: text in, line numbers and paths out.

Read loosely: this is for warnings, and what cannot be told from the text alone is left out.
Source: docs.docker.com/reference/dockerfile.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Taken(NamedTuple):
    """A source of an instruction: a path from the top of the context (`""` is all of it), in which
    wildcards may be.
    """

    line: int
    source: str
    exclude: tuple[str, ...] = ()


_DIRECTIVE = re.compile(r"#\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
_TAKES_HEREDOCS = re.compile(r"\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s", re.IGNORECASE)
_ELSEWHERE = re.compile(r"<<|[A-Za-z+]+://|git@")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|\Z)")
_COPY_FLAGS = frozenset({"link", "chmod", "parents", "exclude"})
_BUILDKIT_FLAGS = {
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": _COPY_FLAGS,
    "ADD": _COPY_FLAGS | {"checksum", "keep-git-dir", "unpack"},
}
_ARG = re.compile(r"(\w+)(?:=(.*))?", re.DOTALL)


def taken(body: bytes, build_args: Mapping[str, str | None]) -> Iterator[Taken]:
    """The sources of `COPY`, `ADD` and of bind mounts, without those of other stages and images,
    and without URLs.

    `build_args` are those that the build is given; None is a value that is not known.
    """
    everywhere = _Scope()
    here: _Scope | None = None
    for line, instruction, escape in _instructions(body.decode(errors="surrogateescape")):
        name, _, rest = instruction.partition(" ")
        name, rest = name.upper(), rest.strip()
        if name == "FROM":
            here = _Scope()
        elif name == "ARG":
            _declare(rest, build_args, everywhere, here)
        elif name == "ENV" and here is not None:
            here.env |= _environment(rest, here.known, escape)
        elif name in {"COPY", "ADD"}:
            known = here.known if here else {}
            yield from (taken._replace(line=line) for taken in _copied(rest, known, escape))
        elif name == "RUN":
            yield from (Taken(line, source) for source in _mounted(rest))


def needs_buildkit(body: bytes) -> tuple[int, str] | None:
    """The first thing, with its line, that Docker's classic builder does not know; None where
    there is none.
    """
    for line, instruction, escape in _instructions(body.decode(errors="surrogateescape")):
        name, _, rest = instruction.partition(" ")
        name = name.upper()
        flags = _BUILDKIT_FLAGS.get(name, frozenset()) & _flags(rest.strip())[0].keys()
        if flags:
            return line, f"{name} --{min(flags)}"
        if name in _BUILDKIT_FLAGS and any(
            _HEREDOC.fullmatch(word) for word in _words(instruction, escape)
        ):
            return line, f"{name} with a here-document"
    return None


def split_wildcards(source: str) -> tuple[str, str]:
    """A source as the folder that its wildcards are matched in, and the rest; the rest is empty
    without wildcards.
    """
    segments = source.split("/")
    for number, segment in enumerate(segments):
        if re.search(r"[*?\[\\]", segment):
            return "/".join(segments[:number]), "/".join(segments[number:])
    return source, ""


def _copied(text: str, known: Mapping[str, str], escape: str) -> Iterator[Taken]:
    flags, rest = _flags(text)
    if "from" not in flags:
        for source in _sources(rest, known, escape):
            yield Taken(0, _from_top(source), tuple(flags.get("exclude", ())))


def _mounted(text: str) -> Iterator[str]:
    for mount in _flags(text)[0].get("mount", ()):
        source = _bound(mount)
        if source is not None and "$" not in source:
            yield _from_top(source)


def _from_top(path: str) -> str:
    return posixpath.normpath(f"/{path}").strip("/")


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Logical lines, each with the number of its first line and the escape character.

    Lines that end in the escape character are joined; comments and blank lines between them do not
    count. Here-documents are skipped.
    """
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
    escape, directives = "\\", True
    joined: list[str] = []
    first = 0
    for number, raw in lines:
        line = raw.removesuffix("\r")
        if directives:
            found = _DIRECTIVE.fullmatch(line.strip())
            directives = found is not None
            if found is not None and found[1].lower() == "escape" and found[2] in {"\\", "`"}:
                escape = found[2]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = first if joined else number
        stripped = line.rstrip(" \t")
        if stripped.endswith(escape) and not stripped.endswith(escape * 2):
            joined.append(stripped[:-1])
            continue
        instruction = re.sub(r"\A(\w+)\s+", r"\1 ", "".join([*joined, line]).strip())
        yield first, instruction, escape
        joined = []
        if _TAKES_HEREDOCS.match(instruction):
            for word in _words(instruction, escape):
                if heredoc := _HEREDOC.fullmatch(word):
                    _skip(lines, re.sub(r"['\"\\]", "", heredoc[2]), tabs=bool(heredoc[1]))
    if joined:
        yield first, "".join(joined).strip(), escape


def _skip(lines: Iterator[tuple[int, str]], end: str, *, tabs: bool) -> None:
    for _, raw in lines:
        line = raw.removesuffix("\r")
        if (line.lstrip("\t") if tabs else line) == end:
            return


def _words(text: str, escape: str) -> list[str]:
    """A shell's words, with their quotes."""
    escaped = re.escape(escape)
    quoted = rf"\"(?:[^\"{escaped}]|{escaped}.)*+(?:\"|\Z)|'[^']*+(?:'|\Z)"
    return re.findall(rf"(?:[^\s\"'{escaped}]|{escaped}(?:.|\Z)|{quoted})+", text, re.DOTALL)


def _flags(text: str) -> tuple[dict[str, list[str]], str]:
    flags: dict[str, list[str]] = {}
    at = 0
    while found := _FLAG.match(text, at):
        flags.setdefault(found[1], []).append(found[2] or "")
        at = found.end()
    return flags, text[at:]


def _sources(text: str, known: Mapping[str, str], escape: str) -> Iterator[str]:
    """All arguments but the last, where they are files of the context."""
    words: list[str | None]
    try:
        listed = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        listed = None
    if isinstance(listed, list):
        words = [_expanded(str(word), known, None) for word in listed]
    else:
        words = [_expanded(word, known, escape) for word in text.split()]
    yield from (word for word in words[:-1] if word and not _ELSEWHERE.match(word))


def _bound(mount: str) -> str | None:
    """What a `--mount` takes from the context: `""` for all of it."""
    pairs = [pair.partition("=") for pair in mount.strip("\"'").split(",")]
    options = {key.lower(): value for key, _, value in pairs}
    if options.get("type", "bind") != "bind" or "from" in options:
        return None
    return options.get("source", options.get("src", ""))


@dataclass
class _Scope:
    """The variables of a build stage, or those before the first. A value of the environment that
    is not known is None; it hides the argument of that name all the same.
    """

    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, str]:
        return {
            name: value for name, value in {**self.args, **self.env}.items() if value is not None
        }


def _declare(
    text: str, given: Mapping[str, str | None], everywhere: _Scope, here: _Scope | None
) -> None:
    """`ARG`: before the first `FROM` for all stages that declare it again, else for this one."""
    for word in text.split():
        found = _ARG.fullmatch(word)
        if found is None:
            continue
        name, default = found[1], found[2]
        scope = everywhere if here is None else here
        value = (
            _expanded(default, scope.known, "\\")
            if default is not None
            else everywhere.args.get(name)
        )
        if name in given:
            value = given[name]
        scope.args.pop(name, None)
        if value is not None:
            scope.args[name] = value


def _environment(text: str, known: Mapping[str, str], escape: str) -> dict[str, str | None]:
    """`ENV A=b C="d e"`, or the old `ENV A b`; None for a value that is not known."""
    words = _words(text, escape)
    if words and "=" not in words[0]:
        pairs = [(words[0], text[len(words[0]) :].strip())]
    else:
        pairs = [(name, value) for name, _, value in (word.partition("=") for word in words)]
    return {name: _expanded(value, known, escape) for name, value in pairs}


_LONGEST = 4096
"""Characters of an expanded word: `ENV A=$A$A`, line after line, doubles it each time."""

_PIECE = re.compile(
    r"""\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?:(?P<colon>:?)(?P<kind>[-+])(?P<word>[^{}$]*))?\})|(?P<quote>["'])|(?P<other>.)""",
    re.DOTALL,
)


def _expanded(word: str, known: Mapping[str, str], escape: str | None) -> str | None:
    """A word with its variables filled in and, where there is an `escape`, its quotes removed;
    None if that cannot be done.
    """
    made, quote, at = "", "", 0
    while at < len(word):
        if escape is not None and word[at] == escape and quote != "'":
            made += word[at + 1 : at + 2]
            at += 2
            continue
        found = _PIECE.match(word, at)
        if found is None:
            return None
        at = found.end()
        name = found["name"] or found["braced"]
        if quote == "'" and found[0] != "'":
            made += found[0]
        elif name:
            value = _substituted(found, known.get(name))
            if value is None:
                return None
            made += value
        elif found["other"] == "$":
            return None
        elif found["quote"] and escape is not None and quote in {"", found[0]}:
            quote = "" if quote else found[0]
        else:
            made += found[0]
    return None if quote or len(made) > _LONGEST else made


def _substituted(found: "re.Match[str]", value: str | None) -> str | None:
    """What a variable stands for: with `:-`, `-`, `:+` or `+`, another word where it is (not) set."""
    is_set = bool(value) if found["colon"] else value is not None
    if found["kind"] == "-":
        return value if is_set else str(found["word"])
    if found["kind"] == "+":
        return str(found["word"]) if is_set else None
    return value
