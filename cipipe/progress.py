"""Who follows a run while it happens."""

from typing import Protocol

from cipipe.model import StagePlan
from cipipe.results import StageReport


class Progress(Protocol):
    """Reports what happens in a run while it happens. Called from several
    threads; text is masked.
    """

    def stage_started(self, stage: StagePlan, *, alone: bool) -> None:
        """`alone`: no other stage runs until this one has finished."""
        ...

    def step(self, stage: str, title: str) -> None: ...

    def line(self, stage: str, text: str) -> None: ...

    def stage_finished(self, report: StageReport) -> None: ...

    def warning(self, text: str) -> None: ...
