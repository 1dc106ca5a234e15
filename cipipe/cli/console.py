"""What people see: progress and errors on standard error, answers on standard output.

Colour only on a terminal (or where the provider's log shows it), never with NO_COLOR or --no-color.
Everything goes through `leaving.Filter` before it leaves.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from cipipe import ci
from cipipe.cli.leaving import Filter, Log
from cipipe.errors import CipipeError, Problem, ProblemsError, UsageError
from cipipe.model import StagePlan
from cipipe.pace import USUAL, Pace
from cipipe.redact import Redactor
from cipipe.report.text import block
from cipipe.results import Result, StageReport
from cipipe.terminal import lines, plain, visible

_ANSI = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_MARK = {
    Result.DONE: ("✓", "green"),
    Result.UNCHANGED: ("=", "dim"),
    Result.SKIPPED: ("-", "yellow"),
    Result.FAILED: ("✗", "red"),
    Result.NOT_RUN: ("-", "yellow"),
}

# Problems that an error shows to people; with --format json there are all of them.
_SHOWN = 20


class Console:
    """One per process. `machine` says that standard output carries JSON. Meets
    `progress.Progress`.
    """

    def __init__(
        self, env: Mapping[str, str], *, machine: bool = False, pace: Pace = USUAL
    ) -> None:
        self.env = dict(env)
        self.provider = ci.detect(self.env)
        self.redactor = Redactor(self._mask)
        self.machine = machine
        self.pace = pace
        self.verbosity = 0
        self.no_color = "NO_COLOR" in env and env["NO_COLOR"] != ""
        self.filter = Filter(self.provider, lambda: self.redactor)
        self.log = Log(lambda text: self.filter.text(text, colour=self._coloured("stderr")))
        self._folded: set[str] = set()

    def answer(self, text: str, file: Path | None = None, *, json: bool = False) -> None:
        """The command's answer: to standard output, or into a file. `json` says that it is one JSON
        document.
        """
        colour = file is None and self._coloured("stdout")
        masked = self.filter.json(text) if json else self.filter.text(text, colour=colour)
        if file is not None:
            try:
                file.write_text(masked, encoding="utf-8")
            except OSError as error:
                raise UsageError(
                    "usage", f"{file} cannot be written: {error.strerror}", where="--output"
                ) from error
            return
        try:
            sys.stdout.write(masked)
            sys.stdout.flush()
        except OSError as error:
            # Nothing more goes there, not even what Python still holds when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            # Where whoever read the answer has gone, what was done, and the exit status, are the
            # same.
            if not isinstance(error, BrokenPipeError):
                raise UsageError(
                    "usage",
                    f"the answer cannot be written: {error.strerror}",
                    where="standard output",
                ) from error

    def style(self, word: str, colour: str, *, stream: str = "stdout") -> str:
        if not colour or not self._coloured(stream):
            return word
        return f"\x1b[{_ANSI[colour]}m{word}\x1b[0m"

    def styled_stderr(self, word: str, colour: str) -> str:
        return self.style(word, colour, stream="stderr")

    def say(self, text: str) -> None:
        """A line of progress."""
        if self.verbosity >= 0:
            self._write(text)

    def detail(self, text: str) -> None:
        """A line that only -v shows."""
        if self.verbosity > 0:
            self._write(text)

    def warning(self, text: str) -> None:
        line = self.provider.warning(self.filter.titled(text))
        self.log.own(line if self._coloured("stderr") else plain(line))

    def stage_started(self, stage: StagePlan, *, alone: bool) -> None:
        """Logs fold what stands together; the lines of stages that run side by side do not."""
        if self.verbosity >= 0:
            title = self.filter.titled(f"{stage.name}: {stage.detail}")
            fold = self.provider.fold_start(stage.name, title) if alone else None
            if fold:
                self._folded.add(stage.name)
                self.log.own(fold)
            else:
                self._write(self.styled_stderr(f"▶ {stage.name}", "bold") + f"  {stage.detail}")

    def step(self, stage: str, title: str) -> None:
        if self.verbosity >= 0:
            self._write(
                f"{self.styled_stderr(stage, 'dim')} │ {self.styled_stderr(visible(title), 'cyan')}"
            )

    def line(self, stage: str, text: str) -> None:
        if self.verbosity >= 0:
            for part in text.splitlines() or [""]:
                self._write(f"{self.styled_stderr(stage, 'dim')} │   {part}")

    def stage_finished(self, report: StageReport) -> None:
        if self.verbosity < 0 and report.result is not Result.FAILED:
            return
        if report.name in self._folded:
            self._folded.discard(report.name)
            self.log.own(self.provider.fold_end(report.name) or "")
        mark, colour = _MARK[report.result]
        made = f" → {report.made}" if report.made else ""
        self._write(
            f"{self.styled_stderr(mark, colour)} {report.name}: {report.result.value} ({report.detail}){made}"
            f"{f'  {report.seconds:.1f} s' if report.seconds else ''}"
        )

    def error(self, error: CipipeError) -> None:
        """Show an error: as JSON on standard output where JSON was asked for, and always on
        standard error.
        """
        if self.machine:
            from cipipe.report import json

            self.answer(json.error(error), json=True)
        self._write(self.styled_stderr("error: ", "red") + block(error.message, "  "))
        if isinstance(error, ProblemsError):
            for problem in error.problems[:_SHOWN]:
                self._write(f"  {visible(problem.where)}: {_problem(problem)}")
                if problem.hint:
                    self._write(f"      {block(problem.hint, '      ')}")
            if len(error.problems) > _SHOWN:
                self._write(f"  … and {len(error.problems) - _SHOWN} more")
        elif error.where:
            self._write(f"  where: {visible(error.where)}")
        if error.hint:
            self._write(f"  hint:  {block(error.hint, '         ')}")
        self._write(
            self.styled_stderr(
                f"  [{error.id}] docs/errors.md#{error.id}, exit status {error.exit_status}", "dim"
            )
        )

    def bug(self) -> None:
        """Show the exception that is being handled, which is no error of ours."""
        if self.machine:
            from cipipe.report import json

            message = f"this is a bug in cipipe: {type(sys.exception()).__name__}"
            self.answer(
                json.document(error={"id": "bug", "message": message, "hint": None, "where": None}),
                json=True,
            )
        self._write(traceback.format_exc().rstrip())
        self._write(
            self.styled_stderr("error: ", "red")
            + "this is a bug in cipipe; please report it with the lines above"
        )

    def _mask(self, secret: str) -> None:
        """Have the provider mask a secret in all of its log, before it is used for the first time."""
        masking = self.provider.mask(secret)
        if masking:
            self.log.own(masking)

    def _coloured(self, stream: str) -> bool:
        if self.no_color:
            return False
        shown = self.provider.colour(self.env)
        return bool(getattr(sys, stream).isatty()) if shown is None else shown

    def _write(self, text: str) -> None:
        self.log.write(text + "\n")


def _problem(problem: Problem) -> str:
    """A problem's message and id; where the message is a long one, such as a traceback, the id
    comes first.
    """
    first, *more = lines(problem.message) or [""]
    return "\n      ".join([f"{first} ({problem.id})", *more])
