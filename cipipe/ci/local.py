"""A shell: nothing is known but what git knows, which `pipeline` fills in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cipipe.ci.base import Merge, NoToken, Subject, TokenFacts, TokenSource, VariableToken
from cipipe.model import Context

NAME = "local"
IDENTITY = None
PINS = None
DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]] = {}


def present(env: Mapping[str, str]) -> bool:  # noqa: ARG001 - it is what remains
    return True


def context(env: Mapping[str, str]) -> Context:  # noqa: ARG001
    return Context(provider=NAME, event="manual", ref=None, ref_type="branch")


def merge(env: Mapping[str, str]) -> Merge | None:  # noqa: ARG001
    return None


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:  # noqa: ARG001
    """A token that somebody put into the variable by hand, to try out what a job would do."""
    if env.get(token_variable):
        return VariableToken(token_variable)
    return NoToken(
        "A shell has no ID token: pass one with --token-file or --token-env, or run this in a pipeline job."
    )


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:  # noqa: ARG001
    return frozenset()


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:  # noqa: ARG001
    return {}


def deploy_subjects(project: str, *, branches: Iterable[str], tags: Iterable[str]) -> list[str]:  # noqa: ARG001
    return []


def verify_subjects(project: str) -> list[str]:  # noqa: ARG001
    return []


def environment_subject(project: str, environment: str) -> str | None:  # noqa: ARG001
    return None


def component_subjects(
    project: str,  # noqa: ARG001
    components: Sequence[str],  # noqa: ARG001
    project_id: str | None,  # noqa: ARG001
    *,
    branches: Iterable[str],  # noqa: ARG001
    tags: Iterable[str],  # noqa: ARG001
) -> tuple[list[str], list[str]] | None:
    return None


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:  # noqa: ARG001
    return None


def subject(text: str) -> Subject | None:  # noqa: ARG001
    return None


def unmerged(claims: Mapping[str, Any]) -> bool:  # noqa: ARG001
    return False


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:  # noqa: ARG001
    return None


def fold_start(name: str, title: str) -> str:  # noqa: ARG001
    return ""


def fold_end(name: str) -> str:  # noqa: ARG001
    return ""


def warning(text: str) -> str:
    return f"warning: {text}"


def mask(secret: str) -> str:  # noqa: ARG001
    return ""


def inert(line: str) -> str:
    return line


def colour(env: Mapping[str, str]) -> bool | None:
    return False if env.get("NO_COLOR") else None
