"""GitLab CI/CD. Source: docs.gitlab.com, "Predefined CI/CD variables
reference", "Custom collapsible sections".

The jobs of a plan run in a child pipeline, which has a number and a source
of its own. So the trigger job passes on those of its parent as
CIPIPE_PIPELINE_IID and CIPIPE_PIPELINE_SOURCE: a re-run of an old plan
keeps its place in the order of pipelines.
"""

import re
import time
from collections.abc import Mapping, Sequence
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
from cipipe.model import Context, DeployFrom

NAME = "gitlab"
IDENTITY = Identity(
    issuer="https://gitlab.com",
    audience="https://gitlab.com",
    token_variable="AWS_ID_TOKEN",  # noqa: S106 - a variable's name
)
PINS = Pins(
    owner="namespace_id",
    project="project_id",
    owner_variable="CI_PROJECT_NAMESPACE_ID",
    project_variable="CI_PROJECT_ID",
    protected="ref_protected",
)

# A merge request's `ref` is its source branch, which may have any name in a
# fork; its ref is never protected. A child pipeline has the source
# `parent_pipeline` whatever started its parent, so `pipeline_source` alone
# is not enough.
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
    r"project_path:(?P<project>[^:]+)"
    r"(?::ref_type:(?P<kind>branch|tag):ref:(?P<name>.+?)(?P<more>:[a-z_]+:.*)?)?"
)
_COMPONENTS = ("project_path:", "project_id:", "namespace_id:", "namespace_path:")


def present(env: Mapping[str, str]) -> bool:
    return env.get("GITLAB_CI") == "true"


def context(env: Mapping[str, str]) -> Context:
    source = env.get("CI_PIPELINE_SOURCE", "")
    sequence = env.get("CI_PIPELINE_IID")
    if source == "parent_pipeline":
        source = env.get("CIPIPE_PIPELINE_SOURCE", source)
        sequence = env.get("CIPIPE_PIPELINE_IID", sequence)

    # A project that mirrors GitHub runs pipelines for pull requests there.
    base = commit(env.get("CI_MERGE_REQUEST_DIFF_BASE_SHA"))
    base_there = commit(env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_SHA"))
    request = number(env.get("CI_MERGE_REQUEST_IID"))
    request_there = number(env.get("CI_EXTERNAL_PULL_REQUEST_IID"))
    return Context(
        provider=NAME,
        event="merge-request" if _of_request(env) else _EVENTS.get(source, "manual"),
        ref=env.get("CI_COMMIT_REF_NAME") or None,
        ref_type="tag" if env.get("CI_COMMIT_TAG") else "branch",
        commit=commit(env.get("CI_COMMIT_SHA")),
        base=base or base_there,
        before=commit(env.get("CI_COMMIT_BEFORE_SHA")),
        default_branch=env.get("CI_DEFAULT_BRANCH") or None,
        merge_request=request or request_there,
        protected=env.get("CI_COMMIT_REF_PROTECTED") == "true",
        sequence=number(sequence),
        pipeline_url=env.get("CI_PIPELINE_URL") or None,
        actor=env.get("GITLAB_USER_LOGIN") or None,
        project=env.get("CI_PROJECT_PATH") or None,
        fork=_fork(env),
    )


def merge(env: Mapping[str, str]) -> Merge | None:
    # The pipeline of a detached merge request runs on the branch's own
    # commit.
    if env.get("CI_MERGE_REQUEST_EVENT_TYPE") not in _MERGED:
        return None
    target = commit(env.get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA"))
    return Merge(commit(env.get("CI_COMMIT_SHA")), target)


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
    if env.get(token_variable):
        return VariableToken(token_variable)
    return NoToken(
        f"Give the job an ID token: `id_tokens: {{{token_variable}: {{aud: {audience}}}}}` in its "
        "definition. A variable of that name that is set elsewhere hides it."
    )


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:
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

    https://docs.gitlab.com/user/infrastructure/iac/terraform_state
    """
    api = env.get("CI_API_V4_URL", "")
    token = env.get("CI_JOB_TOKEN", "")
    if not api or not token or not address.startswith(f"{api.rstrip('/')}/"):
        return {}
    return {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": token}


def deploy_subjects(project: str, refs: DeployFrom) -> list[str]:
    return [f"project_path:{project}:ref_type:{kind}:ref:{name}" for kind, name in _kinds_of(refs)]


def verify_subjects(project: str) -> list[str]:
    return [f"project_path:{project}:ref_type:{kind}:ref:*" for kind in ("branch", "tag")]


def environment_subject(project: str, environment: str) -> str | None:
    # The environment is in other claims only.
    return None


def component_subjects(
    project: str, components: Sequence[str], project_id: str | None, refs: DeployFrom
) -> tuple[list[str], list[str]] | None:
    """Subjects as `ci_id_token_sub_claim_components` makes them: name and
    value of each claim.

    GitLab omits a claim without a value. A job without an environment has no
    `environment_protected`, so the subjects to verify leave open what follows the project.
    https://docs.gitlab.com/api/projects/
    """
    named = {"project_path": project, "project_id": project_id, "environment_protected": "true"}

    # The project has to come first: what follows it could otherwise be
    # another project's.
    first = components[0]
    if first not in {"project_path", "project_id"} or not named[first]:
        return None
    if not {"ref_type", "ref"} <= set(components):
        return None
    if not set(components[1:]) <= {*_REF, "environment_protected"}:
        return None

    def subject(kind: str, ref: str) -> str:
        values = {**named, "ref_type": kind, "ref": ref}
        return ":".join(f"{name}:{values[name]}" for name in components)

    deploy = [subject(kind, name) for kind, name in _kinds_of(refs)]
    return deploy, [f"{first}:{named[first]}:*"]


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:
    # The ids are claims of their own.
    return None


def subject(text: str) -> Subject | None:
    """The default form. A project may build its subjects from other claims
    (docs.gitlab.com, "Token payload").
    """
    match = _SUBJECT.fullmatch(text)
    if match is None:
        return Subject(kind="custom", plain=text) if text.startswith(_COMPONENTS) else None

    # Git allows no colon in a ref: a name between two colons belongs to
    # another claim.
    project = match["project"]
    if match["more"]:
        return Subject(kind="custom", plain=text, project=project, name=match["name"])
    if match["kind"] is None:
        return Subject(kind="project", plain=text, project=project)
    kind: Literal["branch", "tag"] = "tag" if match["kind"] == "tag" else "branch"
    return Subject(kind=kind, plain=text, project=project, name=match["name"])


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


def mask(secret: str) -> str:
    # GitLab masks only what its settings name: here our own redaction is
    # the only one.
    return ""


def inert(line: str) -> str:
    # GitLab obeys nothing but sections, which need a carriage return and an
    # escape sequence. A line never contains either.
    return line


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _kinds_of(refs: DeployFrom) -> list[tuple[str, str]]:
    """Every ref as GitLab's `ref_type` and `ref`."""
    branches = [("branch", name) for name in refs.branches]
    return branches + [("tag", name) for name in refs.tags]


def _of_request(env: Mapping[str, str]) -> bool:
    """Whether any variable says that this is a merge request's pipeline, or a child of one."""
    source = _EVENTS.get(env.get("CI_PIPELINE_SOURCE", ""))
    return source == "merge-request" or any(
        name.startswith(_REQUEST_VARIABLES) and env[name] for name in env
    )


def _fork(env: Mapping[str, str]) -> bool:
    """Whether a merge request comes from another project, or does not say from which."""
    source = env.get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH")
    source_there = env.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY")
    target = env.get("CI_MERGE_REQUEST_PROJECT_PATH")
    target_there = env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")
    found = source or source_there
    expected = target or target_there
    return bool(found or expected) and found != expected


def _section(name: str) -> str:
    """A section's name: GitLab accepts letters, digits and `_.-` only."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
