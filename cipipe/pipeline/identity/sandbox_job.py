"""A job that the sandbox plays: the variables with which it gets its ID token."""

from typing import Any, Protocol

import msgspec

from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.pipeline.identity.sandbox_target import played_provider
from cipipe.pipeline.identity.tokens import issuer_of
from cipipe.pipeline.project import Project


class JobSandbox(Protocol):
    """What is needed of a sandbox. `sandbox.client.Sandbox` meets it."""

    def mint(
        self, *, project: str, ref: str, ref_type: str, audience: str, flavour: str, **more: Any
    ) -> str: ...

    def github_job(
        self, *, project: str, ref: str, ref_type: str, **more: Any
    ) -> tuple[str, str]: ...


class PlayedJob(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody chose; None is the default."""

    provider: str | None = None
    branch: str | None = None
    tag: str | None = None
    event: str = "push"
    # The environment of the provider that it names.
    environment: str | None = None


def job_variables(project: Project, sandbox: JobSandbox, job: PlayedJob) -> dict[str, str]:
    """The variables by name. Without a branch and a tag, the job is one of the branch that is
    checked out.

    Raises UsageError.
    """
    provider = job.provider or played_provider(project)
    settings = project.config.oidc.get(provider, OidcSettings())
    path = settings.project or project.config.project.name
    ref_type, ref = _ref(project, job)
    issuer = issuer_of(project, provider)
    # A provider without such a variable lets the job request its token.
    if issuer.token_variable:
        token = sandbox.mint(
            project=path,
            ref=ref,
            ref_type=ref_type,
            audience=issuer.audience,
            flavour=provider,
            event=job.event,
            environment=job.environment,
        )
        return {issuer.token_variable: token}
    url, bearer = sandbox.github_job(
        project=path, ref=ref, ref_type=ref_type, event=job.event, environment=job.environment
    )
    return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer}


def _ref(project: Project, job: PlayedJob) -> tuple[str, str]:
    if job.branch is not None and job.tag is not None:
        raise UsageError("usage", "a job has a branch or a tag, not both")
    if job.tag is not None:
        return "tag", job.tag
    if job.branch is not None:
        return "branch", job.branch
    context = project.context
    if context.ref is None or context.ref_type is None:
        raise UsageError(
            "usage", "no branch is checked out", hint="Name the job's with --branch or --tag."
        )
    return context.ref_type, context.ref
