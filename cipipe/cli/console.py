"""What people see: progress and errors on standard error, answers on
standard output.

There is colour on a terminal, or where the provider's log shows it; never with NO_COLOR or
--no-color.
All of it passes `output_filter.Filter`.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from cipipe import ci
from cipipe.cli.output_filter import Filter, Log
from cipipe.errors import CipipeError, Problem, UsageError
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

# Problems that an error shows to people; with --format json there are all
# of them.
_SHOWN = 20


class Console:
    """The output of this process: one per process. Meets `progress.Progress`."""

    def __init__(
        self, env: Mapping[str, str], *, machine: bool = False, pace: Pace = USUAL
    ) -> None:
        self.env = dict(env)
        self.provider = ci.detect(self.env)
        self.redactor = Redactor(self._mask)
        # Standard output carries JSON, also for an error.
        self.machine = machine
        self.pace = pace
        # -1 with --quiet, else how often --verbose was passed.
        self.verbosity = 0
        # https://no-color.org
        self.no_color = "NO_COLOR" in env and env["NO_COLOR"] != ""
        self.filter = Filter(self.provider, lambda: self.redactor)
        self.log = Log(lambda text: self.filter.text(text, colour=self._coloured("stderr")))
        # The stages whose output is folded in the provider's log.
        self._folded: set[str] = set()

    def answer(self, text: str, file: Path | None = None, *, json: bool = False) -> None:
        """Print the command's answer, or write it into a file.

        `json` says that it is one JSON document. Raises UsageError.
        """
        colour = file is None and self._coloured("stdout")
        masked = self.filter.json(text) if json else self.filter.text(text, colour=colour)
        if file is not None:
            _write_file(file, masked)
            return
        try:
            sys.stdout.write(masked)
            sys.stdout.flush()
        except OSError as error:
            # Nothing more goes there, not even what Python still buffers
            # when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            # Where the reader has gone, what was done and the exit status
            # are the same.
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
        if self.verbosity < 0:
            return
        title = self.filter.titled(f"{stage.name}: {stage.detail}")
        # Lines of stages that run side by side are mixed, and cannot be
        # folded.
        fold = self.provider.fold_start(stage.name, title) if alone else None
        if fold:
            self._folded.add(stage.name)
            self.log.own(fold)
        else:
            self._write(self.styled_stderr(f"▶ {stage.name}", "bold") + f"  {stage.detail}")

    def step(self, stage: str, title: str) -> None:
        if self.verbosity >= 0:
            shown = self.styled_stderr(visible(title), "cyan")
            self._write(f"{self.styled_stderr(stage, 'dim')} │ {shown}")

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
        summary = f" → {report.made}" if report.made else ""
        took = f"  {report.seconds:.1f} s" if report.seconds else ""
        result = f"{report.result.value} ({report.detail})"
        self._write(f"{self.styled_stderr(mark, colour)} {report.name}: {result}{summary}{took}")

    def error(self, error: CipipeError) -> None:
        """Print an error to standard error and, with --format json, as JSON to standard output."""
        if self.machine:
            from cipipe.report import json

            self.answer(json.error(error), json=True)
        self._write(self.styled_stderr("error: ", "red") + block(error.message, "  "))
        if error.problems:
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
        section = f"docs/errors.md#{error.id}"
        last = f"  [{error.id}] {section}, exit status {error.exit_status}"
        self._write(self.styled_stderr(last, "dim"))

    def bug(self) -> None:
        """Print the exception that is being handled: one that nobody expected."""
        if self.machine:
            from cipipe.report import json

            message = f"this is a bug in cipipe: {type(sys.exception()).__name__}"
            error = {"id": "bug", "message": message, "hint": None, "where": None}
            self.answer(json.document(error=error), json=True)
        self._write(traceback.format_exc().rstrip())
        self._write(
            self.styled_stderr("error: ", "red")
            + "this is a bug in cipipe; please report it with the lines above"
        )

    def _mask(self, secret: str) -> None:
        """Have the provider mask a secret in its whole log, before the secret is first used."""
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


def _write_file(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "usage", f"{file} cannot be written: {error.strerror}", where="--output"
        ) from error


def _problem(problem: Problem) -> str:
    """A problem's message and id, with the id before the further lines of a long message."""
    first, *more = lines(problem.message) or [""]
    return "\n      ".join([f"{first} ({problem.id})", *more])
