"""GitLab CI/CD. Source: docs.gitlab.com, "Predefined CI/CD variables reference", "Custom
collapsible sections".

The jobs that a plan turns into run in a child pipeline. Its number and source are its own, so the
trigger job hands on those of its parent as CIPIPE_PIPELINE_IID and CIPIPE_PIPELINE_SOURCE: a re-run
of an old plan keeps its old place.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from cipipe.ci.base import (
    Identity,
    Merge,
    NoToken,
    Pins,
    Subject,
    TokenFacts,
    TokenSource,
    VariableToken,
    claim_text,
    commit,
    number,
    one_line,
)
from cipipe.model import Context

NAME = "gitlab"
IDENTITY = Identity(
    "https://gitlab.com", audience="https://gitlab.com", token_variable="AWS_ID_TOKEN"
)
PINS = Pins(
    "namespace_id",
    "project_id",
    "CI_PROJECT_NAMESPACE_ID",
    "CI_PROJECT_ID",
    protected="ref_protected",
)

DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]] = {
    "ref_protected": ("true",),
    "pipeline_source": (
        "api",
        "chat",
        "parent_pipeline",
        "pipeline",
        "push",
        "schedule",
        "trigger",
        "web",
    ),
}
"""A merge request's `ref` is its source branch, which in a fork may have any name; its ref is never
protected.

A child pipeline says `parent_pipeline` whatever started its parent, so `pipeline_source` alone is
not enough.
"""

_EVENTS = {
    "push": "push",
    "schedule": "schedule",
    "merge_request_event": "merge-request",
    "external_pull_request_event": "merge-request",
}
_REF = ("ref_type", "ref")
_MERGED = {"merged_result", "merge_train"}
_ERASE = "\x1b[0K"
_REQUEST_VARIABLES = ("CI_MERGE_REQUEST_", "CI_EXTERNAL_PULL_REQUEST_")
_REQUEST_REFS = "refs/merge-requests/"
_SUBJECT = re.compile(
    r"project_path:(?P<project>[^:]+)(?::ref_type:(?P<kind>branch|tag):ref:(?P<name>.+?)(?P<more>:[a-z_]+:.*)?)?"
)
_COMPONENTS = ("project_path:", "project_id:", "namespace_id:", "namespace_path:")


def present(env: Mapping[str, str]) -> bool:
    return env.get("GITLAB_CI") == "true"


def context(env: Mapping[str, str]) -> Context:
    source, sequence = env.get("CI_PIPELINE_SOURCE", ""), env.get("CI_PIPELINE_IID")
    if source == "parent_pipeline":
        source = env.get("CIPIPE_PIPELINE_SOURCE", source)
        sequence = env.get("CIPIPE_PIPELINE_IID", sequence)
    merge_request = number(env.get("CI_MERGE_REQUEST_IID")) or number(
        env.get("CI_EXTERNAL_PULL_REQUEST_IID")
    )
    return Context(
        provider=NAME,
        event="merge-request" if _of_request(env) else _EVENTS.get(source, "manual"),
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


def merge(env: Mapping[str, str]) -> Merge | None:
    """A detached merge request's pipeline runs on the branch's own commit."""
    if env.get("CI_MERGE_REQUEST_EVENT_TYPE") not in _MERGED:
        return None
    return Merge(
        commit(env.get("CI_COMMIT_SHA")), commit(env.get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA"))
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
        {
            "CI_JOB_TOKEN",
            "CI_JOB_JWT",
            "CI_JOB_JWT_V1",
            "CI_JOB_JWT_V2",
            "CI_REGISTRY_PASSWORD",
            "CI_DEPLOY_PASSWORD",
        }
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


def component_subjects(
    project: str,
    components: Sequence[str],
    project_id: str | None,
    *,
    branches: Iterable[str],
    tags: Iterable[str],
) -> tuple[list[str], list[str]] | None:
    """Subjects as `ci_id_token_sub_claim_components` makes them: name and value of each, left out
    where it has none.

    The project comes first. A job without an environment has no `environment_protected`, so the
    subjects to verify leave open what follows the ref. https://docs.gitlab.com/api/projects/
    """
    named = {"project_path": project, "project_id": project_id, "environment_protected": "true"}
    if components[0] not in {"project_path", "project_id"} or not named[components[0]]:
        return None
    if not {"ref_type", "ref"} <= set(components) or not set(components[1:]) <= {
        *_REF,
        "environment_protected",
    }:
        return None

    def subject(kind: str, ref: str) -> str:
        values = {**named, "ref_type": kind, "ref": ref}
        return ":".join(f"{name}:{values[name]}" for name in components)

    refs = [("branch", name) for name in branches] + [("tag", name) for name in tags]
    return [subject(kind, ref) for kind, ref in refs], [f"{components[0]}:{named[components[0]]}:*"]


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:  # noqa: ARG001 - ids are claims of their own
    return None


def subject(text: str) -> Subject | None:
    """The default form; a project may make its subjects of other claims (docs.gitlab.com, "Token
    payload").

    Git allows no colon in a ref: a name between two of them is that of another component.
    """
    match = _SUBJECT.fullmatch(text)
    if match is None or match["more"]:
        known = match is not None or text.startswith(_COMPONENTS)
        project, name = (match["project"], match["name"]) if match else ("", "")
        return Subject("custom", text, project, name) if known else None
    if match["kind"] is None:
        return Subject("project", text, match["project"])
    kind: Literal["branch", "tag"] = "tag" if match["kind"] == "tag" else "branch"
    return Subject(kind, text, match["project"], match["name"])


def unmerged(claims: Mapping[str, Any]) -> bool:
    source = _EVENTS.get(str(claims.get("pipeline_source")))
    return source == "merge-request" or str(claims.get("ref_path")).startswith(_REQUEST_REFS)


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    if not {"project_path", "pipeline_source"} & claims.keys():
        return None
    protected = claims.get("ref_protected")
    return TokenFacts(
        provider=NAME,
        project=claim_text(claims.get("project_path")),
        ref=claim_text(claims.get("ref")),
        ref_type=claim_text(claims.get("ref_type")),
        merge_request=unmerged(claims),
        protected=None if protected is None else str(protected).lower() == "true",
    )


def fold_start(name: str, title: str) -> str:
    return f"{_ERASE}section_start:{int(time.time())}:{_section(name)}\r{_ERASE}{one_line(title)}"


def fold_end(name: str) -> str:
    return f"{_ERASE}section_end:{int(time.time())}:{_section(name)}\r{_ERASE}"


def warning(text: str) -> str:
    return f"\x1b[33mwarning: {one_line(text)}\x1b[0m"


def mask(secret: str) -> str:  # noqa: ARG001 - GitLab masks by setting only; our own redaction stands alone here
    return ""


def inert(line: str) -> str:
    """GitLab obeys sections alone, which need a carriage return and an escape sequence; neither is
    ever in a line.
    """
    return line


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _of_request(env: Mapping[str, str]) -> bool:
    """Whether any variable says that this is a merge request's pipeline, or a child of one."""
    source = _EVENTS.get(env.get("CI_PIPELINE_SOURCE", ""))
    return source == "merge-request" or any(
        name.startswith(_REQUEST_VARIABLES) and env[name] for name in env
    )


def _fork(env: Mapping[str, str]) -> bool:
    source = env.get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH") or env.get(
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY"
    )
    target = env.get("CI_MERGE_REQUEST_PROJECT_PATH") or env.get(
        "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY"
    )
    return bool(source or target) and source != target


def _section(name: str) -> str:
    """A section's name: letters, digits and `_.-` are all that GitLab takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
