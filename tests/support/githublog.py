"""What GitHub's runner obeys in the log of a step: its two parsers, as actions/runner has them at
258d6c8.

`ProcessInvoker` takes a step's output apart with StreamReader.ReadLine, `ActionCommand.TryParseV2`
wants `::` behind blanks, `TryParse` finds `##[` anywhere. Both compare as a culture does, which
skips characters without a weight; here any that is not ASCII may be skipped, so that more is taken
for a command than the runner would.
"""

import re
from collections.abc import Iterator

COMMANDS = frozenset(
    [
        "add-mask",
        "add-matcher",
        "add-path",
        "debug",
        "echo",
        "endgroup",
        "error",
        "group",
        "internal-set-repo-path",
        "notice",
        "remove-matcher",
        "save-state",
        "set-env",
        "set-output",
        "stop-commands",
        "warning",
        "start-action",
        "end-action",
    ]
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_SKIPPED = re.compile(r"[^\x21-\x7e ]")


def commands(log: str) -> Iterator[tuple[str, str]]:
    """The commands in a log, with what follows each."""
    for line in _LINE_END.split(log):
        found = (
            _second(line)
            or _first(line)
            or _second(_SKIPPED.sub("", line))
            or _first(_SKIPPED.sub("", line))
        )
        if found:
            yield found


def _second(line: str) -> tuple[str, str] | None:
    text = line.lstrip()
    info, separator, data = text.removeprefix("::").partition("::")
    return _known(info, data) if text.startswith("::") and separator else None


def _first(line: str) -> tuple[str, str] | None:
    _, prefix, rest = line.partition("##[")
    info, bracket, data = rest.partition("]")
    return _known(info, data) if prefix and bracket else None


def _known(info: str, data: str) -> tuple[str, str] | None:
    name = info.split(" ", 1)[0].lower()
    return (name, data) if name in COMMANDS else None
