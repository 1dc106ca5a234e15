"""What a sandbox warns about before it starts: tools that this project needs."""

from types import SimpleNamespace
from typing import Any

import pytest

from cipipe.cli.sandboxed import _warn
from cipipe.stages.settings import Stage

MISSING = {"docker": "…", "registry": "…", "terraform": "…"}


def warned(*stages: Stage[Any]) -> list[str]:
    found: list[str] = []
    shared: Any = SimpleNamespace(console=SimpleNamespace(warning=found.append))
    config = SimpleNamespace(stages={stage.name: stage for stage in stages})
    project: Any = SimpleNamespace(config=config)
    _warn(shared, project, MISSING)
    return [text.partition(" ")[0] for text in found]


@pytest.mark.parametrize(
    ("kinds", "tools"),
    [
        # The account of every sandbox is bootstrapped with Terraform.
        ((), ["terraform"]),
        (("image",), ["docker", "registry", "terraform"]),
    ],
)
def test_only_what_a_stage_needs_is_missed(kinds: tuple[str, ...], tools: list[str]) -> None:
    settings: Any = SimpleNamespace(promote="copy")
    stages = [Stage(kind, kind, settings) for kind in kinds]
    assert warned(*stages) == tools
