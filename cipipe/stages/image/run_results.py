"""How the nodes of a dbt run ended, from `run_results.json`. Pure.

https://docs.getdbt.com/reference/artifacts/run-results-json
"""

import json
from collections import Counter
from typing import Any

import msgspec

# Statuses that make a run fail, those that tell the most first.
_BAD = ("error", "runtime error", "fail", "partial success")


class NodeResult(msgspec.Struct, frozen=True):
    """How one node ended."""

    # dbt's unique id.
    name: str
    status: str
    message: str


class RunResults(msgspec.Struct, frozen=True):
    """How all nodes ended."""

    results: tuple[NodeResult, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of nodes by status: the largest number first."""
        found = Counter(one.status for one in self.results)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def bad(self) -> list[NodeResult]:
        """Those that made the run fail."""
        found = [one for one in self.results if one.status in _BAD]
        return sorted(found, key=lambda one: (_BAD.index(one.status), one.name))

    def __str__(self) -> str:
        return ", ".join(f"{number} {status}" for status, number in self.counts.items())


def run_results(body: bytes | None) -> RunResults | None:
    """None where there is no such file, or it is none."""
    try:
        document = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    entries = document.get("results") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return None
    return RunResults(tuple(_result(entry) for entry in entries if isinstance(entry, dict)))


def _result(entry: dict[str, Any]) -> NodeResult:
    return NodeResult(
        name=str(entry.get("unique_id")),
        status=str(entry.get("status")),
        message=" ".join(str(entry.get("message") or "").split()),
    )
