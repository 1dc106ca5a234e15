"""GitHub Actions. Source: docs.github.com, "Variables reference", "Workflow
commands", "OpenID Connect reference".

What the variables do not say is in the event's payload, the file that
GITHUB_EVENT_PATH names.
"""

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cipipe import bounded
from cipipe.ci.base import (
    Identity,
    Merge,
    NoToken,
    Pins,
    RequestToken,
    Subject,
    TokenFacts,
    TokenSource,
    claim_text,
    commit,
    number,
    one_line,
)
from cipipe.errors import UsageError
from cipipe.model import Context, DeployFrom
from cipipe.redact import SHORTEST

NAME = "github"
IDENTITY = Identity(
    issuer="https://token.actions.githubusercontent.com", audience="sts.amazonaws.com"
)
PINS = Pins(
    owner="repository_owner_id",
    project="repository_id",
    owner_variable="GITHUB_REPOSITORY_OWNER_ID",
    project_variable="GITHUB_REPOSITORY_ID",
)

# AWS sees no claim that a pull request's job could not have. Its subject is
# different, unless the job names an environment.
DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]] = {}

_EVENTS = {
    "push": "push",
    "schedule": "schedule",
    "pull_request": "merge-request",
    "pull_request_target": "merge-request",
    "pull_request_review": "merge-request",
    "pull_request_review_comment": "merge-request",
    "merge_group": "merge-request",
}
_REQUEST_REFS = ("refs/pull/", "refs/heads/gh-readonly-queue/")

# GitHub's own limit is 25 MB:
# https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
_LARGEST_PAYLOAD = 32 * 1024 * bounded.KIB

_MERGED = {"pull_request", "pull_request_review", "pull_request_review_comment"}
_MERGE_REF = re.compile(r"(refs/pull/)?[0-9]+/merge")

# The claims that a template for subjects can add. GitHub writes a colon in
# a value as %3A.
_CLAIMS = (
    "actor|actor_id|base_ref|check_run_id|context|enterprise|enterprise_id|environment|event_name"
    "|head_ref|job_workflow_ref|job_workflow_sha|ref|ref_type|repo|repository|repository_id"
    "|repository_owner|repository_owner_id|repository_visibility|repo_property_[^:]*|run_attempt"
    "|run_id|run_number|runner_environment|sha|visibility|workflow|workflow_ref|workflow_sha"
    "|[a-z_]+_id"
)
_ID = r"(?:@(?P<{}>[0-9*?]+))?"
_REPOSITORY = (
    rf"repo:(?P<owner>[^/:@]+){_ID.format('owner_id')}/(?P<name>[^/:@]+){_ID.format('id')}"
)
_PROJECT = re.compile(_REPOSITORY)
_SUBJECT = re.compile(
    rf"{_REPOSITORY}:"
    r"(?:(?P<request>pull_request)"
    r"|environment:(?P<environment>.+?)"
    r"|ref:(?:refs/(?P<kind>heads|tags)/)?(?P<ref>.+?))"
    rf"(?P<more>:(?:{_CLAIMS}):.*)?"
)

# The runner obeys `##[COMMAND]` anywhere in a line, and `::COMMAND::` after
# blanks (ActionCommand.cs). It compares by the rules of a culture, which
# ignore some characters: what is not ASCII between the signs does not
# protect.
_ANYWHERE = re.compile(r"#(?=[^\x00-\x7f]*+#[^\x00-\x7f]*+\[)")
_AT_START = re.compile(r"^((?:\s|\x1b\[[0-9;:]*m|[^\x00-\x7f])*+):(?=[^\x00-\x7f]*+:)")

# How subjects that were customised may start.
_CUSTOMISED = re.compile(
    "repo:|repository|ref:|job_workflow_ref:|environment:|context:|actor:|enterprise"
)


def present(env: Mapping[str, str]) -> bool:
    return env.get("GITHUB_ACTIONS") == "true"


def context(env: Mapping[str, str]) -> Context:
    """Raises UsageError `ci-event-unreadable` if the event's payload is not JSON."""
    payload = _payload(env)
    name = env.get("GITHUB_EVENT_NAME", "")
    ref = env.get("GITHUB_REF", "")
    project = env.get("GITHUB_REPOSITORY") or None
    request = _map(payload, "pull_request")
    group = _map(payload, "merge_group")
    base = commit(_text(_map(request, "base"), "sha"))
    return Context(
        provider=NAME,
        event=_event(env, payload),
        ref=env.get("GITHUB_HEAD_REF") or env.get("GITHUB_REF_NAME") or None,
        ref_type="tag" if ref.startswith("refs/tags/") else env.get("GITHUB_REF_TYPE") or "branch",
        commit=commit(env.get("GITHUB_SHA")),
        base=base or commit(_text(group, "base_sha")),
        before=commit(_text(payload, "before")),
        default_branch=_text(_map(payload, "repository"), "default_branch"),
        merge_request=_integer(request, "number"),
        protected=env.get("GITHUB_REF_PROTECTED") == "true",
        sequence=number(env.get("GITHUB_RUN_ID")),
        pipeline_url=_pipeline_url(env),
        actor=env.get("GITHUB_ACTOR") or None,
        project=project,
        fork=_from_fork(name, payload, project),
    )


def merge(env: Mapping[str, str]) -> Merge | None:
    if env.get("GITHUB_EVENT_NAME") not in _MERGED:
        return None
    if not _MERGE_REF.fullmatch(env.get("GITHUB_REF") or env.get("GITHUB_REF_NAME", "")):
        return None

    # The payload names a base, but that may be older than the merge.
    return Merge(commit(env.get("GITHUB_SHA")))


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
    url = env.get("ACTIONS_ID_TOKEN_REQUEST_URL")
    bearer = env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    if not url or not bearer:
        return NoToken(
            "Give the job `permissions: {id-token: write, contents: read}`. "
            "Pull requests from forks and from Dependabot cannot have it."
        )

    # The URL has a query already; the audience is added to it.
    parts = urllib.parse.urlsplit(url)
    query = [*urllib.parse.parse_qsl(parts.query, keep_blank_values=True), ("audience", audience)]
    whole = parts._replace(query=urllib.parse.urlencode(query))
    return RequestToken(urllib.parse.urlunsplit(whole), bearer)


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:
    return frozenset(
        {"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"}
    )


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:
    # GitHub stores no Terraform states.
    return {}


def deploy_subjects(project: str, refs: DeployFrom) -> list[str]:
    branches = [f"repo:{project}:ref:refs/heads/{name}" for name in refs.branches]
    return branches + [f"repo:{project}:ref:refs/tags/{name}" for name in refs.tags]


def verify_subjects(project: str) -> list[str]:
    kinds = ("pull_request", "ref:refs/heads/*", "ref:refs/tags/*")
    return [f"repo:{project}:{kind}" for kind in kinds]


def environment_subject(project: str, environment: str) -> str | None:
    # Only the colon is encoded, because it separates the parts of a
    # subject.
    return f"repo:{project}:environment:{environment.replace(':', '%3A')}"


def component_subjects(
    project: str, components: Sequence[str], project_id: str | None, refs: DeployFrom
) -> tuple[list[str], list[str]] | None:
    return None


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:
    """The immutable form: the default of repositories created or renamed since 2026-07-15."""
    match = re.match(r"repo:([^/:]+)/([^/:]+):", subject)
    if match is None:
        return None
    return f"repo:{match[1]}@{ids[0]}/{match[2]}@{ids[1]}:{subject[match.end() :]}"


def subject(text: str) -> Subject | None:
    """Both default forms. An organisation or repository may build its
    subjects from other claims, in any order.
    """
    match = _SUBJECT.fullmatch(text)
    if match is None:
        return _project_subject(text)

    project = f"{match['owner']}/{match['name']}"
    plain = f"repo:{project}:{text.split(':', 2)[2]}"
    if match["more"]:
        return Subject(kind="custom", plain=text, project=project)

    kind: Literal["branch", "tag", "environment", "merge-request"]
    if match["request"]:
        kind = "merge-request"
        name = ""
    elif match["environment"]:
        kind = "environment"
        name = match["environment"].replace("%3A", ":")
    else:
        kind = "tag" if match["kind"] == "tags" else "branch"
        name = match["ref"]
    return Subject(kind=kind, plain=plain, project=project, name=name, ids=_ids(match))


def _project_subject(text: str) -> Subject | None:
    """The subject that names the repository only, or a customised one."""
    match = _PROJECT.fullmatch(text)
    if match is None:
        return Subject(kind="custom", plain=text) if _CUSTOMISED.match(text) else None
    project = f"{match['owner']}/{match['name']}"
    return Subject(kind="project", plain=f"repo:{project}", project=project, ids=_ids(match))


def _ids(match: re.Match[str]) -> tuple[str, str] | None:
    return (match["owner_id"], match["id"]) if match["owner_id"] and match["id"] else None


def unmerged(claims: Mapping[str, Any]) -> bool:
    # `pull_request_target` runs on the base branch, with its subject and
    # ref. So every claim that can reveal a pull request counts.
    subject_text = str(claims.get("sub"))
    context = subject_text.split(":", 2)[2:] if subject_text.startswith("repo:") else []
    return (
        _EVENTS.get(str(claims.get("event_name"))) == "merge-request"
        or ("event_name" in claims and bool(claim_text(claims.get("head_ref"))))
        or str(claims.get("ref")).startswith(_REQUEST_REFS)
        or any(part == "pull_request" or part.startswith("pull_request:") for part in context)
    )


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    if not {"repository", "event_name"} & claims.keys():
        return None

    ref: str | None = claim_text(claims.get("ref"))
    ref_type = claim_text(claims.get("ref_type"))
    match = re.fullmatch(r"refs/(heads|tags)/(.+)", ref or "", re.DOTALL)
    if match:
        ref = match[2]
        ref_type = {"heads": "branch", "tags": "tag"}[match[1]]

    # A `workflow_run` may have been started by a pull request. Only the
    # payload says so, which is read where this variable has this value.
    chained = claims.get("event_name") == "workflow_run"
    protected = claims.get("ref_protected")
    return TokenFacts(
        provider=NAME,
        project=claim_text(claims.get("repository")),
        ref=ref,
        ref_type=ref_type,
        merge_request=unmerged(claims),
        protected=None if protected is None else str(protected).lower() == "true",
        variable=("GITHUB_EVENT_NAME", "workflow_run") if chained else None,
    )


def fold_start(name: str, title: str) -> str:
    # Groups have no names, and cannot be nested.
    return f"::group::{_data(one_line(title))}"


def fold_end(name: str) -> str:
    return "::endgroup::"


def warning(text: str) -> str:
    return f"::warning::{_data(text)}"


def mask(secret: str) -> str:
    # GitHub masks within lines, so each line is a command of its own. A
    # line that is a single brace would mask every brace of the log.
    lines = [line for line in secret.splitlines() if len(line.strip()) >= SHORTEST]
    return "\n".join(f"::add-mask::{_data(line)}" for line in lines)


def inert(line: str) -> str:
    return _AT_START.sub(r"\1\\x3a", _ANYWHERE.sub(r"\\x23", line))


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _event(env: Mapping[str, str], payload: dict[str, Any]) -> str:
    name = env.get("GITHUB_EVENT_NAME", "")
    if env.get("GITHUB_HEAD_REF") or env.get("GITHUB_REF", "").startswith(_REQUEST_REFS):
        return "merge-request"
    if name == "workflow_run":
        project = env.get("GITHUB_REPOSITORY") or None
        if _after_request(_map(payload, "workflow_run"), project):
            return "merge-request"
    return _EVENTS.get(name, "manual")


def _from_fork(name: str, payload: dict[str, Any], project: str | None) -> bool:
    if name == "workflow_run":
        return _of_fork(_map(payload, "workflow_run"), project)
    if not name.startswith("pull_request"):
        return False

    # A payload that does not say counts as a fork's.
    head = _map(_map(payload, "pull_request"), "head")
    return _text(_map(head, "repo"), "full_name") != project


def _pipeline_url(env: Mapping[str, str]) -> str | None:
    run = env.get("GITHUB_RUN_ID")
    server = env.get("GITHUB_SERVER_URL")
    project = env.get("GITHUB_REPOSITORY") or None
    return f"{server}/{project}/actions/runs/{run}" if run and server else None


def _after_request(run: dict[str, Any], project: str | None) -> bool:
    """Whether the run that started this one belongs to a pull request or a fork, or may do so."""
    event = run.get("event")
    return (
        event in {None, "workflow_run"}
        or _EVENTS.get(str(event)) == "merge-request"
        or _of_fork(run, project)
    )


def _of_fork(run: dict[str, Any], project: str | None) -> bool:
    source = _text(_map(run, "head_repository"), "full_name")
    return source is not None and project is not None and source.lower() != project.lower()


def _data(text: str) -> str:
    """Text as the value of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _payload(env: Mapping[str, str]) -> dict[str, Any]:
    path = env.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        payload = bounded.loads(bounded.read(Path(path), largest=_LARGEST_PAYLOAD))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            "ci-event-unreadable",
            f"the event's payload cannot be read: {error}",
            hint="GitHub writes it before each job; check what changed GITHUB_EVENT_PATH or the "
            "file.",
            where=path,
        ) from error
    return payload if isinstance(payload, dict) else {}


def _map(payload: dict[str, Any], key: str) -> dict[str, Any]:
    found = payload.get(key)
    return found if isinstance(found, dict) else {}


def _text(payload: dict[str, Any], key: str) -> str | None:
    found = payload.get(key)
    return found if isinstance(found, str) and found else None


def _integer(payload: dict[str, Any], key: str) -> int | None:
    found = payload.get(key)
    return found if isinstance(found, int) else None
