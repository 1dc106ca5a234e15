"""Whose tokens the roles of a project trust: the subjects and claims that `bootstrap` and
`trust-policy` write.

GitHub has two forms of subjects, with the ids of owner and repository and without. A GitLab project
may have subjects of other components than the usual ones.
"""

import re
from collections.abc import Sequence

import msgspec

from cipipe import ci
from cipipe.ci.base import Provider
from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.oidc.request import visible

ANY_IDS = ("*", "*")
_ID = re.compile(r"[0-9]+")
_WORKFLOW = re.compile(r"\.github/workflows/[\w.-]+\.ya?ml")


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider's tokens have to say. `claims` count for both roles, `deploy_claims` for
    the deploy role.

    `ids` are those of owner and project in the second form of the subjects, where there is one.
    `doubts` say what that lets in, or keeps out, against what may be meant.
    """

    deploy_subjects: list[str]
    verify_subjects: list[str]
    claims: dict[str, list[str]]
    deploy_claims: dict[str, list[str]]
    ids: tuple[str, str] | None
    doubts: list[str]


class Whose(msgspec.Struct, frozen=True):
    """A project at a provider, with what is set for it. `ids` are those of owner and project, where
    they are known.
    """

    provider: str
    issuer: str
    project: str
    settings: OidcSettings = OidcSettings()
    ids: tuple[str, str] | None = None


def ids_of(settings: OidcSettings, where: str) -> tuple[str, str] | None:
    """The ids that the configuration gives, of owner and project. Raises UsageError
    `config-bad-oidc`.
    """
    given = {"owner_id": settings.owner_id, "project_id": settings.project_id}
    for key, value in given.items():
        if value is not None and not _ID.fullmatch(value):
            raise _bad(f"{value!r} is not a number", f"{where}.{key}")
    if settings.owner_id is None or settings.project_id is None:
        return None
    return settings.owner_id, settings.project_id


def trust(whose: Whose, *, branches: Sequence[str], tags: Sequence[str]) -> Trust:
    """Who may deploy from these branches and tags, and who may verify. Raises UsageError
    `config-bad-oidc`.
    """
    rules, settings = ci.PROVIDERS[whose.provider], whose.settings
    where = f"oidc.{whose.provider}"
    refs = DeployFrom(branches=tuple(branches), tags=tuple(tags))
    components = settings.subject_components
    if components:
        known = rules.component_subjects(whose.project, components, settings.project_id, refs)
        if known is None:
            raise _bad(
                f"no subjects can be made of {', '.join(components)}",
                f"{where}.subject_components",
                "GitLab takes project_path or project_id, then ref_type, ref, environment_protected.",
            )
        deploy, verify = known
    else:
        deploy = rules.deploy_subjects(whose.project, refs)
        verify = rules.verify_subjects(whose.project)

    ids, claims, doubts = _forms(rules, whose)
    guards = deploy_claims(whose.provider, whose.issuer) if settings.protected_refs else {}
    return Trust(
        deploy_subjects=with_ids(rules, deploy, ids),
        verify_subjects=with_ids(rules, verify, ids),
        claims=claims,
        deploy_claims={**guards, **workflow_claims(whose, branches=branches, tags=tags)},
        ids=ids,
        doubts=doubts,
    )


def with_ids(rules: Provider, subjects: list[str], ids: tuple[str, str] | None) -> list[str]:
    """Subjects in the form without ids and, where the provider has one, in the form with them."""
    if ids is None:
        return subjects
    pinned = (rules.pinned_subject(subject, ids) for subject in subjects)
    return [*subjects, *(subject for subject in pinned if subject is not None)]


def deploy_claims(provider: str, issuer: str) -> dict[str, list[str]]:
    """The claims that keep merge requests out, as far as AWS sees them of the issuer."""
    offered = visible(issuer)
    return {
        claim: list(values)
        for claim, values in ci.PROVIDERS[provider].DEPLOY_CLAIMS.items()
        if claim in offered
    }


def workflow_claims(
    whose: Whose, *, branches: Sequence[str], tags: Sequence[str]
) -> dict[str, list[str]]:
    """The claim that names the workflow file of a job, and its ref. Raises UsageError
    `config-bad-oidc`.

    A job of `pull_request_target` has the subject of the base branch; its workflow is another one
    than that which deploys.
    """
    files = whose.settings.workflows
    if not files:
        return {}
    where = f"oidc.{whose.provider}.workflows"
    if "job_workflow_ref" not in visible(whose.issuer):
        raise _bad(f"AWS does not see job_workflow_ref of {whose.issuer}", where, "Leave it out.")
    wrong = [file for file in files if not _WORKFLOW.fullmatch(file)]
    if wrong:
        raise _bad(
            f"{wrong[0]!r} is not a workflow file",
            where,
            "It looks like .github/workflows/deploy.yml.",
        )
    refs = [*(f"refs/heads/{name}" for name in branches), *(f"refs/tags/{name}" for name in tags)]
    if not refs:
        return {}
    return {"job_workflow_ref": [f"{whose.project}/{file}@{ref}" for file in files for ref in refs]}


def _forms(
    rules: Provider, whose: Whose
) -> tuple[tuple[str, str] | None, dict[str, list[str]], list[str]]:
    """The ids to trust beside the names, the claims that make that safe, and a doubt where there
    are none.
    """
    has_forms = rules.pinned_subject(f"repo:{whose.project}:x", ANY_IDS) is not None
    if not has_forms or whose.ids is not None:
        return whose.ids, {}, []
    offered = visible(whose.issuer)
    if whose.settings.immutable_subjects and "repository" in offered:
        return ANY_IDS, {"repository": [whose.project]}, []
    if "repository_id" not in offered:  # a GitHub server of one's own, which has no such form
        return None, {}, []
    doubt = (
        f"{whose.project} is trusted by its names only: the subjects of a GitHub repository made, renamed or moved "
        "since July 15, 2026 have ids in them; set owner_id and project_id under [oidc] to trust both forms"
    )
    return None, {}, [doubt]


def _bad(
    what: str, where: str, hint: str = "`cipipe check` shows the whole configuration's problems."
) -> UsageError:
    return UsageError("config-bad-oidc", f"{where}: {what}", hint=hint, where=where)
