"""Why a token's subject is not the one that a policy expects: which part of it differs, and what
made it differ.

Subjects are taken apart by the provider whose form they have (`ci`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


_UNMERGED = "the job belongs to a merge or pull request, whose code is not merged: a role that deploys should not trust it"


class Cause(NamedTuple):
    """The id and the message of a finding."""

    id: str
    message: str


def cause(expected: Sequence[str], actual: str, claims: Mapping[str, Any]) -> Cause:
    """Why no expected value matches the subject. `claims` are all that the token says."""
    wanted_text = nearest(expected, actual)
    wanted, found = ci.subject(wanted_text), ci.subject(actual)
    if any(like(actual.casefold(), value.casefold()) for value in expected):
        return Cause(
            "oidc-subject-case",
            "the subjects differ in upper and lower case only, which a condition tells apart",
        )
    if _differ_in_ids(expected, found):
        forms = ("has the ids of owner and repository in it", "has names only")
        token, policy = forms if found.ids else reversed(forms)
        return Cause(
            "oidc-subject-immutable", f"the token's subject {token}, the one in the policy {policy}"
        )
    unmerged = found.kind == "merge-request" or ci.unmerged(claims)
    if unmerged and wanted.project and like(_project(found, claims), wanted.project):
        return Cause("oidc-subject-pull-request", _UNMERGED)
    if wanted.kind == "project" and like(_project(found, claims), wanted.project):
        message = "the subject in the policy names the project only; a token's goes on with its ref, request or environment"
        return Cause("oidc-subject-mismatch", message)
    if found.kind == "project" and _other_project(wanted, found):
        return _mismatch(wanted, found)
    if found.kind == "project":
        message = "the token's subject names the project only, and the one in the policy says more"
        return Cause("oidc-subject-mismatch", message)
    if "custom" in {wanted.kind, found.kind}:
        pattern = wanted.kind == "custom" and set("*?") & set(wanted_text)
        if wanted.kind == found.kind or pattern:
            return Cause(
                "oidc-subject-mismatch", "the token's subject is not one that the role trusts"
            )
        whose = "token's subject" if found.kind == "custom" else "subject in the policy"
        return Cause(
            "oidc-subject-custom",
            f"the {whose} does not have the provider's usual form: it was customised",
        )
    if _other_project(wanted, found):
        return _mismatch(wanted, found)
    return _same_project(wanted, found)


def _other_project(wanted: Subject, found: Subject) -> bool:
    return bool(wanted.project) and not like(found.project, wanted.project)


def _mismatch(wanted: Subject, found: Subject) -> Cause:
    message = f"the token is of the project {found.project}, the role trusts {wanted.project}"
    return Cause("oidc-subject-mismatch", message)


def _project(found: Subject, claims: Mapping[str, Any]) -> str:
    """The project of a token, whose subject may not name it."""
    facts = ci.token_facts(claims)
    return found.project or (facts.project if facts and facts.project else "")


def _differ_in_ids(expected: Sequence[str], found: Subject) -> bool:
    if found.ids:
        return any(like(found.plain, value) for value in expected)
    patterns = [ci.subject(value) for value in expected]
    return any(pattern.ids and like(found.plain, pattern.plain) for pattern in patterns)


def _same_project(wanted: Subject, found: Subject) -> Cause:
    kinds = {wanted.kind, found.kind}
    if wanted.kind == "merge-request":
        return Cause(
            "oidc-subject-pull-request",
            "the role trusts merge or pull requests only, and this job belongs to none",
        )
    if "environment" in kinds:
        return Cause("oidc-subject-environment", _environment(wanted, found))
    if kinds == {"branch", "tag"}:
        return Cause(
            "oidc-subject-tag",
            f"the token is of the {found.kind} {found.name}, the role trusts a {wanted.kind}",
        )
    if wanted.ids and found.ids and not all(map(like, found.ids, wanted.ids)):
        ids = [" and ".join(subject.ids or ()) for subject in (found, wanted)]
        message = f"the token has the ids {ids[0]}, the role trusts {ids[1]}: another owner or project of the same name"
        return Cause("oidc-subject-mismatch", message)
    if wanted.name == found.name:
        message = (
            f"the subject in the policy does not spell the {_WHAT[found.kind]} as the provider does"
        )
        return Cause("oidc-subject-mismatch", message)
    message = f"the token is of the {_WHAT[found.kind]} {found.name}, which is not one that the role trusts"
    return Cause("oidc-subject-mismatch", message)


def _environment(wanted: Subject, found: Subject) -> str:
    if found.kind != "environment":
        return f"the role trusts the environment {wanted.name}, and the job names none"
    if wanted.kind != "environment":
        return f"the job names the environment {found.name}, so its subject says that in place of the branch or tag"
    if wanted.name == found.name:
        return "a colon in an environment's name stands in the subject as %3A"
    return f"the token is of the environment {found.name}, the role trusts {wanted.name}"
