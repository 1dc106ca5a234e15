"""Stages that would write the same keys: the answer is that of comparing every pair."""

from collections.abc import Iterator
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cipipe.errors import Problem
from cipipe.stages import dags
from cipipe.stages.settings import Reference, Stage

SETTINGS = st.builds(
    dags.Settings,
    source=st.just("dags"),
    bucket=st.sampled_from(["one", "two", Reference(output="one"), Reference(output="two")]),
    prefix=st.sampled_from(["", "dags/", "team/"]),
    requirements=st.none() | st.sampled_from(["r.txt", "s.txt"]),
    plugins=st.none() | st.just("plugins"),
)


def by_pairs(stages: list[Stage[dags.Settings]]) -> Iterator[Problem]:
    """The definition: every pair of stages, in the order in which they are written."""
    for first, second in combinations(stages, 2):
        one, other = first.settings, second.settings
        if one.bucket != other.bucket:
            continue
        where = f"stages.{second.name}"
        if one.prefix == other.prefix:
            yield Problem(
                "dags-prefix-shared",
                f"stage {first.name} has the prefix {one.prefix!r} in this bucket as well",
                f"{where}.prefix",
                f"Give each its own, such as {other.prefix}{second.name}/.",
            )
        for key in ("requirements", "plugins"):
            if getattr(one, key) is not None and getattr(other, key) is not None:
                yield Problem(
                    "dags-extra-shared",
                    f"stage {first.name} has {key} for this bucket as well,"
                    " and an MWAA environment has them once",
                    f"{where}.{key}",
                    "Leave them to one of the two stages.",
                )


def first_of_each_place(problems: Iterator[Problem]) -> list[Problem]:
    """What a user is shown: one problem for each place of the configuration."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(problem.where, problem)
    return list(found.values())


@given(st.lists(SETTINGS, max_size=7))
def test_clashes_are_those_of_every_pair(settings: list[dags.Settings]) -> None:
    stages = [Stage(f"s{number}", "dags", one) for number, one in enumerate(settings)]
    assert list(dags.clashes(stages)) == first_of_each_place(by_pairs(stages))


def test_work_grows_with_the_number_of_stages() -> None:
    """A thousand stages in one bucket give a problem each, and not one for every pair."""
    settings = dags.Settings(source="dags", bucket="one")
    stages = [Stage(f"s{number}", "dags", settings) for number in range(1000)]
    found = dags.clashes(stages)
    assert [problem.where for problem in found] == [f"stages.s{n}.prefix" for n in range(1, 1000)]
