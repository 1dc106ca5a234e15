"""One check: a function that returns what it found, and raises where something is wrong."""

from collections.abc import Callable, Mapping

import msgspec

from cipipe.errors import CipipeError
from cipipe.interrupt import Interrupt
from cipipe.pipeline.identity.target import AwsTarget
from cipipe.redact import Redactor
from cipipe.results import Check, Verdict


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks of this machine work with."""

    env: Mapping[str, str]
    redactor: Redactor
    interrupt: Interrupt
    target: AwsTarget | None = None
    # Contact nothing beyond this machine.
    offline: bool = False


class Skipped(Exception):
    """A check that cannot be made, or is not needed."""


class Doubtful(Exception):
    """Something that does not stop a run but deserves a look."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


def checked(
    name: str, check: Callable[[], str], *, needed: bool = True
) -> tuple[Check, CipipeError | None]:
    """The outcome of a check, and its error where it failed.

    A failure is a warning where nobody knows whether the checked thing is
    `needed`.
    """
    try:
        return Check(name=name, result=Verdict.OK, detail=check()), None
    except Skipped as reason:
        return Check(name=name, result=Verdict.SKIPPED, detail=str(reason)), None
    except Doubtful as doubt:
        return Check(name=name, result=Verdict.WARNING, detail=str(doubt), fix=doubt.fix), None
    except CipipeError as error:
        first = error.message.splitlines()[0]
        if not needed:
            return Check(name=name, result=Verdict.WARNING, detail=first, fix=error.hint), None
        return Check(
            name=name, result=Verdict.FAILED, detail=first, fix=error.hint, id=error.id
        ), error
