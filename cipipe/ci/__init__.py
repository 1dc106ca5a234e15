"""Where the process runs: GitLab, GitHub or a shell. A new provider is one module here, and one word in `PROVIDERS`."""

from collections.abc import Mapping
from typing import Any

from cipipe.ci import github, gitlab, local
from cipipe.ci.base import NoToken, Provider, RequestToken, Subject, TokenFacts, TokenSource, VariableToken

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
    "subject",
    "token_facts",
    "unmerged",
]

PROVIDERS: dict[str, Provider] = {provider.NAME: provider for provider in (gitlab, github, local)}
"""In the order in which they are asked; the last one is always there."""


def detect(env: Mapping[str, str]) -> Provider:
    """The provider whose job this environment is."""
    return next(provider for provider in PROVIDERS.values() if provider.present(env))


def subject(text: str) -> Subject:
    """A `sub` claim taken apart by the provider whose form it has; a `custom` one where it has none that is known."""
    known = (provider.subject(text) for provider in PROVIDERS.values())
    return next((found for found in known if found is not None), Subject("custom", text))


def unmerged(claims: Mapping[str, Any]) -> bool:
    """Whether a token with these claims is one of a merge or pull request's job."""
    return any(provider.unmerged(claims) for provider in PROVIDERS.values())


def token_facts(claims: Mapping[str, Any]) -> TokenFacts | None:
    """What the claims of a token say about its job; None where no provider issues such claims."""
    found = (provider.token_facts(claims) for provider in PROVIDERS.values())
    return next((facts for facts in found if facts is not None), None)
