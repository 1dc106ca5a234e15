"""`cipipe oidc explain`.

Exit status 3 where the policy denies the token, 0 where it allows it or
that is unknown.
"""

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from cipipe.cli.console import Console
from cipipe.cli.oidc import inputs
from cipipe.cli.options import Common, common
from cipipe.errors import IdentityError, UsageError
from cipipe.oidc import examine
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.examine import Explanation
from cipipe.oidc.findings import Finding
from cipipe.report import identity, json


@click.command
@common(sandbox=False)
@click.option("--policy", metavar="FILE", help="The role's trust policy; `-` for standard input.")
@click.option(
    "--role", metavar="NAME", help="Read the policy of this role (name or ARN) from IAM instead."
)
@click.option("--claims", metavar="FILE", help="A token's claims, as JSON.")
@click.option("--token-file", metavar="FILE", help="A token.")
@click.option("--token-env", metavar="NAME", help="The environment variable that holds a token.")
@click.option(
    "--at",
    metavar="TIME",
    help="Check the token as of that time: ISO 8601, or seconds since 1970. Default: now.",
)
@click.option(
    "--provider-arn",
    metavar="ARN",
    help="The OIDC provider in IAM. Default: the one in the policy.",
)
@click.option(
    "--role-arn", metavar="ARN", help="The role; its account is where STS looks for the provider."
)
def explain(
    shared: Common,
    policy: str | None,
    role: str | None,
    claims: str | None,
    token_file: str | None,
    token_env: str | None,
    at: str | None,
    provider_arn: str | None,
    role_arn: str | None,
) -> int:
    """Explain whether a trust policy allows a token, and if not, which
    condition fails.

    Also shows how to fix it. Needs neither cipipe.toml nor AWS, except with
    --role.
    """
    _exactly_one({"--policy": policy, "--role": role})
    _exactly_one({"--claims": claims, "--token-file": token_file, "--token-env": token_env})
    if [policy, claims, token_file].count("-") > 1:
        raise UsageError(
            "usage", "standard input can be read only once", hint="Put one of the two into a file."
        )
    moment = _moment(at) if at is not None else datetime.now(UTC)
    document = inputs.policy_of(policy) if policy is not None else None
    try:
        found, problems = _token(
            shared.console, claims=claims, file=token_file, variable=token_env, now=moment
        )
    except IdentityError as error:
        return _answer(shared, examine.without_token(error))
    if claims is None and not found.issuer and provider_arn is None:
        return _answer(shared, Explanation("denied", problems))
    if document is None:
        document, role_arn, more = _live(shared.console, role or "", found)
        problems += more
    request, elsewhere = examine.request_of(found, document, provider=provider_arn, role=role_arn)
    return _answer(shared, examine.examine(document, request, (*problems, *elsewhere)))


def _token(
    console: Console,
    *,
    claims: str | None,
    file: str | None,
    variable: str | None,
    now: datetime,
) -> tuple[TokenClaims, tuple[Finding, ...]]:
    if claims is not None:
        found = inputs.claims_of(claims)
        return found, examine.token_problems(found, now, live=False)
    token = inputs.given_token(console, file, variable)
    found = inputs.decoded(console, token or "")
    return found, examine.token_problems(found, now, live=True)


def _moment(text: str) -> datetime:
    """A time; one without an offset is in UTC. Raises UsageError `usage`."""
    try:
        # Up to eight digits are a date: 20261125.
        if text.isascii() and text.isdigit() and len(text) > 8:
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        return found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            "usage",
            f"--at {text!r} is not a time",
            hint="Write it like 2026-11-25T14:30:00Z, or as seconds since 1970, such as the "
            "token's iat.",
            where="--at",
        ) from None


def _live(
    console: Console, role: str, claims: TokenClaims
) -> tuple[dict[str, Any], str, tuple[Finding, ...]]:
    from cipipe.pipeline.identity import iam_roles
    from cipipe.tools.aws.clients import Aws
    from cipipe.tools.aws.endpoint import Endpoint

    env = console.env
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    aws = Aws(Endpoint.found_in(env, region), None)
    found = iam_roles.read(aws, role)
    return dict(found.policy), found.arn, iam_roles.provider_problems(aws, found, claims)


def _answer(shared: Common, found: Explanation) -> int:
    if shared.format == "json":
        shared.answer(json.document(**msgspec.to_builtins(found)))
    else:
        shared.answer(identity.explanation(found, shared.style))
    if found.verdict == "unknown":
        shared.console.warning(
            "whether AWS allows this token cannot be known from the policy and the token alone"
        )
    return IdentityError.exit_status if found.verdict == "denied" else 0


def _exactly_one(options: dict[str, str | None]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(options)
        raise UsageError(
            "usage",
            f"exactly one of {names} is needed",
            hint="See `cipipe oidc explain --help`.",
        )
