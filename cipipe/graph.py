"""Order and circles among names that need each other."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter


def ordered(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The names, each after all that it needs; as given where nothing speaks against it."""
    done: list[str] = []
    while len(done) < len(graph):
        done.append(
            next(
                n
                for n, needs in graph.items()
                if n not in done and all(need in done for need in needs)
            )
        )
    return done


def cycle(graph: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The names of one circle, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1][1:]))
    return None
