"""GitHub Actions. Source: docs.github.com, "Variables reference", "Workflow commands", "OpenID Connect reference".

What the variables do not say stands in the event's payload, the file that GITHUB_EVENT_PATH names.
"""

import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cipipe.ci.base import Identity, NoToken, Pins, RequestToken, Subject, TokenSource, commit, number, one_line
from cipipe.errors import UsageError
from cipipe.model import Context
from cipipe.redact import SHORTEST

NAME = "github"
IDENTITY = Identity("https://token.actions.githubusercontent.com", audience="sts.amazonaws.com", token_variable="")
PINS = Pins("repository_owner_id", "repository_id", "GITHUB_REPOSITORY_OWNER_ID", "GITHUB_REPOSITORY_ID")

_EVENTS = {
    "push": "push",
    "schedule": "schedule",
    "pull_request": "merge-request",
    "pull_request_target": "merge-request",
    "merge_group": "merge-request",
}

_ID = r"(?:@(?P<{}>[0-9*?]+))?"
_SUBJECT = re.compile(
    rf"repo:(?P<owner>[^/:@]+){_ID.format('owner_id')}/(?P<name>[^/:@]+){_ID.format('id')}:"
    r"(?:(?P<request>pull_request)|environment:(?P<environment>.+)|ref:(?:refs/(?P<place>heads|tags)/)?(?P<ref>.+))"
)
_COMPONENTS = ("repo:", "repository", "ref:", "job_workflow_ref:", "environment:", "context:", "actor:", "enterprise")


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
    return Context(
        provider=NAME,
        event=_EVENTS.get(name, "manual"),
        ref=env.get("GITHUB_HEAD_REF") or env.get("GITHUB_REF_NAME") or None,
        ref_type=env.get("GITHUB_REF_TYPE") or "branch",
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
        fork=name.startswith("pull_request") and _text(_map(_map(request, "head"), "repo"), "full_name") != project,
    )


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
    return RequestToken(urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query))), bearer)


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:  # noqa: ARG001
    return frozenset({"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"})


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:  # noqa: ARG001
    return {}


def deploy_subjects(project: str, *, branches: Iterable[str], tags: Iterable[str]) -> list[str]:
    return [f"repo:{project}:ref:refs/heads/{name}" for name in branches] + [
        f"repo:{project}:ref:refs/tags/{name}" for name in tags
    ]


def verify_subjects(project: str) -> list[str]:
    return [f"repo:{project}:{what}" for what in ("pull_request", "ref:refs/heads/*", "ref:refs/tags/*")]


def environment_subject(project: str, environment: str) -> str | None:
    """Of all characters only the colon is encoded, which separates the parts of a subject."""
    return f"repo:{project}:environment:{environment.replace(':', '%3A')}"


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:
    """The immutable form, which is the default of repositories made, renamed or moved since July 15, 2026."""
    match = re.match(r"repo:([^/:]+)/([^/:]+):", subject)
    return f"repo:{match[1]}@{ids[0]}/{match[2]}@{ids[1]}:{subject[match.end() :]}" if match else None


def subject(text: str) -> Subject | None:
    """Both default forms; an organisation or repository may make its subjects of other claims, in any order."""
    match = _SUBJECT.fullmatch(text)
    if match is None:
        return Subject("custom", text) if text.startswith(_COMPONENTS) else None
    project = f"{match['owner']}/{match['name']}"
    ids = (match["owner_id"], match["id"]) if match["owner_id"] and match["id"] else None
    plain = f"repo:{project}:{text.split(':', 2)[2]}"
    if match["request"]:
        return Subject("merge-request", plain, project, "", ids)
    if match["environment"]:
        return Subject("environment", plain, project, match["environment"].replace("%3A", ":"), ids)
    return Subject("tag" if match["place"] == "tags" else "branch", plain, project, match["ref"], ids)


def unmerged(claims: Mapping[str, Any]) -> bool:
    return _EVENTS.get(str(claims.get("event_name"))) == "merge-request"


def fold_start(name: str, title: str) -> str:  # noqa: ARG001 - groups have no names, and do not nest
    return f"::group::{_data(one_line(title))}"


def fold_end(name: str) -> str:  # noqa: ARG001
    return "::endgroup::"


def warning(text: str) -> str:
    return f"::warning::{_data(text)}"


def mask(secret: str) -> str:
    """One command a line of the secret: GitHub masks within lines. A brace on its own would mask every brace."""
    lines = [line for line in secret.splitlines() if len(line.strip()) >= SHORTEST]
    return "\n".join(f"::add-mask::{_data(line)}" for line in lines)


def colour(env: Mapping[str, str]) -> bool:
    return not env.get("NO_COLOR")


def _data(text: str) -> str:
    """Text as the value of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _payload(env: Mapping[str, str]) -> dict[str, Any]:
    path = env.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        payload = json.loads(Path(path).read_bytes())
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
