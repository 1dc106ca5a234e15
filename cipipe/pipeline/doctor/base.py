"""One check: a function that returns what it found, and raises where something is wrong."""

from collections.abc import Callable, Mapping

import msgspec

from cipipe.errors import CipipeError
from cipipe.interrupt import Interrupt
from cipipe.model import Check, Verdict
from cipipe.pipeline.identity.target import AwsTarget
from cipipe.redact import Redactor


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

    A failure is a warning where nobody knows whether the checked thing is `needed`.
    """
    try:
        return Check(name, Verdict.OK, check()), None
    except Skipped as reason:
        return Check(name, Verdict.SKIPPED, str(reason)), None
    except Doubtful as doubt:
        return Check(name, Verdict.WARNING, str(doubt), doubt.fix), None
    except CipipeError as error:
        first = error.message.splitlines()[0]
        if not needed:
            return Check(name, Verdict.WARNING, first, error.hint), None
        return Check(name, Verdict.FAILED, first, error.hint, error.id), error
