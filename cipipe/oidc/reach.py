"""Who a statement lets in that has no condition on the subject: what its other conditions leave
open.
"""

import re
from collections.abc import Iterable

from cipipe.oidc import conditions
from cipipe.oidc.conditions import literal
from cipipe.oidc.trust_policy import ConditionResult, StatementResult

_PROJECT = ("repository_id", "project_id", "repository", "project_path")
_OWNER = (
    "repository_owner_id",
    "namespace_id",
    "repository_owner",
    "namespace_path",
    "enterprise_id",
    "enterprise",
)
_WORKFLOW = ("job_workflow_ref", "workflow_ref")
_REQUEST_REF = re.compile(r"refs/(pull|merge-requests)/")
_PULL_REQUEST = "refs/pull/1/merge"
_ALWAYS = {
    *("actor", "actor_id", "ref", "repository", "repository_id", "repository_owner_id", "workflow"),
    *("namespace_id", "pipeline_source", "project_id", "ref_protected"),
}
"""Claims that every token of GitHub or GitLab has: a condition with `IfExists` restricts these as
one without does.
"""
_OPERATORS = {"stringequals", "stringequalsignorecase", "stringlike", "numericequals", "bool"}


def reach(statement: StatementResult, issuer: str) -> str:
    """Who may assume the role, as the subject of a sentence; empty where that is one ref of one
    project.
    """
    limits = {
        name.rpartition(":")[2]: condition
        for condition in statement.conditions
        if (name := condition.key.lower()).rpartition(":")[0] == issuer.lower()
        and _limits(condition)
    }
    limits.pop("aud", None)

    if any(name in limits and _exact(limits[name]) for name in _PROJECT):
        return _of_project(limits)
    if any(name in limits for name in (*_PROJECT, *_OWNER)):
        return (
            f"all projects that have this {_list(n for n in (*_PROJECT, *_OWNER) if n in limits)}"
        )
    if any(name in limits for name in _WORKFLOW):
        return "whichever repository calls this workflow"
    if limits:
        return f"any project on {issuer} whose token has this {_list(limits)}"
    return f"every project on {issuer}"


def _of_project(limits: dict[str, ConditionResult]) -> str:
    ref = limits.get("ref")
    if ref is not None and not any(_of_requests(ref, value) for value in ref.expected):
        return ""
    if "environment" in limits:
        return "every ref and pull request of the project whose job may use the environment"
    return "every ref, pull request and environment of the project"


def _of_requests(ref: ConditionResult, value: str) -> bool:
    """Whether a value of a condition on the ref is that of pull requests, or a pattern that matches
    theirs.
    """
    like = conditions.base(ref.operator).lower() == "stringlike"
    return _REQUEST_REF.match(value) is not None or (like and conditions.like(_PULL_REQUEST, value))


def _limits(condition: ConditionResult) -> bool:
    """Whether a condition wants its key to have one of some values that are not mere wildcards."""
    always = condition.key.lower().rpartition(":")[2] in _ALWAYS
    return (
        not conditions.negated(condition.operator)
        and (always or not conditions.tolerant(condition.operator))
        and conditions.base(condition.operator).lower() in _OPERATORS
        and all(literal(condition.operator, value) for value in condition.expected)
    )


def _exact(condition: ConditionResult) -> bool:
    return all(literal(condition.operator, value) == value for value in condition.expected)


def _list(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
