"""The machine-readable log of `terraform apply`: what happens to each
resource, as lines of progress and, at the end, by address.

https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

# Seconds without news after which the resources that are being worked on
# are listed. Terraform itself reports each of them every ten seconds.
_STILL = 30.0
_MOST_SHOWN = 3

# What a planned action does to the resource, one after the other. A
# resource that moves, is imported or is forgotten is not touched.
_OPERATIONS = {
    "create": ("create",),
    "update": ("update",),
    "delete": ("delete",),
    "replace": ("delete", "create"),
}
_DOING = {"create": "creating", "update": "changing", "delete": "destroying", "read": "reading"}
_DONE = {"create": "created", "update": "changed", "delete": "destroyed"}

# Messages that say nothing new while a plan is applied: the plan was shown
# before.
_QUIET = {"version", "outputs", "refresh_start", "refresh_complete", "resource_drift"}
_PLANNED = "planned_change"

_DUMP = "Emergency state dump"


class FailedResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that could not be applied."""

    address: str
    # `create`, `update` or `delete`.
    action: str
    # Terraform's or the provider's own words.
    error: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What an apply did, by address, up to where it stopped."""

    # `created`, `changed` and `destroyed`. A resource that was replaced is
    # in two of them.
    done: dict[str, tuple[str, ...]]
    failed: tuple[FailedResource, ...] = ()
    # Started, and nobody knows how it finished.
    unknown: tuple[str, ...] = ()
    not_started: tuple[str, ...] = ()

    @property
    def changed_anything(self) -> bool:
        return any(self.done.values()) or bool(self.failed or self.unknown)


class ApplyLog:
    """Reads the messages of one apply."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news = clock()
        self._planned: Counter[tuple[str, str]] = Counter()
        self._done: list[tuple[str, str]] = []
        # Address and action of what is being worked on, and when that
        # started.
        self._working: dict[tuple[str, str], float] = {}
        self._failed: list[tuple[str, str]] = []
        self._errors: list[Mapping[str, Any]] = []
        # The state, where Terraform could write it nowhere and logged it.
        self.dumped: Any = None

    def line(self, message: Mapping[str, Any]) -> str | None:
        """The line to show for a message; None for none."""
        kind = message.get("type")
        text = str(message.get("@message", ""))
        hook = message.get("hook") or {}
        step = (_address(hook), str(hook.get("action", "")))

        if kind == _PLANNED:
            self._plan(message.get("change") or {})
            return None
        if text == _DUMP:
            self.dumped = message.get("state")
            return None
        if kind in _QUIET:
            return None
        if kind == "apply_progress":
            return self._still()
        if kind == "diagnostic":
            self._errors.append(message.get("diagnostic") or {})
        elif kind == "apply_start":
            self._working[step] = self._clock()
        elif kind == "apply_errored":
            self._working.pop(step, None)
            self._failed.append(step)
        elif kind == "apply_complete":
            self._working.pop(step, None)
            if step[1] in _DONE:
                self._done.append(step)
                text = f"{text} ({self._count()})"
        self._news = self._clock()
        return text

    def outcome(self) -> Applied:
        """What was done so far."""
        started = Counter([*self._done, *self._failed, *self._working])
        waiting = [address for address, _ in (self._planned - started).elements()]
        failed = tuple(
            FailedResource(address=address, action=action, error=self._error_of(address))
            for address, action in dict.fromkeys(self._failed)
        )
        # A replacement of which one half failed is listed as that.
        tried = {resource.address for resource in failed}
        return Applied(
            done={
                word: tuple(address for address, did in self._done if did == action)
                for action, word in _DONE.items()
            },
            failed=failed,
            unknown=tuple(address for address, action in self._working if action in _DONE),
            not_started=tuple(dict.fromkeys(each for each in waiting if each not in tried)),
        )

    def _plan(self, change: Mapping[str, Any]) -> None:
        for action in _OPERATIONS.get(str(change.get("action")), ()):
            self._planned[(_address(change), action)] += 1

    def _count(self) -> str:
        return f"{len(self._done)}/{max(self._planned.total(), len(self._done))}"

    def _still(self) -> str | None:
        now = self._clock()
        if now - self._news < _STILL:
            return None
        self._news = now
        shown = [
            f"{address} ({_DOING.get(action, action)} for {int(now - since)}s)"
            for (address, action), since in self._working.items()
        ]
        more = len(shown) - _MOST_SHOWN
        rest = f" and {more} more" if more > 0 else ""
        return f"{self._count()} done, still {', '.join(shown[:_MOST_SHOWN])}{rest}"

    def _error_of(self, address: str) -> str:
        for found in self._errors:
            if found.get("address") == address:
                detail = str(found.get("detail") or "").strip()
                return ": ".join(filter(None, [str(found.get("summary", "")), detail]))
        return "Terraform gave no reason"


def _address(named: Mapping[str, Any]) -> str:
    return str((named.get("resource") or {}).get("addr", ""))
