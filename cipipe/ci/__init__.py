"""Where the process runs: GitLab, GitHub or a shell.

A new provider is one module here, and one line in `PROVIDERS`.
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

# In the order in which they are tried. The last one matches every
# environment.
PROVIDERS: dict[str, Provider] = {
    provider.NAME: provider
    for provider in (
        gitlab,
        github,
        local,
    )
}

_KEYS = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"}

# A JWT, or an encrypted one.
_TOKEN = re.compile(r"ey[\w-]+(?:\.[\w-]*){2,4}")

# Characters. A shorter secret may be part of another variable's value by
# chance.
_LONG = 8


def detect(env: Mapping[str, str]) -> Provider:
    """The provider whose job has this environment."""
    return next(provider for provider in PROVIDERS.values() if provider.present(env))


def secret_variables(env: Mapping[str, str]) -> frozenset[str]:
    """The variables that contain a token or key, known by their names or by their values."""
    named = detect(env).secret_variables(env) | _KEYS
    for provider in PROVIDERS.values():
        if provider.IDENTITY:
            named |= {provider.IDENTITY.token_variable}

    # The configuration may give the ID token's variable another name, and
    # is not read here.
    for name, value in env.items():
        if value.startswith("ey") and _TOKEN.fullmatch(value.strip()):
            named |= {name}

    # A secret may be part of another variable, such as a URL with a
    # password.
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
    """The parts of a `sub` claim, by the provider that issues such
    subjects; a `custom` one if none does.
    """
    known = (provider.subject(text) for provider in PROVIDERS.values())
    custom = Subject(kind="custom", plain=text)
    return next((found for found in known if found is not None), custom)


def unmerged(claims: Mapping[str, Any]) -> bool:
    """Whether these are the claims of a merge or pull request's job."""
    return any(provider.unmerged(claims) for provider in PROVIDERS.values())


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    """What a token's claims say about its job; None if no provider issues such claims."""
    found = (provider.token_facts(claims) for provider in PROVIDERS.values())
    return next((facts for facts in found if facts is not None), None)
