"""Which stages a command works on: those of the ledger, those it names, the one of a kind."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cipipe.errors import UsageError
from cipipe.parse import nearest

if TYPE_CHECKING:
    from cipipe.config import Config


def recorded_stages(config: "Config") -> list[str]:
    """The stages with records in the ledger: not the default one, nor those that always run."""
    return [name for name, stage in config.stages.items() if stage.when == "due"]


def stage_of_kind(config: "Config", kind: str, wanted: str | None) -> str:
    """The name of the stage of a kind: the wanted one, or the only one.

    Raises UsageError `stage-unknown` where there are several, or none of
    that name.
    """
    known = [name for name, stage in config.stages.items() if stage.kind == kind]
    chosen = [name for name in known if wanted in {None, name}]
    if len(chosen) == 1:
        return chosen[0]

    message = f"there is no {kind} stage {wanted!r}"
    if wanted is None:
        message = f"there are {len(known)} {kind} stages" if known else f"there is no {kind} stage"
    raise UsageError(
        "stage-unknown",
        message,
        hint=f"--stage is one of: {', '.join(known)}" if known else "Add one to cipipe.toml.",
        where="--stage",
    )


def check_names(config: "Config", names: Iterable[str]) -> None:
    """Refuse names of stages that the environment does not have. Raises
    UsageError `stage-unknown`.

    `config` is the configuration as it is in that environment.
    """
    everywhere = config.whole.stages if config.whole is not None else config.stages
    for name in sorted(names):
        if name in config.stages:
            continue
        if name in everywhere:
            raise UsageError(
                "stage-unknown",
                f"environment {config.viewed} does not have the stage {name}",
                hint="`environments` of the stage names those that have it.",
                where=f"stages.{name}.environments",
            )
        listed = "The stages are: " + ", ".join(config.stages)
        raise UsageError(
            "stage-unknown",
            f"there is no stage {name!r}",
            hint=nearest(name, config.stages, otherwise=listed),
            where="stages",
        )
