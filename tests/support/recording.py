"""A proxy in front of an AWS that keeps what it was asked, and refuses what a test wants."""

from collections.abc import Callable

from support.flaky import Asked, FlakyProxy

# Operations that change nothing, by the start of their names.
_READING = ("BatchGet", "Describe", "Get", "Head", "List", "AssumeRoleWithWebIdentity")


class RecordingProxy(FlakyProxy):
    """In front of one server, while it is entered."""

    def __init__(self, target: str) -> None:
        super().__init__(target, seed=0, rate=0)
        self.asked: list[Asked] = []
        # Called with each request before it is passed on; True refuses it.
        self.before: Callable[[Asked], bool] = lambda _: False

    def next_fault(self, asked: Asked) -> str | None:
        self.asked.append(asked)
        return "403" if self.before(asked) else None

    @property
    def writes(self) -> list[Asked]:
        return [asked for asked in self.asked if not _reads(asked)]


def _reads(asked: Asked) -> bool:
    if asked.operation:
        return asked.operation.startswith(_READING)
    return asked.method in {"GET", "HEAD"}
