"""Where the process runs: GitLab, GitHub or a shell. A new provider is one module here, and one word in `PROVIDERS`."""

from collections.abc import Mapping

from cipipe.ci import github, gitlab, local
from cipipe.ci.base import NoToken, Provider, RequestToken, TokenSource, VariableToken

__all__ = ["PROVIDERS", "NoToken", "Provider", "RequestToken", "TokenSource", "VariableToken", "detect"]

PROVIDERS: dict[str, Provider] = {provider.NAME: provider for provider in (gitlab, github, local)}
"""In the order in which they are asked; the last one is always there."""


def detect(env: Mapping[str, str]) -> Provider:
    """The provider whose job this environment is."""
    return next(provider for provider in PROVIDERS.values() if provider.present(env))
