"""`cipipe doctor`: what of this machine and of this job would stop a run, each with its fix.
Nothing is changed.

A check that fails does not stop the others; one that cannot be made is skipped, and says why.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from cipipe.errors import CipipeError
from cipipe.interrupt import Interrupt
from cipipe.model import Check
from cipipe.pipeline.doctor.base import Skipped, checked
from cipipe.pipeline.doctor.docker import check_docker
from cipipe.pipeline.doctor.identity import CHECKS, Job
from cipipe.pipeline.doctor.machine import check_config, check_git, check_terraform, needed
from cipipe.pipeline.identity.access import AwsTarget
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor


def examine(
    env: Mapping[str, str],
    project: Project | None,
    name: str | None,
    *,
    problem: CipipeError | None = None,
    redactor: Redactor,
    interrupt: Interrupt,
    offline: bool = False,
    target: AwsTarget | None = None,
) -> Iterator[tuple[Check, CipipeError | None]]:
    """Each check as it is made, with its error where it failed. `problem` is why there is no
    project, or no `name`.
    """
    tools = needed(project)
    docker = partial(
        check_docker, redactor=redactor, interrupt=interrupt, target=target, offline=offline
    )
    yield checked("git", lambda: check_git(env))
    yield checked("terraform", lambda: check_terraform(env, tools), needed=tools is not None)
    yield checked("docker", lambda: docker(env, tools), needed=tools is not None)
    yield checked("config", lambda: check_config(project, problem))
    job = Job(project, name, redactor, target, offline) if project and name else None
    for word, check in CHECKS.items():
        yield checked(word, partial(check, job) if job else _without_environment)


def _without_environment() -> str:
    raise Skipped("which environment is meant stands in the configuration")
