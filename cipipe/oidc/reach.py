"""Who a statement without a condition on the subject lets in.

That is whatever its other conditions leave open.
"""

import re
from collections.abc import Iterable, Mapping

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

# Claims that every token of GitHub or GitLab has. `IfExists` makes no
# difference for these.
_ALWAYS = {
    "actor",
    "actor_id",
    "namespace_id",
    "pipeline_source",
    "project_id",
    "ref",
    "ref_protected",
    "repository",
    "repository_id",
    "repository_owner_id",
    "workflow",
}
_OPERATORS = {"stringequals", "stringequalsignorecase", "stringlike", "numericequals", "bool"}


def reach(statement: StatementResult, issuer: str) -> str:
    """Who may assume the role, as the subject of a sentence; empty for one ref of a project."""
    limits = _limits(statement, issuer)

    if any(name in limits and _exact(limits[name]) for name in _PROJECT):
        return _of_project(limits)
    shared = [name for name in (*_PROJECT, *_OWNER) if name in limits]
    if shared:
        return f"all projects that have this {_list(shared)}"
    if any(name in limits for name in _WORKFLOW):
        return "whichever repository calls this workflow"
    if limits:
        return f"any project on {issuer} whose token has this {_list(limits)}"
    return f"every project on {issuer}"


def _limits(statement: StatementResult, issuer: str) -> dict[str, ConditionResult]:
    """The conditions that restrict a claim of the issuer, by claim.

    The audience says nothing about who asked for a token.
    """
    found: dict[str, ConditionResult] = {}
    for condition in statement.conditions:
        prefix, _, claim = condition.key.lower().rpartition(":")
        if prefix == issuer.lower() and claim != "aud" and _restricts(condition):
            found[claim] = condition
    return found


def _of_project(limits: Mapping[str, ConditionResult]) -> str:
    ref = limits.get("ref")
    if ref is not None and not any(_of_requests(ref, value) for value in ref.expected):
        return ""
    if "environment" in limits:
        return "every ref and pull request of the project whose job may use the environment"
    return "every ref, pull request and environment of the project"


def _of_requests(ref: ConditionResult, value: str) -> bool:
    """Whether a value of a condition on the ref is, or matches, that of a pull request."""
    like = conditions.base(ref.operator).lower() == "stringlike"
    return _REQUEST_REF.match(value) is not None or (like and conditions.like(_PULL_REQUEST, value))


def _restricts(condition: ConditionResult) -> bool:
    """Whether a condition requires its key to have one of some values, and not just any."""
    always = condition.key.lower().rpartition(":")[2] in _ALWAYS
    if conditions.negated(condition.operator):
        return False
    if conditions.tolerant(condition.operator) and not always:
        return False
    if conditions.base(condition.operator).lower() not in _OPERATORS:
        return False
    return all(literal(condition.operator, value) for value in condition.expected)


def _exact(condition: ConditionResult) -> bool:
    return all(literal(condition.operator, value) == value for value in condition.expected)


def _list(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
