"""The subjects and claims of the tokens that a project's roles trust.

GitHub has two forms of subjects: with the ids of owner and repository, and
without. Subjects of a GitLab project may be made of other components than
the usual ones.
"""

import re

import msgspec

from cipipe import ci
from cipipe.ci.base import Provider
from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.oidc.request import visible

ANY_IDS = ("*", "*")
"""The ids of any owner and project."""

_ID = re.compile(r"[0-9]+")
_WORKFLOW = re.compile(r"\.github/workflows/[\w.-]+\.ya?ml")


class TrustedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project at a provider, with the settings that it has under `[oidc]`."""

    provider: str
    # Without scheme.
    issuer: str
    # The path that the provider shows, such as group/name.
    path: str
    settings: OidcSettings = OidcSettings()
    # Of owner and project; None where they are not known.
    ids: tuple[str, str] | None = None


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What the tokens of one provider must say."""

    deploy_subjects: list[str]
    verify_subjects: list[str]
    # For both roles.
    claims: dict[str, list[str]]
    # For the deploy role, besides `claims`.
    deploy_claims: dict[str, list[str]]
    # Of owner and project, in the second form of the subjects; None where
    # there is no such form.
    ids: tuple[str, str] | None
    # What this lets in, or keeps out, that may not be intended.
    doubts: list[str]


class _Forms(msgspec.Struct, frozen=True):
    """How the second form of the subjects is trusted."""

    ids: tuple[str, str] | None = None
    # What makes trusting any ids safe.
    claims: dict[str, list[str]] = {}
    doubts: tuple[str, ...] = ()


def ids_of(settings: OidcSettings, where: str) -> tuple[str, str] | None:
    """The ids of owner and project in the configuration. Raises UsageError `config-bad-oidc`."""
    configured = {"owner_id": settings.owner_id, "project_id": settings.project_id}
    for key, value in configured.items():
        if value is not None and not _ID.fullmatch(value):
            raise _bad(f"{value!r} is not a number", f"{where}.{key}")
    if settings.owner_id is None or settings.project_id is None:
        return None
    return settings.owner_id, settings.project_id


def trust(
    project: TrustedProject, refs: DeployFrom, *, job_environment: str | None = None
) -> Trust:
    """Which tokens may deploy, from these branches and tags, and which may
    verify.

    With `job_environment`, only jobs deploy that name that environment of
    the provider, if it has such subjects. Raises UsageError
    `config-bad-oidc`.
    """
    provider = ci.PROVIDERS[project.provider]
    settings = project.settings
    components = settings.subject_components
    if components:
        made = provider.component_subjects(project.path, components, settings.project_id, refs)
        if made is None:
            raise _bad(
                f"no subjects can be made of {', '.join(components)}",
                f"oidc.{project.provider}.subject_components",
                "GitLab accepts project_path or project_id, then ref_type, ref, "
                "environment_protected.",
            )
        deploy, verify = made
    else:
        deploy = provider.deploy_subjects(project.path, refs)
        verify = provider.verify_subjects(project.path)

    forms = _forms(provider, project)
    guards = deploy_claims(project.provider, project.issuer) if settings.protected_refs else {}
    workflows = workflow_claims(project, refs)
    doubts = list(forms.doubts)
    named = job_environment and provider.environment_subject(project.path, job_environment)
    if named and deploy:
        deploy = [named]
        verify = [*verify, named]
        guards |= ref_claims(project, refs)
        if "ref" not in guards:
            doubts.append(
                f"AWS does not see the ref of {project.issuer}'s tokens: whatever the environment "
                f"{job_environment} admits may deploy; limit its branches and tags there"
            )
    return Trust(
        deploy_subjects=with_ids(provider, deploy, forms.ids),
        verify_subjects=with_ids(provider, verify, forms.ids),
        claims=dict(forms.claims),
        deploy_claims={**guards, **workflows},
        ids=forms.ids,
        doubts=doubts,
    )


def with_ids(provider: Provider, subjects: list[str], ids: tuple[str, str] | None) -> list[str]:
    """Subjects in the form without ids and, where the provider has one, in the form with them."""
    if ids is None:
        return subjects
    pinned = [provider.pinned_subject(subject, ids) for subject in subjects]
    return [*subjects, *(subject for subject in pinned if subject is not None)]


def deploy_claims(provider: str, issuer: str) -> dict[str, list[str]]:
    """The claims that keep merge requests out, as far as AWS sees them of the issuer."""
    offered = visible(issuer)
    claims = ci.PROVIDERS[provider].DEPLOY_CLAIMS
    return {claim: list(values) for claim, values in claims.items() if claim in offered}


def ref_claims(project: TrustedProject, refs: DeployFrom) -> dict[str, list[str]]:
    """The claim that names the ref, for subjects that do not; empty where AWS does not see it."""
    if "ref" not in visible(project.issuer):
        return {}
    branches = [f"refs/heads/{name}" for name in refs.branches]
    return {"ref": branches + [f"refs/tags/{name}" for name in refs.tags]}


def workflow_claims(project: TrustedProject, refs: DeployFrom) -> dict[str, list[str]]:
    """The claim that names a job's workflow file and its ref. Raises
    UsageError `config-bad-oidc`.

    A job of `pull_request_target` has the subject of the base branch, but
    not the workflow that deploys.
    """
    files = project.settings.workflows
    if not files:
        return {}
    where = f"oidc.{project.provider}.workflows"
    if "job_workflow_ref" not in visible(project.issuer):
        message = f"AWS does not see job_workflow_ref of {project.issuer}"
        raise _bad(message, where, "Leave it out.")
    for file in files:
        if not _WORKFLOW.fullmatch(file):
            example = "It looks like .github/workflows/deploy.yml."
            raise _bad(f"{file!r} is not a workflow file", where, example)

    branches = [f"refs/heads/{name}" for name in refs.branches]
    tags = [f"refs/tags/{name}" for name in refs.tags]
    if not branches and not tags:
        return {}
    values = [f"{project.path}/{file}@{ref}" for file in files for ref in (*branches, *tags)]
    return {"job_workflow_ref": values}


def _forms(provider: Provider, project: TrustedProject) -> _Forms:
    """Which ids to trust besides the names, and what makes that safe."""
    has_forms = provider.pinned_subject(f"repo:{project.path}:x", ANY_IDS) is not None
    if not has_forms or project.ids is not None:
        return _Forms(project.ids)
    offered = visible(project.issuer)
    if project.settings.immutable_subjects and "repository" in offered:
        return _Forms(ANY_IDS, {"repository": [project.path]})
    # A GitHub server of one's own does not have the second form.
    if "repository_id" not in offered:
        return _Forms()
    doubt = (
        f"{project.path} is trusted by its names only: the subjects of a GitHub repository made, "
        "renamed or moved since July 15, 2026 have ids in them; set owner_id and project_id under "
        "[oidc] to trust both forms"
    )
    return _Forms(doubts=(doubt,))


def _bad(
    what: str, where: str, hint: str = "`cipipe check` shows every problem of the configuration."
) -> UsageError:
    return UsageError("config-bad-oidc", f"{where}: {what}", hint=hint, where=where)
