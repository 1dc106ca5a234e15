"""A shell: nothing is known but what git knows, which `pipeline` fills in."""

from collections.abc import Mapping, Sequence
from typing import Any

from cipipe.ci.base import Merge, NoToken, Subject, TokenFacts, TokenSource, VariableToken
from cipipe.model import Context, DeployFrom

NAME = "local"
IDENTITY = None
PINS = None
DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]] = {}


def present(env: Mapping[str, str]) -> bool:
    # The last provider in the list: whatever is not a job is a shell.
    return True


def context(env: Mapping[str, str]) -> Context:
    return Context(provider=NAME, event="manual", ref=None, ref_type="branch")


def merge(env: Mapping[str, str]) -> Merge | None:
    return None


def token(env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
    """A token that somebody put into the variable, to try out what a job would do."""
    if env.get(token_variable):
        return VariableToken(token_variable)
    return NoToken(
        "A shell has no ID token: pass one with --token-file or --token-env, or run this in a "
        "pipeline job."
    )


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:
    return frozenset()


def state_login(env: Mapping[str, str], address: str) -> dict[str, str]:
    return {}


# A shell's token is one of another provider, so there are no subjects of
# its own.


def deploy_subjects(project: str, refs: DeployFrom) -> list[str]:
    return []


def verify_subjects(project: str) -> list[str]:
    return []


def environment_subject(project: str, environment: str) -> str | None:
    return None


def component_subjects(
    project: str, components: Sequence[str], project_id: str | None, refs: DeployFrom
) -> tuple[list[str], list[str]] | None:
    return None


def pinned_subject(subject: str, ids: tuple[str, str]) -> str | None:
    return None


def subject(text: str) -> Subject | None:
    return None


def unmerged(claims: Mapping[str, Any]) -> bool:
    return False


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    return None


# A terminal has no sections to fold, no masks, and obeys nothing that
# `terminal` lets through.


def fold_start(name: str, title: str) -> str:
    return ""


def fold_end(name: str) -> str:
    return ""


def warning(text: str) -> str:
    return f"warning: {text}"


def mask(secret: str) -> str:
    return ""


def inert(line: str) -> str:
    return line


def colour(env: Mapping[str, str]) -> bool | None:
    return False if env.get("NO_COLOR") else None
