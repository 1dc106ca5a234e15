"""GitHub Actions. Source: docs.github.com, "Variables reference", "Workflow commands", "OpenID
Connect reference".

What the variables do not say stands in the event's payload, the file that GITHUB_EVENT_PATH names.
"""

import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from cipipe.model import Context
from cipipe.redact import SHORTEST

NAME = "github"
IDENTITY = Identity(
    "https://token.actions.githubusercontent.com", audience="sts.amazonaws.com", token_variable=""
)
PINS = Pins(
    "repository_owner_id", "repository_id", "GITHUB_REPOSITORY_OWNER_ID", "GITHUB_REPOSITORY_ID"
)

DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]] = {}
"""AWS sees no claim that a pull request's job could not have; its subject tells it apart, unless it
names an environment.
"""

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

_LARGEST_PAYLOAD = 32 * 1024 * bounded.KIB
"""GitHub's own limit is 25 MB:
https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
"""

_MERGED = {"pull_request", "pull_request_review", "pull_request_review_comment"}
_MERGE_REF = re.compile(r"(refs/pull/)?[0-9]+/merge")
_ID = r"(?:@(?P<{}>[0-9*?]+))?"
_SUBJECT = re.compile(
    rf"repo:(?P<owner>[^/:@]+){_ID.format('owner_id')}/(?P<name>[^/:@]+){_ID.format('id')}:"
    r"(?:(?P<request>pull_request)|environment:(?P<environment>.+?)|ref:(?:refs/(?P<place>heads|tags)/)?(?P<ref>.+?))"
    r"(?P<more>:(?:actor|actor_id|base_ref|check_run_id|context|enterprise|enterprise_id|environment|event_name|head_ref"
    r"|job_workflow_ref|job_workflow_sha|ref|ref_type|repo|repository|repository_id|repository_owner"
    r"|repository_owner_id|repository_visibility|repo_property_[^:]*|run_attempt|run_id|run_number"
    r"|runner_environment|sha|visibility|workflow|workflow_ref|workflow_sha|[a-z_]+_id):.*)?"
)
"""`more` are claims that a template for subjects adds: GitHub writes a colon in a value as %3A."""

_PROJECT = re.compile(
    rf"repo:(?P<owner>[^/:@]+){_ID.format('owner_id')}/(?P<name>[^/:@]+){_ID.format('id')}"
)
_ANYWHERE = re.compile(r"#(?=[^\x00-\x7f]*+#[^\x00-\x7f]*+\[)")
_AT_START = re.compile(r"^((?:\s|\x1b\[[0-9;:]*m|[^\x00-\x7f])*+):(?=[^\x00-\x7f]*+:)")
_COMPONENTS = (
    "repo:",
    "repository",
    "ref:",
    "job_workflow_ref:",
    "environment:",
    "context:",
    "actor:",
    "enterprise",
)


def present(env: Mapping[str, str]) -> bool:
    return env.get("GITHUB_ACTIONS") == "true"


def context(env: Mapping[str, str]) -> Context:
    """Raises UsageError (`ci-event-unreadable`) where the event's payload is not JSON."""
    payload = _payload(env)
    name = env.get("GITHUB_EVENT_NAME", "")
    request = _map(payload, "pull_request")
    group = _map(payload, "merge_group")
    project = env.get("GITHUB_REPOSITORY") or None
    run = env.get("GITHUB_RUN_ID")
    ref = env.get("GITHUB_REF", "")
    trigger = _map(payload, "workflow_run")
    after_request = name == "workflow_run" and _after_request(trigger, project)
    of_request = env.get("GITHUB_HEAD_REF") or ref.startswith(_REQUEST_REFS) or after_request
    return Context(
        provider=NAME,
        event="merge-request" if of_request else _EVENTS.get(name, "manual"),
        ref=env.get("GITHUB_HEAD_REF") or env.get("GITHUB_REF_NAME") or None,
        ref_type="tag" if ref.startswith("refs/tags/") else env.get("GITHUB_REF_TYPE") or "branch",
        commit=commit(env.get("GITHUB_SHA")),
        base=commit(_text(_map(request, "base"), "sha")) or commit(_text(group, "base_sha")),
        before=commit(_text(payload, "before")),
        default_branch=_text(_map(payload, "repository"), "default_branch"),
        merge_request=_integer(request, "number"),
        protected=env.get("GITHUB_REF_PROTECTED") == "true",
        sequence=number(run),
        pipeline_url=f"{env['GITHUB_SERVER_URL']}/{project}/actions/runs/{run}"
        if run and env.get("GITHUB_SERVER_URL")
        else None,
        actor=env.get("GITHUB_ACTOR") or None,
        project=project,
        fork=(
            name.startswith("pull_request")
            and _text(_map(_map(request, "head"), "repo"), "full_name") != project
        )
        or (name == "workflow_run" and _of_fork(trigger, project)),
    )


def merge(env: Mapping[str, str]) -> Merge | None:
    """The payload's base is no help: it may be older than the merge."""
    if env.get("GITHUB_EVENT_NAME") not in _MERGED:
        return None
    if not _MERGE_REF.fullmatch(env.get("GITHUB_REF") or env.get("GITHUB_REF_NAME", "")):
        return None
    return Merge(commit(env.get("GITHUB_SHA")))


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:  # noqa: ARG001
    """The request's URL has a query already; the audience joins it."""
    url, bearer = env.get("ACTIONS_ID_TOKEN_REQUEST_URL"), env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    if not url or not bearer:
        return NoToken(
            "Give the job `permissions: {id-token: write, contents: read}`. "
            "Pull requests from forks and Dependabot's cannot have it."
        )
    parts = urllib.parse.urlsplit(url)
    query = [*urllib.parse.parse_qsl(parts.query, keep_blank_values=True), ("audience", audience)]
    return RequestToken(
        urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query))), bearer
    )


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:  # noqa: ARG001
    return frozenset(
        {"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"}
    )


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:  # noqa: ARG001
    return {}


def deploy_subjects(project: str, *, branches: Iterable[str], tags: Iterable[str]) -> list[str]:
    return [f"repo:{project}:ref:refs/heads/{name}" for name in branches] + [
        f"repo:{project}:ref:refs/tags/{name}" for name in tags
    ]


def verify_subjects(project: str) -> list[str]:
    return [
        f"repo:{project}:{what}" for what in ("pull_request", "ref:refs/heads/*", "ref:refs/tags/*")
    ]


def environment_subject(project: str, environment: str) -> str | None:
    """Of all characters only the colon is encoded, which separates the parts of a subject."""
    return f"repo:{project}:environment:{environment.replace(':', '%3A')}"


def component_subjects(
    project: str,  # noqa: ARG001
    components: Sequence[str],  # noqa: ARG001
    project_id: str | None,  # noqa: ARG001
    *,
    branches: Iterable[str],  # noqa: ARG001
    tags: Iterable[str],  # noqa: ARG001
) -> tuple[list[str], list[str]] | None:
    return None


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:
    """The immutable form, which is the default of repositories made, renamed or moved since July
    15, 2026.
    """
    match = re.match(r"repo:([^/:]+)/([^/:]+):", subject)
    return (
        f"repo:{match[1]}@{ids[0]}/{match[2]}@{ids[1]}:{subject[match.end() :]}" if match else None
    )


def subject(text: str) -> Subject | None:
    """Both default forms; an organisation or repository may make its subjects of other claims, in
    any order.
    """
    match = _SUBJECT.fullmatch(text)
    if match is None:
        return _project_subject(text)
    project = f"{match['owner']}/{match['name']}"
    ids = (match["owner_id"], match["id"]) if match["owner_id"] and match["id"] else None
    plain = f"repo:{project}:{text.split(':', 2)[2]}"
    if match["more"]:
        return Subject("custom", text, project)
    if match["request"]:
        return Subject("merge-request", plain, project, "", ids)
    if match["environment"]:
        return Subject("environment", plain, project, match["environment"].replace("%3A", ":"), ids)
    return Subject(
        "tag" if match["place"] == "tags" else "branch", plain, project, match["ref"], ids
    )


def _project_subject(text: str) -> Subject | None:
    match = _PROJECT.fullmatch(text)
    if match is None:
        return Subject("custom", text) if text.startswith(_COMPONENTS) else None
    project = f"{match['owner']}/{match['name']}"
    ids = (match["owner_id"], match["id"]) if match["owner_id"] and match["id"] else None
    return Subject("project", f"repo:{project}", project, "", ids)


def unmerged(claims: Mapping[str, Any]) -> bool:
    """The event may be one that runs on the base branch (`pull_request_target`), so every claim
    that tells counts.
    """
    subject_text, ref = str(claims.get("sub")), str(claims.get("ref"))
    context = subject_text.split(":", 2)[2:] if subject_text.startswith("repo:") else []
    return (
        _EVENTS.get(str(claims.get("event_name"))) == "merge-request"
        or ("event_name" in claims and bool(claim_text(claims.get("head_ref"))))
        or ref.startswith(_REQUEST_REFS)
        or any(part == "pull_request" or part.startswith("pull_request:") for part in context)
    )


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    if not {"repository", "event_name"} & claims.keys():
        return None
    ref, protected = claim_text(claims.get("ref")) or "", claims.get("ref_protected")
    match = re.fullmatch(r"refs/(heads|tags)/(.+)", ref, re.DOTALL)
    return TokenFacts(
        provider=NAME,
        project=claim_text(claims.get("repository")),
        ref=match[2] if match else ref or None,
        ref_type={"heads": "branch", "tags": "tag"}[match[1]]
        if match
        else claim_text(claims.get("ref_type")),
        merge_request=unmerged(claims),
        protected=None if protected is None else str(protected).lower() == "true",
        variable=("GITHUB_EVENT_NAME", "workflow_run")
        if claims.get("event_name") == "workflow_run"
        else None,
    )


def fold_start(name: str, title: str) -> str:  # noqa: ARG001 - groups have no names, and do not nest
    return f"::group::{_data(one_line(title))}"


def fold_end(name: str) -> str:  # noqa: ARG001
    return "::endgroup::"


def warning(text: str) -> str:
    return f"::warning::{_data(text)}"


def mask(secret: str) -> str:
    """One command a line of the secret: GitHub masks within lines. A brace on its own would mask
    every brace.
    """
    lines = [line for line in secret.splitlines() if len(line.strip()) >= SHORTEST]
    return "\n".join(f"::add-mask::{_data(line)}" for line in lines)


def inert(line: str) -> str:
    """The runner obeys `##[COMMAND]` anywhere in a line, and `::COMMAND::` behind blanks
    (ActionCommand.cs).

    Its comparisons are those of a culture, which skip some characters: marks and the like between
    the signs count too.
    """
    return _AT_START.sub(r"\1\\x3a", _ANYWHERE.sub(r"\\x23", line))


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _after_request(run: dict[str, Any], project: str | None) -> bool:
    """Whether the run that started this one was a pull request's or a fork's, or may have been one."""
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
            hint="GitHub writes it before each job; check what changed GITHUB_EVENT_PATH or the file.",
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
