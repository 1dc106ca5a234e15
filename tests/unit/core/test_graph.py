"""Order and cycles."""

from hypothesis import given
from hypothesis import strategies as st

from cipipe.graph import cycle, ordered
from support.budget import cpu_seconds

NAMES = "abcdef"


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """A graph whose needs all point the same way along a hidden order, given in another order."""
    hidden = draw(st.permutations(NAMES))
    needs = {
        name: draw(st.lists(st.sampled_from(hidden[:n]), unique=True)) if n else []
        for n, name in enumerate(hidden)
    }
    return {name: tuple(needs[name]) for name in draw(st.permutations(NAMES))}


@given(acyclic())
def test_each_name_comes_after_all_that_it_needs(graph: dict[str, tuple[str, ...]]) -> None:
    order = ordered(graph)
    assert sorted(order) == sorted(graph)
    for name, needs in graph.items():
        assert all(order.index(need) < order.index(name) for need in needs)
    assert cycle(graph) is None


def test_the_given_order_is_kept_where_the_needs_allow_it() -> None:
    assert ordered({"c": (), "a": (), "b": ()}) == ["c", "a", "b"]
    assert ordered({"c": ("b",), "a": (), "b": ()}) == ["a", "b", "c"]


def test_a_cycle_is_listed_along_its_needs() -> None:
    graph = {"x": (), "a": ("b",), "b": ("c",), "c": ("a",), "d": ("a",)}
    found = cycle(graph)
    assert found is not None
    assert sorted(found) == ["a", "b", "c"]
    assert all(
        after in graph[name] for name, after in zip(found, [*found[1:], found[0]], strict=True)
    )


def test_a_name_that_needs_itself() -> None:
    assert cycle({"a": ("a",)}) == ["a"]


@given(acyclic())
def test_the_order_is_the_first_ready_name_each_time(graph: dict[str, tuple[str, ...]]) -> None:
    expected: list[str] = []
    while len(expected) < len(graph):
        ready = (
            name
            for name, needs in graph.items()
            if name not in expected and set(needs) <= set(expected)
        )
        expected.append(next(ready))

    assert ordered(graph) == expected


def test_a_long_chain_takes_no_time() -> None:
    names = [f"n{number}" for number in range(10_000)]
    graph = {name: (names[n + 1],) if n < 9_999 else () for n, name in enumerate(names)}
    with cpu_seconds(2):
        assert ordered(graph) == names[::-1]
