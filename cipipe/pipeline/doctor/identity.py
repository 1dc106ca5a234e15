"""What of this job's identity would stop a run: region, role, token, audience, expiry, credentials,
trust policy.

The exchange is the only whole test of a role, and it changes nothing. With `offline` nobody is
asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cipipe.ci.base import FileToken, NoToken, RequestToken
from cipipe.errors import CipipeError, IdentityError
from cipipe.model import Mode, partition_of
from cipipe.oidc import claims as jwt
from cipipe.oidc.explain import explain
from cipipe.oidc.request import request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.pipeline.doctor.base import Doubtful, Skipped
from cipipe.pipeline.identity import iam_roles
from cipipe.pipeline.identity.access import can_connect
from cipipe.pipeline.identity.role_session import role_of
from cipipe.pipeline.identity.tokens import has_own, minting, token_source
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials

_OF_TIME = {"oidc-token-expired", "oidc-token-not-yet-valid"}
_NOT_TOLD = {"oidc-mutable-name"}
"""`cipipe bootstrap` trusts projects by their names: what every project is told, nobody reads."""

_MEANT = {"oidc-subject-too-wide", "oidc-merge-request-allowed", "oidc-merge-request-indistinct"}
"""Of a role that only reads: merge and pull requests come from every branch."""

_OF_AUDIENCE = "oidc-audience-mismatch"


@dataclass
class Job:
    """One job in one environment. What one check found out serves the next ones."""

    session: Session
    offline: bool

    claims: jwt.TokenClaims | None = field(default=None, init=False)
    # The audience that the token was requested for.
    audience: str = field(default="", init=False)
    credentials: Credentials | None = field(default=None, init=False)

    @property
    def project(self) -> Project:
        return self.session.project

    @property
    def mode(self) -> Mode:
        return self.project.context.mode

    def known(self) -> jwt.TokenClaims:
        """The token's claims, for the checks that look at them."""
        if self.claims is None:
            raise Skipped("there is no token to look at")
        return self.claims


def check_region(job: Job) -> str:
    region = job.session.environment.region
    url = job.session.endpoint().url_of("sts")
    return f"{region}, in partition {partition_of(region)}; STS at {url}"


def check_role(job: Job) -> str:
    role, via = _role(job)
    context = job.project.context
    if (
        job.mode is Mode.DEPLOY
        and context.provider != "local"
        and not job.project.may_deploy(job.session.environment_name)
    ):
        raise Doubtful(
            f"{context.ref_type} {context.ref} may not deploy to {job.session.environment_name}",
            f"name it in deploy_from of [environments.{job.session.environment_name}], if it should",
        )
    return f"{role}, to {job.mode.value}" + (f", by way of {via}" if via else "")


def check_token(job: Job) -> str:
    source = token_source(job.project)
    if isinstance(source, NoToken) and not job.session.sandbox:
        if job.project.context.provider == "local":
            raise Skipped("a shell has none; AWS credentials of your own are used")
        if has_own(job.project):
            raise Skipped("this job has none; another step of it got credentials")
    if isinstance(source, RequestToken) and job.offline:
        raise Skipped("it is minted when it is needed, and --offline asks nobody")
    mint = minting(job.project, job.session.environment, job.session.target)
    token, job.audience = mint() if mint else ("", "")
    job.session.redactor.register(token)
    job.session.redactor.register(token.rpartition(".")[2])
    claims = jwt.decode(token)
    job.claims = claims
    error = _wrong(job)
    if error is not None and error.id not in {*_OF_TIME, _OF_AUDIENCE}:
        job.claims = None  # what AWS would not read is nothing for the checks that come next
        raise error
    return f"{_where(source)}: {claims.subject}"


def check_audience(job: Job) -> str:
    actual = job.known().audiences
    if job.audience not in actual:
        error = _wrong(job)
        if error is not None and error.id == _OF_AUDIENCE:
            raise error
        raise Skipped("the token does not hold now, which comes first")
    return job.audience


def check_expiry(job: Job) -> str:
    claims = job.known()
    error = _wrong(job)
    if error is not None and error.id in _OF_TIME:
        raise error
    left = claims.payload["exp"] - _now().timestamp()
    return (
        f"holds for another {round(left / 60)} min"
        if left >= 120
        else f"holds for another {round(left)} s"
    )


def check_credentials(job: Job) -> str:
    if job.offline:
        raise Skipped("--offline asks nobody")
    renewed = job.session.role_session(job.mode)
    if renewed is not None:
        job.credentials = renewed.current()
        ends = job.credentials.expiration
        return "a session of the role" + (f" until {ends:%H:%M} UTC" if ends else "")
    if not can_connect(job.project, job.session.target):
        raise Doubtful(
            "there are none: a plan compares with a commit",
            "log in (`aws sso login`), or use --sandbox",
        )
    job.session.connect(job.mode)
    return f"your own, of account {job.session.environment.account_id}"


def check_policy(job: Job) -> str:
    if job.offline:
        raise Skipped("--offline asks nobody")
    claims = job.known()
    role, via = _role(job)
    asked = via or role
    policy = _policy(job, asked)
    account, partition = asked.split(":")[4], asked.split(":")[1]
    request = request_for(
        claims,
        account_id=account,
        partition=partition,
        session_name=job.session.role_session_name,
    )
    evaluation = evaluate(policy, request)
    findings = explain(evaluation, request)
    errors = [finding for finding in findings if finding.severity == "error"]
    if evaluation.verdict == "denied":
        what, fix = (
            (errors[0].message, errors[0].fix) if errors else ("it does not let this token in", "")
        )
        raise IdentityError(
            "oidc-access-denied",
            what,
            hint=f"{fix} (`cipipe oidc explain` tells more)",
            where=asked,
        )
    if evaluation.verdict == "unknown":
        raise Doubtful(
            "it cannot be told whether it lets this token in", "see `cipipe oidc explain`"
        )
    quiet = _NOT_TOLD | (_MEANT if job.mode is Mode.VERIFY else set())
    warnings = [finding for finding in findings if finding.id not in quiet]
    if warnings:
        raise Doubtful(f"it lets this token in; {warnings[0].message}", warnings[0].fix)
    return f"lets this token in: {claims.subject}"


CHECKS: Mapping[str, Callable[[Job], str]] = {
    "region": check_region,
    "role": check_role,
    "token": check_token,
    "audience": check_audience,
    "expiry": check_expiry,
    "credentials": check_credentials,
    "policy": check_policy,
}
"""In the order in which they are made: later ones use what earlier ones found."""


def _role(job: Job) -> tuple[str, str | None]:
    return role_of(job.session.environment_name, job.session.environment, job.mode)


def _wrong(job: Job) -> IdentityError | None:
    try:
        jwt.check(job.known(), audience=job.audience, now=_now())
    except IdentityError as error:
        return error
    return None


def _policy(job: Job, role: str) -> Mapping[str, Any]:
    target = job.session.target
    keys = target.admin if target is not None else job.credentials
    if keys is None:
        raise Skipped("without credentials it cannot be read")
    aws = Aws(job.session.endpoint(), keys)
    try:
        return iam_roles.read(aws, role).policy
    except CipipeError as error:
        raise Skipped(error.message.splitlines()[0]) from None


def _where(source: object) -> str:
    if isinstance(source, RequestToken):
        return "minted for this check"
    if isinstance(source, FileToken):
        return f"in {source.path}"
    return "the sandbox's" if isinstance(source, NoToken) else "in its variable"


def _now() -> datetime:
    return datetime.now(UTC)
