"""Where the process runs: GitLab, GitHub or a shell. A new provider is one module here, and one
word in `PROVIDERS`.
"""

import re
from collections.abc import Mapping
from typing import Any

from cipipe.ci import github, gitlab, local
from cipipe.ci.base import (
    NoToken,
    Provider,
    RequestToken,
    Subject,
    TokenFacts,
    TokenSource,
    VariableToken,
)

__all__ = [
    "PROVIDERS",
    "NoToken",
    "Provider",
    "RequestToken",
    "Subject",
    "TokenFacts",
    "TokenSource",
    "VariableToken",
    "detect",
    "secret_variables",
    "subject",
    "token_facts",
    "unmerged",
    "without_secrets",
]

PROVIDERS: dict[str, Provider] = {provider.NAME: provider for provider in (gitlab, github, local)}
"""In the order in which they are asked; the last one is always there."""

_KEYS = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"}
_TOKEN = re.compile(r"ey[\w-]+(?:\.[\w-]*){2,4}")
_LONG = 8
"""Shorter values may be part of another variable's by chance."""


def detect(env: Mapping[str, str]) -> Provider:
    """The provider whose job this environment is."""
    return next(provider for provider in PROVIDERS.values() if provider.present(env))


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:
    """The variables that are set and hold a token or key, by their names or because there is one in
    their value.

    Only the configuration names the variable of the ID token, so its form identifies it here.
    """
    named = detect(env).secret_variables(env) | _KEYS
    named |= {
        provider.IDENTITY.token_variable for provider in PROVIDERS.values() if provider.IDENTITY
    }
    named |= {
        name
        for name, value in env.items()
        if value.startswith("ey") and _TOKEN.fullmatch(value.strip())
    }
    values = [env[name] for name in named if len(env.get(name, "")) >= _LONG]
    return frozenset(
        name
        for name, value in env.items()
        if name in named or any(secret in value for secret in values)
    )


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for children that need no identity, such as git."""
    hidden = secret_variables(env)
    return {name: value for name, value in env.items() if name not in hidden}


def subject(text: str) -> Subject:
    """A `sub` claim taken apart by the provider whose form it has; a `custom` one where it has none
    that is known.
    """
    known = (provider.subject(text) for provider in PROVIDERS.values())
    return next((found for found in known if found is not None), Subject("custom", text))


def unmerged(claims: Mapping[str, Any]) -> bool:
    """Whether a token with these claims is one of a merge or pull request's job."""
    return any(provider.unmerged(claims) for provider in PROVIDERS.values())


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    """What the claims of a token say about its job; None where no provider issues such claims."""
    found = (provider.token_facts(claims) for provider in PROVIDERS.values())
    return next((facts for facts in found if facts is not None), None)
