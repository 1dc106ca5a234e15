"""`cipipe doctor`: what would stop a run on this machine or in this job,
each with its fix.

Nothing is changed. A check that fails does not stop the others; one that
cannot be made is skipped and says why.
"""

from collections.abc import Iterator
from functools import partial

from cipipe.errors import CipipeError
from cipipe.pipeline.doctor.base import Machine, Skipped, checked
from cipipe.pipeline.doctor.docker import check_docker
from cipipe.pipeline.doctor.identity import CHECKS, Job
from cipipe.pipeline.doctor.machine import (
    check_config,
    check_git,
    check_terraform,
    check_tofu,
    tools_of,
)
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.results import Check


def examine(
    machine: Machine,
    project: Project | None,
    session: Session | None,
    *,
    problem: CipipeError | None = None,
) -> Iterator[tuple[Check, CipipeError | None]]:
    """Make each check and yield it, with its error where it failed.

    `problem` is why there is no project, or no environment and so no
    session.
    """
    tools = tools_of(project)
    # Without a configuration nobody knows what is needed: what is missing
    # is a warning only.
    known = tools is not None
    yield checked("git", lambda: check_git(machine.env))
    yield checked("terraform", lambda: check_terraform(machine.env, tools), needed=known)
    if tools is not None and "tofu" in tools:
        yield checked("tofu", lambda: check_tofu(machine.env))
    yield checked("docker", lambda: check_docker(machine, tools), needed=known)
    yield checked("config", lambda: check_config(project, problem))

    job = Job(session, machine.offline) if session is not None else None
    for name, check in CHECKS.items():
        yield checked(name, partial(check, job) if job else _without_environment)


def _without_environment() -> str:
    raise Skipped("the environment is in the configuration, which cannot be used")
