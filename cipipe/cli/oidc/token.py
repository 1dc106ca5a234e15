"""`cipipe oidc token`. Shows what a token says; the token itself is masked wherever it would
appear.
"""

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
    """Show the claims of the job's ID token, and which of them AWS sees as condition keys. Never
    the token.
    """
    if token_file is not None and token_env is not None:
        raise UsageError("usage", "--token-file and --token-env exclude each other")
    text = inputs.given_token(shared.console, token_file, token_env) or _of_job(shared)
    claims, now = inputs.decoded(shared.console, text), datetime.now(UTC)
    shown, subject = _shown(claims, now), ci.subject(claims.subject)
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
    """The job's own token, asked for as the configuration says, or as the provider does where there
    is none.
    """
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
        if shared.config is not None or error.id not in {
            "config-missing",
            "git-no-repository",
            "git-no-commit",
        }:
            raise
        provider, env = shared.console.provider, shared.console.env
        usual = provider.IDENTITY or Identity("", audience="", token_variable="")
        return provider.token(env, audience=usual.audience, token_variable=usual.token_variable)
    from cipipe.pipeline.identity.tokens import token_source

    return token_source(project)


def _shown(claims: TokenClaims, now: datetime) -> identity.IdentityReport:
    issuer, offered = issuer_key(claims.issuer), visible(claims.issuer)
    context = request_for(claims, account_id="").context
    expires = claims.payload.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires < 1e11:
        expires = None
    until = None if expires is None else datetime.fromtimestamp(expires, UTC)
    return identity.IdentityReport(
        issuer=claims.issuer,
        subject=claims.subject,
        kind=ci.subject(claims.subject).kind,
        audiences=claims.audiences,
        expires_at=until.isoformat(timespec="seconds").replace("+00:00", "Z") if until else None,
        expires_in=int(until.timestamp() - now.timestamp()) if until else None,
        keys={
            f"{issuer}:{name}": context[f"{issuer}:{name}".lower()]
            for name in sorted(offered)
            if f"{issuer}:{name}".lower() in context
        },
        hidden=tuple(sorted(name for name in claims.payload if name not in offered)),
        claims=claims.payload,
    )
