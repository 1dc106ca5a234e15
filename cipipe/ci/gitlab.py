"""GitLab CI/CD. Source: docs.gitlab.com, "Predefined CI/CD variables reference", "Custom collapsible sections".

The jobs that a plan turns into run in a child pipeline. Its number and source are its own, so the trigger job hands on
those of its parent as CIPIPE_PIPELINE_IID and CIPIPE_PIPELINE_SOURCE: a re-run of an old plan keeps its old place.
"""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from cipipe.ci.base import Identity, NoToken, Pins, Subject, TokenSource, VariableToken, commit, number, one_line
from cipipe.model import Context

NAME = "gitlab"
IDENTITY = Identity("https://gitlab.com", audience="https://gitlab.com", token_variable="AWS_ID_TOKEN")  # noqa: S106
PINS = Pins("namespace_id", "project_id", "CI_PROJECT_NAMESPACE_ID", "CI_PROJECT_ID", protected="ref_protected")

_EVENTS = {
    "push": "push",
    "schedule": "schedule",
    "merge_request_event": "merge-request",
    "external_pull_request_event": "merge-request",
}
_ERASE = "\x1b[0K"
_SUBJECT = re.compile(r"project_path:(?P<project>[^:]+):ref_type:(?P<kind>branch|tag):ref:(?P<name>.+)")
_COMPONENTS = ("project_path:", "project_id:", "namespace_id:", "namespace_path:")


def present(env: Mapping[str, str]) -> bool:
    return env.get("GITLAB_CI") == "true"


def context(env: Mapping[str, str]) -> Context:
    source, sequence = env.get("CI_PIPELINE_SOURCE", ""), env.get("CI_PIPELINE_IID")
    if source == "parent_pipeline":
        source = env.get("CIPIPE_PIPELINE_SOURCE", source)
        sequence = env.get("CIPIPE_PIPELINE_IID", sequence)
    merge_request = number(env.get("CI_MERGE_REQUEST_IID")) or number(env.get("CI_EXTERNAL_PULL_REQUEST_IID"))
    return Context(
        provider=NAME,
        event="merge-request" if merge_request else _EVENTS.get(source, "manual"),
        ref=env.get("CI_COMMIT_REF_NAME") or None,
        ref_type="tag" if env.get("CI_COMMIT_TAG") else "branch",
        commit=commit(env.get("CI_COMMIT_SHA")),
        base=commit(env.get("CI_MERGE_REQUEST_DIFF_BASE_SHA"))
        or commit(env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_SHA")),
        before=commit(env.get("CI_COMMIT_BEFORE_SHA")),
        default_branch=env.get("CI_DEFAULT_BRANCH") or None,
        merge_request=merge_request,
        protected=env.get("CI_COMMIT_REF_PROTECTED") == "true",
        sequence=number(sequence),
        pipeline_url=env.get("CI_PIPELINE_URL") or None,
        actor=env.get("GITLAB_USER_LOGIN") or None,
        project=env.get("CI_PROJECT_PATH") or None,
        fork=_fork(env),
    )


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
    if env.get(token_variable):
        return VariableToken(token_variable)
    return NoToken(
        f"Give the job an ID token: `id_tokens: {{{token_variable}: {{aud: {audience}}}}}` in its definition. "
        "A variable of that name that is set elsewhere hides it."
    )


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:  # noqa: ARG001
    return frozenset(
        {"CI_JOB_TOKEN", "CI_JOB_JWT", "CI_JOB_JWT_V1", "CI_JOB_JWT_V2", "CI_REGISTRY_PASSWORD", "CI_DEPLOY_PASSWORD"}
    )


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:
    """The job's token, for this instance's own API and no other host.

    docs.gitlab.com/user/infrastructure/iac/terraform_state
    """
    api, token = env.get("CI_API_V4_URL", ""), env.get("CI_JOB_TOKEN", "")
    if not api or not token or not address.startswith(f"{api.rstrip('/')}/"):
        return {}
    return {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": token}


def deploy_subjects(project: str, *, branches: Iterable[str], tags: Iterable[str]) -> list[str]:
    refs = [("branch", name) for name in branches] + [("tag", name) for name in tags]
    return [f"project_path:{project}:ref_type:{kind}:ref:{name}" for kind, name in refs]


def verify_subjects(project: str) -> list[str]:
    return [f"project_path:{project}:ref_type:{kind}:ref:*" for kind in ("branch", "tag")]


def environment_subject(project: str, environment: str) -> str | None:  # noqa: ARG001 - it is in other claims only
    return None


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:  # noqa: ARG001 - ids are claims of their own
    return None


def subject(text: str) -> Subject | None:
    """The default form; a project may make its subjects of other claims (docs.gitlab.com, "Token payload")."""
    match = _SUBJECT.fullmatch(text)
    if match:
        kind: Literal["branch", "tag"] = "tag" if match["kind"] == "tag" else "branch"
        return Subject(kind, text, match["project"], match["name"])
    return Subject("custom", text) if text.startswith(_COMPONENTS) else None


def unmerged(claims: Mapping[str, Any]) -> bool:
    return _EVENTS.get(str(claims.get("pipeline_source"))) == "merge-request"


def fold_start(name: str, title: str) -> str:
    return f"{_ERASE}section_start:{int(time.time())}:{_section(name)}\r{_ERASE}{one_line(title)}"


def fold_end(name: str) -> str:
    return f"{_ERASE}section_end:{int(time.time())}:{_section(name)}\r{_ERASE}"


def warning(text: str) -> str:
    return f"\x1b[33mwarning: {one_line(text)}\x1b[0m"


def mask(secret: str) -> str:  # noqa: ARG001 - GitLab masks by setting only; our own redaction stands alone here
    return ""


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _fork(env: Mapping[str, str]) -> bool:
    source = env.get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH") or env.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY")
    target = env.get("CI_MERGE_REQUEST_PROJECT_PATH") or env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")
    return bool(source or target) and source != target


def _section(name: str) -> str:
    """A section's name: letters, digits and `_.-` are all that GitLab takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
