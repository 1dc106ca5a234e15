"""How a configuration looks in one environment: its stages, and their
placeholders filled in.

A configuration may have thousands of stages, and each of its environments
is looked at: everything here takes time linear in the stages.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from cipipe.graph import ordered
from cipipe.model import Approval, Environment, Review
from cipipe.stages import KINDS
from cipipe.stages.settings import AnyStage, Reference, replaced

PLACEHOLDERS = ("project", "environment", "account_id", "region")

# The beginning of a placeholder for one of an environment's own values:
# `{values.NAME}`.
VALUES = "values."

PLACEHOLDER = re.compile(r"\{(values\.[A-Za-z0-9_-]*|\w*)\}")


class Expansion:
    """What placeholders stand for in one environment."""

    def __init__(self, project: str, name: str, environment: Environment) -> None:
        self._after = environment.after
        self._reviewed = environment.review is not Review.OFF
        self._approval = environment.approval is Approval.MANUAL
        self._values = {f"{VALUES}{key}": value for key, value in environment.values.items()}
        self._known = {
            "project": project,
            "environment": name,
            "account_id": environment.account_id,
            "region": environment.region,
            **self._values,
        }

    def text(self, text: str) -> str:
        """The text with the placeholders filled in that are known."""
        return _expanded(text, self._known)

    def for_fingerprint(self, stage: AnyStage) -> AnyStage:
        """The stage with what counts into its fingerprint filled in: the
        environment's values and the kind's paths. The other placeholders
        stay: the same content has the same fingerprint in every
        environment.
        """
        settings = _filled(stage.settings, self._values) if self._values else stage.settings
        paths = {}
        for key in KINDS[stage.kind].PATHS:
            setting = getattr(settings, key)
            path = _filled(setting, self._known)
            if path != setting:
                paths[key] = path
        if paths:
            settings = msgspec.structs.replace(settings, **paths)
        return _with_settings(stage, settings)

    def for_run(self, stage: AnyStage) -> AnyStage:
        """The stage with all placeholders filled in, as they are when it runs."""
        made = _with_settings(stage, _filled(stage.settings, self._known))
        if self._reviewed:
            made = msgspec.structs.replace(made, reviewed=True)
        if self._approval:
            made = msgspec.structs.replace(made, approval=True)
        after = self._after
        if after is None or (stage.environments and after not in stage.environments):
            return made
        return msgspec.structs.replace(made, after=after)


def stages_of(stages: Mapping[str, AnyStage], environment: str) -> dict[str, AnyStage]:
    """The stages that an environment has. Where one needs a stage that the
    environment does not have, it needs what that one needs.

    The stages do not need each other in a cycle.
    """
    here = {
        name: stage
        for name, stage in stages.items()
        if environment in (stage.environments or (environment,))
    }
    # What to need instead of each stage that is not here. One that is
    # skipped may need others that are, so they are looked at in order;
    # recursion would be too deep for a long chain.
    instead: dict[str, tuple[str, ...]] = {}

    def needed(stage: AnyStage) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for need in stage.needs:
            found.update(dict.fromkeys((need,) if need in here else instead.get(need, ())))
        return tuple(found)

    skipped = {
        name: tuple(need for need in stage.needs if need in stages and need not in here)
        for name, stage in stages.items()
        if name not in here
    }
    for name in ordered(skipped):
        instead[name] = needed(stages[name])

    return {name: _with_needs(stage, needed(stage)) for name, stage in here.items()}


def upstream(name: str, stages: Mapping[str, AnyStage]) -> list[str]:
    """Every stage that this one needs, directly or through others."""
    found: dict[str, None] = {}
    waiting = list(stages[name].needs)
    while waiting:
        need = waiting.pop()
        if need in stages and need not in found:
            found[need] = None
            waiting += stages[need].needs
    return list(found)


def may_know_outputs(stages: Mapping[str, AnyStage], declared: Collection[str]) -> Collection[str]:
    """The stages that need one that gives outputs, directly or through
    others; or one that is declared and not among `stages`, because it is wrong in
    itself and could be one.
    """
    needed_by = defaultdict(list)
    for stage in stages.values():
        for need in stage.needs:
            needed_by[need].append(stage.name)

    # From those that give outputs to all that need them.
    found: set[str] = set()
    waiting = [
        need
        for need in needed_by
        if (KINDS[stages[need].kind].GIVES_OUTPUTS if need in stages else need in declared)
    ]
    while waiting:
        for name in needed_by[waiting.pop()]:
            if name not in found:
                found.add(name)
                if name in needed_by:
                    waiting.append(name)
    return found


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    """Settings with their placeholders filled in, in the defaults of references too."""

    def change(item: Reference | str) -> Any:
        if isinstance(item, str):
            return _expanded(item, known)
        if item.default is None or "{" not in item.default:
            return item
        return msgspec.structs.replace(item, default=_expanded(item.default, known))

    return replaced(value, change)


def _expanded(text: str, known: Mapping[str, str]) -> str:
    if "{" not in text:
        return text
    # Twice, because a value may have placeholders of its own.
    for _ in range(2):
        text = PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
    return text


def _with_settings(stage: AnyStage, settings: Any) -> AnyStage:
    if settings is stage.settings:
        return stage
    return msgspec.structs.replace(stage, settings=settings)


def _with_needs(stage: AnyStage, needs: tuple[str, ...]) -> AnyStage:
    return stage if needs == stage.needs else msgspec.structs.replace(stage, needs=needs)
