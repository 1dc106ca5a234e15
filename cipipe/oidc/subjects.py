"""Why a token's subject is not the one that a policy expects: which part of it differs, and what made it differ.

Subjects are taken apart by the provider whose form they have (`ci`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe import ci
from cipipe.ci import Subject
from cipipe.oidc.conditions import like
from cipipe.oidc.findings import nearest

_WHAT = {"branch": "branch", "tag": "tag", "environment": "environment", "merge-request": "merge or pull request"}


def cause(expected: Sequence[str], actual: str, claims: Mapping[str, Any]) -> tuple[str, str]:
    """The id and the message of the finding on a subject that no expected value matches."""
    wanted_text = nearest(expected, actual)
    wanted, found = ci.subject(wanted_text), ci.subject(actual)
    if any(like(actual.casefold(), value.casefold()) for value in expected):
        return "oidc-subject-case", "the subjects differ in upper and lower case only, which a condition tells apart"
    if _differ_in_ids(expected, found):
        form = "with" if found.ids else "without"
        return (
            "oidc-subject-immutable",
            f"the token's subject has the form {form} the ids of owner and repository, the policy has the other form",
        )
    if "custom" in {wanted.kind, found.kind}:
        if wanted.kind == found.kind or set("*?") & set(wanted_text):
            return "oidc-subject-mismatch", "the token's subject is not one that the role trusts"
        whose = "token's" if found.kind == "custom" else "policy's"
        return "oidc-subject-custom", f"the {whose} subject does not have the provider's usual form: it was customised"
    if not like(found.project, wanted.project):
        return (
            "oidc-subject-mismatch",
            f"the token is of the project {found.project}, the role trusts {wanted.project}",
        )
    return _same_project(wanted, found, claims)


def _differ_in_ids(expected: Sequence[str], found: Subject) -> bool:
    if found.ids:
        return any(like(found.plain, value) for value in expected)
    patterns = [ci.subject(value) for value in expected]
    return any(pattern.ids and like(found.plain, pattern.plain) for pattern in patterns)


def _same_project(wanted: Subject, found: Subject, claims: Mapping[str, Any]) -> tuple[str, str]:
    kinds = {wanted.kind, found.kind}
    if "merge-request" in kinds or ci.unmerged(claims):
        return (
            "oidc-subject-pull-request",
            "the job belongs to a merge or pull request, whose code is not merged: a role that deploys should not trust it"
            if found.kind == "merge-request" or ci.unmerged(claims)
            else "the role trusts merge or pull requests only, and this job belongs to none",
        )
    if kinds == {"environment"}:
        return "oidc-subject-environment", _environments(wanted, found)
    if "environment" in kinds:
        return (
            "oidc-subject-environment",
            f"the job names the environment {found.name}, so its subject says that in place of the branch or tag"
            if found.kind == "environment"
            else f"the role trusts the environment {wanted.name}, and the job names none",
        )
    if kinds == {"branch", "tag"}:
        return "oidc-subject-tag", f"the token is of the {found.kind} {found.name}, the role trusts a {wanted.kind}"
    return (
        "oidc-subject-mismatch",
        f"the token is of the {_WHAT[found.kind]} {found.name}, which is not one that the role trusts",
    )


def _environments(wanted: Subject, found: Subject) -> str:
    if wanted.name == found.name:
        return "a colon in an environment's name stands in the subject as %3A"
    return f"the token is of the environment {found.name}, the role trusts {wanted.name}"
