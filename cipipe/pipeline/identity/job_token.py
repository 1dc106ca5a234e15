"""Whether the job's ID token may deploy: the provider signed its claims,
and no job can set them.

The variables, and even the subject, of a push to `main` can also belong to
a merge request from a fork whose branch is called `main`.
"""

from collections.abc import Mapping
from typing import Any

from cipipe import ci
from cipipe.ci.base import TokenFacts
from cipipe.config import OidcSettings
from cipipe.errors import IdentityError, RefusedError
from cipipe.oidc import claims as jwt
from cipipe.pipeline.project import Project


def refuse_token(project: Project, name: str, token: str, *, read_only: bool = False) -> None:
    """Refuse to get an environment's deploy role with this token.

    `read_only` allows refs that are not protected. A token that cannot be
    decoded is left to the exchange, which explains what is wrong with it.
    Raises RefusedError `token-merge-request`, `token-other-project`,
    `token-other-ref`, `token-unprotected-ref`.
    """
    try:
        claims = jwt.decode(token).payload
    except IdentityError:
        return
    refuse_claims(project, name, claims, read_only=read_only)


def refuse_claims(
    project: Project, name: str, claims: Mapping[str, Any], *, read_only: bool = False
) -> None:
    """The same for the claims of a token."""
    if ci.unmerged(claims):
        raise RefusedError(
            "token-merge-request",
            "the job's ID token was issued to a merge or pull request, which may not deploy to "
            f"{name}",
            hint="Run this from a branch or tag that deploy_from names, after the merge.",
            where=f"environments.{name}.deploy_from",
        )

    facts = ci.token_facts(claims)
    if facts is None or project.context.provider == "local":
        return
    settings = project.config.oidc.get(facts.provider, OidcSettings())
    _refuse_project(project, facts, settings)
    _refuse_event(project, name, facts)
    _refuse_ref(project, name, facts)
    if not read_only:
        _refuse_unprotected(project, name, facts, settings)


def _refuse_project(project: Project, facts: TokenFacts, settings: OidcSettings) -> None:
    own = project.context.provider
    if facts.provider != own:
        raise RefusedError(
            "token-other-project",
            f"this is a job of {own}, and its ID token was issued by {facts.provider}",
            hint="Use the token that the provider gives this job.",
            where=f"oidc.{own}",
        )
    for expected in (project.context.project, settings.project):
        if expected is None or facts.project is None or expected.lower() == facts.project.lower():
            continue
        raise RefusedError(
            "token-other-project",
            f"the job's ID token was issued to the project {facts.project}, not to {expected}",
            hint="Use the token that the provider gives this job, and check `project` under "
            "[oidc].",
            where=f"oidc.{facts.provider}.project",
        )


def _refuse_event(project: Project, name: str, facts: TokenFacts) -> None:
    """GitHub: a run of `workflow_run` may follow a pull request's.

    The event's payload says so and no claim does, so the variable that
    names the event has to agree with the token.
    """
    if facts.variable is None:
        return
    variable, value = facts.variable
    found = project.env.get(variable)
    if found != value:
        raise RefusedError(
            "token-merge-request",
            f"the job's ID token was issued for {value}, which may follow a pull request, and "
            f"{variable} says {found or 'nothing'}: what started the job is unknown, so it may not "
            f"deploy to {name}",
            hint="Use the variables that the provider gives this job.",
            where=f"environments.{name}.deploy_from",
        )


def _refuse_ref(project: Project, name: str, facts: TokenFacts) -> None:
    context = project.context
    same_type = facts.ref_type is None or facts.ref_type == context.ref_type
    if facts.ref is None or (facts.ref == context.ref and same_type):
        return
    raise RefusedError(
        "token-other-ref",
        f"the job says that it runs for the {context.ref_type} {context.ref}, but its ID token was "
        f"issued for the {facts.ref_type or 'ref'} {facts.ref}",
        hint="Use the token that the provider gives this job; no variable of the job may replace "
        "the provider's own.",
        where=f"environments.{name}.deploy_from",
    )


def _refuse_unprotected(
    project: Project, name: str, facts: TokenFacts, settings: OidcSettings
) -> None:
    """GitLab: a child of a merge request's pipeline differs from one of main's in this only."""
    provider = ci.PROVIDERS[facts.provider]
    needed = "ref_protected" in provider.DEPLOY_CLAIMS and settings.protected_refs
    if facts.protected is not False or not (needed or project.context.protected):
        return
    raise RefusedError(
        "token-unprotected-ref",
        f"the job's ID token says that {facts.ref_type or 'ref'} {facts.ref} is not protected, as "
        f"that of a merge request's job does, so it may not deploy to {name}",
        hint="Protect the branch or tag in the project's settings, under Repository.",
        where=f"environments.{name}.deploy_from",
    )
