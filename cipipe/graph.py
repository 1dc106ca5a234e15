"""Order and cycles among names that need each other.

Both run in time linear in the names and needs: a configuration may have
thousands of stages.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter


def ordered(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The names, each after all that it needs; in the given order where the
    needs leave a choice.

    The graph has no cycle, and every name that is needed is in it.
    """
    names = list(graph)
    position = {name: number for number, name in enumerate(names)}
    missing = {name: len(set(needs)) for name, needs in graph.items()}
    needed_by = defaultdict(list)
    for name, needs in graph.items():
        for need in set(needs):
            needed_by[need].append(name)

    # The heap gives the first name, in the given order, of those that have
    # all they need.
    ready = [position[name] for name in names if not missing[name]]
    done: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        done.append(name)
        for other in needed_by[name]:
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, position[other])

    if len(done) < len(graph):
        message = "the graph has a cycle, or a name that is not in it"
        raise ValueError(message)
    return done


def cycle(graph: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The names of one cycle, each followed by one that it needs; None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib lists a cycle against the needs, with its first name at
        # both ends.
        return list(reversed(error.args[1][1:]))
    return None
