"""The error tree: each class is one exit status, each error has an id with
a section in docs/errors.md.

Raise deep, render once: nothing below `cli/` prints or exits.
"""

import msgspec


class CipipeError(Exception):
    """An error that explains itself: what (`message`), where, and what to
    do next (`hint`).

    `id` is a slug such as `oidc-audience-mismatch`; a test checks that
    docs/errors.md has a section for every id in the source. `where` is a
    place that people can go to: `dags/x.py:12`, `stages.iac.needs`, a
    stage's name.
    """

    exit_status = 1
    # What is wrong, where the error is about several things at once.
    problems: "tuple[Problem, ...]" = ()

    def __init__(
        self, id: str, message: str, *, hint: str | None = None, where: str | None = None
    ) -> None:
        super().__init__(message)
        self.id = id
        self.message = message
        self.hint = hint
        self.where = where


class UsageError(CipipeError):
    """The command line or the configuration is wrong."""

    exit_status = 2


class IdentityError(CipipeError):
    """No token, or AWS does not accept it."""

    exit_status = 3


class StageError(CipipeError):
    """A stage or an outside tool failed."""

    exit_status = 4


class RefusedError(CipipeError):
    """A safeguard refused; nothing was changed."""

    exit_status = 5


class ConflictError(CipipeError):
    """Somebody else has it, or changed it meanwhile."""

    exit_status = 6


class InterruptedRun(CipipeError):
    """Ctrl-C or SIGTERM: what was running has stopped."""

    exit_status = 130


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file, or in the way of a destroy. All of
    them are reported at once.
    """

    id: str
    message: str
    where: str
    hint: str | None = None


class ProblemsError(UsageError):
    """Everything that is wrong with one input, found before any work starts."""

    def __init__(
        self, id: str, message: str, problems: tuple[Problem, ...], *, hint: str | None = None
    ) -> None:
        where = problems[0].where if len(problems) == 1 else None
        super().__init__(id, message, hint=hint, where=where)
        self.problems = problems


class BlockedError(RefusedError):
    """Several things are in the way of a destroy; nothing was deleted."""

    def __init__(self, id: str, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(id, message)
        self.problems = problems
