"""What builders print, folded: one line when a step of the Dockerfile starts to print or has
ended, its output below it, and none of the builder's own noise.

The formats are those of BuildKit's `--progress plain`
(github.com/moby/buildkit, util/progress/progressui) and of Docker's classic builder.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

# Lines of a failed step's output that are kept.
_KEPT = 20

# Characters of a step's title.
_MAX_TITLE = 100

_VERTEX = re.compile(r"#(\d+) (.*)")
_OUTPUT = re.compile(r"\d+\.\d+ ?(.*)")
_DONE = re.compile(r"DONE (\d+\.\d+)s")

# `[linux/amd64 builder 2/4] RUN …`: the platform and the stage's name may be missing.
_STEP = re.compile(r"\[(?:[\w/]+/[\w/]+ )?(?:(\S+) )?(\d+)/\d+\] (.*)")

_BASE = re.compile(r"FROM (\S+)@(sha256:[0-9a-f]{64})")

_CLASSIC_STEP = re.compile(r"Step (\d+)/\d+ : (.*)")

_CACHE = "importing cache manifest from "

# What BuildKit does for itself.
_INTERNAL = re.compile(
    r"\[internal\] |\[auth\] |exporting |preparing |writing |naming |resolve image config "
    r"|docker-image://|inferring "
)


class StepName(msgspec.Struct, frozen=True):
    """A step of a Dockerfile, as a builder counts them."""

    # The name of the build stage (BuildKit), `stage-N` without one and
    # empty in a file with a single stage; None: counted from the top of
    # the file (classic builder).
    stage: str | None
    # From 1.
    number: int


@dataclass
class _Step:
    title: str
    name: StepName | None
    internal: bool
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))
    is_open: bool = False


@dataclass
class BuildProgress:
    """BuildKit's output, line by line."""

    # Gets each line that is worth showing.
    line: Callable[[str], None]
    # The step that failed.
    failed: StepName | None = field(default=None, init=False)
    # Its title and the end of its output.
    failed_title: str = field(default="", init=False)
    failed_output: list[str] = field(default_factory=list, init=False)
    # Titles of the steps that were found in a cache.
    cached: list[str] = field(default_factory=list, init=False)
    # What belongs to no step, such as the summary of an error.
    other: list[str] = field(default_factory=list, init=False)
    # The digests of the images that it builds on, by their full names; not
    # of those that it takes from the daemon.
    bases: dict[str, str] = field(default_factory=dict, init=False)
    _steps: dict[str, _Step] = field(default_factory=dict, init=False)
    # The step whose output was shown last.
    _shown: str = field(default="", init=False)

    def read(self, text: str) -> None:
        """One line of output."""
        found = _VERTEX.fullmatch(text)
        if found is None:
            if text.strip():
                self.other.append(text)
            return
        key, rest = found.groups()
        step = self._steps.get(key)
        if step is None:
            self._steps[key] = _step(rest)
            self.bases.update(_base(rest))
            return

        if output := _OUTPUT.fullmatch(rest):
            step.output.append(output[1])
            if not step.internal:
                self._show(key, step)
                self.line(f"  {output[1]}")
        elif rest == "CACHED":
            self.cached.append(step.title)
            if not step.internal:
                self.line(f"{step.title} (cached)")
        elif done := _DONE.fullmatch(rest):
            self._end(step, f"{done[1]} s")
        elif rest.startswith("ERROR"):
            self._fail(step, rest)

    def _show(self, key: str, step: _Step) -> None:
        # Steps run side by side, so their output may alternate.
        if self._shown != key:
            self.line(step.title)
        self._shown = key
        step.is_open = True

    def _end(self, step: _Step, duration: str) -> None:
        if step.internal or step.title in self.cached:
            return
        # Output of other steps may be in between.
        ended = f"{step.title}: done in {duration}"
        self.line(ended if step.is_open else f"{step.title} ({duration})")
        # BuildKit reports the end of some steps twice.
        step.internal = True

    def _fail(self, step: _Step, text: str) -> None:
        if step.title.startswith(_CACHE):
            # The build goes on without it.
            self.line(f"no cache from {step.title.removeprefix(_CACHE)}: {text[7:]}")
            return
        self.failed = step.name
        self.failed_title = step.title
        self.failed_output = list(step.output)


def _step(title: str) -> _Step:
    found = _STEP.fullmatch(title)
    if found is not None:
        return _Step(_shortened(found[3]), StepName(found[1] or "", int(found[2])), internal=False)
    internal = bool(_INTERNAL.match(title)) or title.startswith(_CACHE)
    return _Step(_shortened(title), None, internal)


def _base(title: str) -> dict[str, str]:
    """The digest that a step builds on, by the image's full name."""
    step = _STEP.fullmatch(title)
    found = _BASE.fullmatch(step[3]) if step is not None else None
    return {found[1]: found[2]} if found is not None else {}


@dataclass
class ClassicProgress:
    """The classic builder's output, line by line."""

    line: Callable[[str], None]
    # The last step that started, its title, and the end of its output.
    step: StepName | None = field(default=None, init=False)
    title: str = field(default="", init=False)
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT), init=False)
    cached: list[str] = field(default_factory=list, init=False)

    def read(self, text: str) -> None:
        """One line of output."""
        if found := _CLASSIC_STEP.fullmatch(text):
            self.step = StepName(None, int(found[1]))
            self.title = _shortened(found[2])
            self.output.clear()
            self.line(self.title)
        elif text == " ---> Using cache":
            self.cached.append(self.title)
            self.line("  cached")
        elif not re.fullmatch(
            r" ---> (?:Running in )?[0-9a-f]{12}|Removing intermediate container \w+", text
        ):
            self.output.append(text)
            self.line(f"  {text}")


def _shortened(title: str) -> str:
    title = " ".join(title.split())
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
