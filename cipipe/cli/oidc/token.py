"""`cipipe oidc token`: what a token says. The token itself is masked wherever it would appear."""

from datetime import UTC, datetime

import click
import msgspec

from cipipe import ci
from cipipe.ci.base import Identity, NoToken
from cipipe.cli.oidc import inputs
from cipipe.cli.options import Common, common
from cipipe.errors import IdentityError, UsageError
from cipipe.oidc import sources
from cipipe.oidc.claims import TokenClaims, check_form, check_signed, check_times
from cipipe.oidc.request import issuer_key, request_for, visible
from cipipe.report import identity, json

# Errors of a folder without a project.
_NO_PROJECT = {"config-missing", "git-no-repository", "git-no-commit"}

# Seconds since 1970, in the year 5138. Python's datetime ends at 9999.
_LATEST = 1e11


@click.command
@common(sandbox=False)
@click.option(
    "--token-file", metavar="FILE", help="This token instead of the job's; `-` for standard input."
)
@click.option(
    "--token-env",
    metavar="NAME",
    help="The token in this environment variable instead of the job's.",
)
def token(shared: Common, token_file: str | None, token_env: str | None) -> None:
    """Show the claims of the job's ID token, and which of them AWS sees as
    condition keys.

    The token itself is never shown.
    """
    if token_file is not None and token_env is not None:
        raise UsageError("usage", "--token-file and --token-env cannot be used together")
    text = inputs.given_token(shared.console, token_file, token_env) or _of_job(shared)
    claims = inputs.decoded(shared.console, text)
    now = datetime.now(UTC)
    shown = _shown(claims, now)
    subject = ci.subject(claims.subject)
    try:
        check_signed(claims)
        check_form(claims)
        check_times(claims, now=now)
    except IdentityError as error:
        shared.console.warning(f"AWS would refuse it: {error.message}")
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(shown)))
    else:
        shared.answer(identity.token(shown, subject, shared.style))


def _of_job(shared: Common) -> str:
    """The job's own token, from where the configuration or the provider says it is."""
    console = shared.console
    source = _source(shared)
    if isinstance(source, NoToken):
        raise inputs.no_token(console, "the job has none", source.hint)
    found = sources.fetch(source, console.env)
    if not found:
        raise inputs.no_token(console, "the job has none")
    return found


def _source(shared: Common) -> ci.TokenSource:
    try:
        project = shared.project()
    except UsageError as error:
        # Without a project, the token is where the provider has it by
        # default.
        if shared.config is not None or error.id not in _NO_PROJECT:
            raise
        provider = shared.console.provider
        usual = provider.IDENTITY or Identity("", audience="", token_variable="")
        return provider.token(
            shared.console.env, audience=usual.audience, token_variable=usual.token_variable
        )
    from cipipe.pipeline.identity.tokens import token_source

    return token_source(project)


def _shown(claims: TokenClaims, now: datetime) -> identity.IdentityReport:
    issuer = issuer_key(claims.issuer)
    offered = visible(claims.issuer)
    context = request_for(claims, account_id="").context
    # AWS's condition keys ignore case; they are shown as AWS documents
    # them.
    names = [f"{issuer}:{name}" for name in sorted(offered)]
    keys = {name: context[name.lower()] for name in names if name.lower() in context}
    expires = _expiry(claims)
    expires_at = None
    if expires is not None:
        expires_at = expires.isoformat(timespec="seconds").replace("+00:00", "Z")
    return identity.IdentityReport(
        issuer=claims.issuer,
        subject=claims.subject,
        kind=ci.subject(claims.subject).kind,
        audiences=claims.audiences,
        expires_at=expires_at,
        expires_in=int(expires.timestamp() - now.timestamp()) if expires is not None else None,
        keys=keys,
        hidden=tuple(sorted(name for name in claims.payload if name not in offered)),
        claims=claims.payload,
    )


def _expiry(claims: TokenClaims) -> datetime | None:
    """When the token expires; None where `exp` is no time, which a token may say all the same."""
    found = claims.payload.get("exp")
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    if not 0 <= found < _LATEST:
        return None
    return datetime.fromtimestamp(found, UTC)
