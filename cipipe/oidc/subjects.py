"""Why a token's subject is not the one that a policy expects: which part
differs, and what made it differ.

Subjects are split into their parts by the provider that issues subjects of
their form (`ci`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cipipe import ci
from cipipe.ci import Subject
from cipipe.oidc.conditions import like
from cipipe.oidc.findings import nearest

_WHAT = {
    "branch": "branch",
    "tag": "tag",
    "environment": "environment",
    "merge-request": "merge or pull request",
}

_UNMERGED = (
    "the job belongs to a merge or pull request, whose code is not merged: a role that deploys "
    "should not trust it"
)


class SubjectMismatch(msgspec.Struct, frozen=True):
    """The id and the message of a finding."""

    id: str
    message: str


def mismatch(expected: Sequence[str], actual: str, claims: Mapping[str, Any]) -> SubjectMismatch:
    """Why none of the expected subjects and patterns matches. `claims` are all of the token's."""
    text = nearest(expected, actual)
    wanted = ci.subject(text)
    found = ci.subject(actual)

    if any(like(actual.casefold(), value.casefold()) for value in expected):
        message = "the subjects differ only in upper and lower case, which conditions distinguish"
        return SubjectMismatch("oidc-subject-case", message)

    if _differ_in_ids(expected, found):
        forms = ("contains the ids of owner and repository", "contains names only")
        token, policy = forms if found.ids else reversed(forms)
        message = f"the token's subject {token}, the one in the policy {policy}"
        return SubjectMismatch("oidc-subject-immutable", message)

    unmerged = found.kind == "merge-request" or ci.unmerged(claims)
    same_project = like(_project(found, claims), wanted.project)
    if unmerged and wanted.project and same_project:
        return SubjectMismatch("oidc-subject-pull-request", _UNMERGED)

    if wanted.kind == "project" and same_project:
        message = (
            "the subject in the policy names the project only; a token's also names its ref, "
            "request or environment"
        )
        return SubjectMismatch("oidc-subject-mismatch", message)
    if found.kind == "project" and not _other_project(wanted, found):
        message = "the token's subject names the project only, the one in the policy names more"
        return SubjectMismatch("oidc-subject-mismatch", message)

    # A subject that names only the project still has a usual form: it can
    # be compared by project.
    if found.kind != "project" and "custom" in {wanted.kind, found.kind}:
        return _customised(text, wanted, found)
    if _other_project(wanted, found):
        message = f"the token is for the project {found.project}, the role trusts {wanted.project}"
        return SubjectMismatch("oidc-subject-mismatch", message)
    return _same_project(wanted, found)


def _other_project(wanted: Subject, found: Subject) -> bool:
    return bool(wanted.project) and not like(found.project, wanted.project)


def _project(found: Subject, claims: Mapping[str, Any]) -> str:
    """The project of a token, whose subject may not name it."""
    facts = ci.token_facts(claims)
    return found.project or (facts.project if facts and facts.project else "")


def _differ_in_ids(expected: Sequence[str], found: Subject) -> bool:
    """Whether a subject would match if both sides had ids, or neither."""
    if found.ids:
        return any(like(found.plain, value) for value in expected)
    patterns = [ci.subject(value) for value in expected]
    return any(pattern.ids and like(found.plain, pattern.plain) for pattern in patterns)


def _customised(text: str, wanted: Subject, found: Subject) -> SubjectMismatch:
    """The finding where at least one of the two does not have a usual form."""
    # Two customised subjects, or a pattern such as `*:ref:refs/heads/main`:
    # all that can be said.
    pattern = wanted.kind == "custom" and ("*" in text or "?" in text)
    if wanted.kind == found.kind or pattern:
        message = "the role does not trust the token's subject"
        return SubjectMismatch("oidc-subject-mismatch", message)

    which = "token's subject" if found.kind == "custom" else "subject in the policy"
    message = f"the {which} does not have the provider's usual form: it was customised"
    return SubjectMismatch("oidc-subject-custom", message)


def _same_project(wanted: Subject, found: Subject) -> SubjectMismatch:
    """The finding where two subjects of one project differ."""
    kinds = {wanted.kind, found.kind}
    if wanted.kind == "merge-request":
        message = "the role trusts merge or pull requests only, and this job belongs to none"
        return SubjectMismatch("oidc-subject-pull-request", message)
    if "environment" in kinds:
        return SubjectMismatch("oidc-subject-environment", _environment(wanted, found))
    if kinds == {"branch", "tag"}:
        message = f"the token is for the {found.kind} {found.name}, the role trusts a {wanted.kind}"
        return SubjectMismatch("oidc-subject-tag", message)
    return SubjectMismatch("oidc-subject-mismatch", _other_ref(wanted, found))


def _other_ref(wanted: Subject, found: Subject) -> str:
    if wanted.ids and found.ids and not all(map(like, found.ids, wanted.ids)):
        token, policy = (" and ".join(subject.ids or ()) for subject in (found, wanted))
        return (
            f"the token has the ids {token}, the role trusts {policy}: another owner or project "
            "of the same name"
        )
    what = _WHAT[found.kind]
    if wanted.name == found.name:
        return f"the subject in the policy does not spell the {what} as the provider does"
    return f"the token is for the {what} {found.name}, which the role does not trust"


def _environment(wanted: Subject, found: Subject) -> str:
    if found.kind != "environment":
        return f"the role trusts the environment {wanted.name}, and the job names none"
    if wanted.kind != "environment":
        return (
            f"the job names the environment {found.name}, so its subject contains that instead of "
            "the branch or tag"
        )
    if wanted.name == found.name:
        return "a colon in the name of an environment is written as %3A in the subject"
    return f"the token is for the environment {found.name}, the role trusts {wanted.name}"
