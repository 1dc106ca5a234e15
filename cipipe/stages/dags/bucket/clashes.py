"""`dags` stages that would write the same keys, as far as the configuration
shows it.

Prefixes inside each other, and buckets that turn out to be the same, show
only in the ledger's records: `sharing` handles those.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from cipipe.errors import Problem
from cipipe.stages.dags.settings import Settings
from cipipe.stages.settings import Stage

_EXTRAS = ("requirements", "plugins")


def clashes(stages: Iterable[Stage[Settings]]) -> list[Problem]:
    """One problem for every setting that an earlier stage has for the same
    bucket.

    Each stage is compared with the first one that has the setting and with
    no other, so the work grows with the number of stages and not with its
    square. `where` is the key path in the configuration.
    """
    first_with: dict[Any, tuple[int, str]] = {}
    found: list[tuple[int, Problem]] = []

    for position, stage in enumerate(stages):
        for key, value in _exclusive(stage):
            place = (stage.settings.bucket, key, value)
            earlier, name = first_with.setdefault(place, (position, stage.name))
            if earlier != position:
                found.append((earlier, _clash(stage, name, key)))

    # Problems with one stage go together, the order in which the stages are
    # written.
    found.sort(key=lambda pair: pair[0])
    return [problem for _, problem in found]


def _exclusive(stage: Stage[Settings]) -> Iterator[tuple[str, str | None]]:
    """The settings that no two stages may share in one bucket, and the value that must differ."""
    yield "prefix", stage.settings.prefix
    for key in _EXTRAS:
        # Whatever file it is made from, it becomes the same key at the top
        # of the bucket.
        if getattr(stage.settings, key) is not None:
            yield key, None


def _clash(stage: Stage[Settings], first: str, key: str) -> Problem:
    where = f"stages.{stage.name}.{key}"
    if key == "prefix":
        prefix = stage.settings.prefix
        return Problem(
            "dags-prefix-shared",
            f"stage {first} has the prefix {prefix!r} in this bucket as well",
            where,
            hint=f"Give each its own, such as {prefix}{stage.name}/.",
        )
    return Problem(
        "dags-extra-shared",
        f"stage {first} has {key} for this bucket as well, and an MWAA environment has them once",
        where,
        hint="Leave them to one of the two stages.",
    )
