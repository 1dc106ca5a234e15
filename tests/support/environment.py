"""Environments for processes that tests start: none has what a CI service or AWS put into ours."""

import os
from collections.abc import Mapping

# Beginnings of names. "CI" covers CIPIPE_ too.
FOREIGN = (
    "AWS_",
    "CI",
    "GITLAB_",
    "GITHUB_",
    "ACTIONS_",
    "MOTO_",
    "TF_VAR_",
    "NO_COLOR",
    "COLUMNS",
)


def shell_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What somebody at a shell has who is in no pipeline and has no AWS credentials."""
    return {name: value for name, value in base.items() if not name.startswith(FOREIGN)}
