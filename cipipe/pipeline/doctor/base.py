"""One check: a function that gives what it found, and raises where that is not well."""

from collections.abc import Callable

from cipipe.errors import CipipeError
from cipipe.model import Check, Verdict


class Skipped(Exception):
    """A check that cannot be made, or need not be."""


class Doubtful(Exception):
    """Nothing that stops a run, and yet something to look at: what, and what to do about it."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


def checked(
    name: str, check: Callable[[], str], *, needed: bool = True
) -> tuple[Check, CipipeError | None]:
    """The outcome of a check, and its error where it failed; what is not known to be `needed` is no
    more than a doubt.
    """
    try:
        return Check(name, Verdict.OK, check()), None
    except Skipped as reason:
        return Check(name, Verdict.SKIPPED, str(reason)), None
    except Doubtful as doubt:
        return Check(name, Verdict.WARNING, str(doubt), doubt.fix), None
    except CipipeError as error:
        if not needed:
            return Check(name, Verdict.WARNING, error.message.splitlines()[0], error.hint), None
        return Check(
            name, Verdict.FAILED, error.message.splitlines()[0], error.hint, error.id
        ), error
