"""The session of a command, as `cli` makes it."""

from typing import Any

from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.redact import Redactor


def session_of(project: Project, name: str = "dev", **parts: Any) -> Session:
    """A session in one environment of the project; nobody follows its progress."""
    given = {"redactor": Redactor(), **parts}
    return Session(project=project.at(name), environment_name=name, **given)
