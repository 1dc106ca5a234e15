"""The settings of the dbt project in an image: how it is parsed, and built in a merge request."""

import re
from collections.abc import Iterable

import msgspec

from cipipe.errors import Problem
from cipipe.stages.settings import Setting

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


class DbtDefer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the deployed relations are: what the project that made them is parsed with."""

    # DBT_TARGET; None: that of `dbt`.
    target: str | None = None
    # Added to the variables of `dbt`.
    environment: dict[str, Setting] = {}


class DbtBuild(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """`dbt build` of what a merge request changes."""

    defer: DbtDefer
    # DBT_TARGET; None: that of `dbt`.
    target: str | None = None
    # Added to the variables of `dbt`.
    environment: dict[str, Setting] = {}
    # A variable of the container, and the job's variable with its value.
    secrets: dict[str, str] = {}
    # Docker's name of the container's network.
    network: str = "bridge"
    # Seconds that it may take.
    timeout: int = 3600


class DbtProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The dbt project in the image, for the list of models that a merge request changes."""

    # DBT_TARGET while the project is parsed; None: the image's own.
    target: str | None = None
    # More variables that the project needs to be parsed. No secrets.
    environment: dict[str, str] = {}
    # None: a merge request builds nothing in the warehouse.
    build: DbtBuild | None = None


def problems_of_dbt(dbt: DbtProject) -> Iterable[Problem]:
    """What is wrong beyond the types."""
    build = dbt.build
    if build is None:
        return
    for name, variable in build.secrets.items():
        where = f"dbt.build.secrets.{name}"
        for given in (name, variable):
            if not re.fullmatch(_VARIABLE, given):
                yield Problem(
                    "config-bad-secret",
                    f"{given!r} is not the name of an environment variable; the value itself "
                    "does not belong here",
                    where,
                )
        if name in build.environment:
            yield Problem(
                "config-bad-secret", f"{name} is in `environment` and in `secrets`", where
            )
