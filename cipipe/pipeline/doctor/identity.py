"""What in this job's identity would stop a run: region, role, token,
credentials, trust policy.

Only the exchange tests a role completely, and it changes nothing. With
`offline`, nothing beyond this machine is contacted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cipipe import ci
from cipipe.ci.base import FileToken, NoToken, RequestToken
from cipipe.errors import CipipeError, IdentityError
from cipipe.model import Mode
from cipipe.oidc import claims as jwt
from cipipe.oidc.explain import explain
from cipipe.oidc.findings import Finding
from cipipe.oidc.request import request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.partitions import partition_of
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
_OF_AUDIENCE = "oidc-audience-mismatch"

# `cipipe bootstrap` trusts projects by their names: a warning in every
# project is not read.
_USUAL = {"oidc-mutable-name"}

# Intended for a role that only reads: merge and pull requests come from
# every branch.
_USUAL_IN_VERIFY = {
    "oidc-subject-too-wide",
    "oidc-merge-request-allowed",
    "oidc-merge-request-indistinct",
}

# Seconds. With less time left, a token's expiry is shown in seconds instead
# of minutes.
_SHORT = 120


@dataclass
class Job:
    """One job in one environment. What one check finds out serves the next ones."""

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
        """The token's claims, for the checks that need them."""
        if self.claims is None:
            raise Skipped("there is no token to check")
        return self.claims


def check_region(job: Job) -> str:
    region = job.session.environment.region
    url = job.session.endpoint().url_of("sts")
    return f"{region}, in partition {partition_of(region)}; STS at {url}"


def check_role(job: Job) -> str:
    role, via = _role(job)
    context = job.project.context
    name = job.session.environment_name
    in_pipeline = context.provider != "local"
    if job.mode is Mode.DEPLOY and in_pipeline and not job.project.may_deploy(name):
        raise Doubtful(
            f"{context.ref_type} {context.ref} may not deploy to {name}",
            f"name it in deploy_from of [environments.{name}], if it should",
        )
    shown = f"{role}, to {job.mode.value}"
    return f"{shown}, assumed from {via}" if via else shown


def check_token(job: Job) -> str:
    source = token_source(job.project)
    if isinstance(source, NoToken) and not job.session.sandbox:
        if job.project.context.provider == "local":
            raise Skipped("a shell has none; your own AWS credentials are used")
        if has_own(job.project):
            raise Skipped("this job has none; another step of it got credentials")
    if isinstance(source, RequestToken) and job.offline:
        raise Skipped("it is minted when it is needed, which --offline does not")

    mint = minting(job.project, job.session.environment, job.session.target)
    token, job.audience = mint() if mint else ("", "")
    job.session.redactor.register(token)
    # The signature alone, too: it turns claims that anybody may see into a
    # token.
    job.session.redactor.register(token.rpartition(".")[2])
    claims = jwt.decode(token)
    job.claims = claims
    error = _error(job)
    if error is not None and error.id not in {*_OF_TIME, _OF_AUDIENCE}:
        # The next checks have nothing to say about a token that AWS would
        # not read.
        job.claims = None
        raise error
    _doubt_environment(job, claims.subject)
    return f"{_described(source)}: {claims.subject}"


def check_audience(job: Job) -> str:
    if job.audience in job.known().audiences:
        return job.audience
    error = _error(job)
    if error is not None and error.id == _OF_AUDIENCE:
        raise error
    raise Skipped("the token is not valid now, which comes first")


def check_expiry(job: Job) -> str:
    claims = job.known()
    error = _error(job)
    if error is not None and error.id in _OF_TIME:
        raise error
    left = claims.payload["exp"] - _now().timestamp()
    if left < _SHORT:
        return f"valid for another {round(left)} s"
    return f"valid for another {round(left / 60)} min"


def check_credentials(job: Job) -> str:
    if job.offline:
        raise Skipped("not checked with --offline")
    renewed = job.session.role_session(job.mode)
    if renewed is not None:
        job.credentials = renewed.current()
        expires = job.credentials.expiration
        until = f" until {expires:%H:%M} UTC" if expires else ""
        return f"a session of the role{until}"
    if not can_connect(job.project, job.session.target):
        raise Doubtful(
            "there are none: a plan compares with a commit",
            "log in (`aws sso login`), or use --sandbox",
        )
    job.session.connect(job.mode)
    return f"your own, of account {job.session.environment.account_id}"


def check_policy(job: Job) -> str:
    if job.offline:
        raise Skipped("not checked with --offline")
    claims = job.known()
    role, via = _role(job)
    # The token is exchanged for the first role of the two.
    first = via or role
    policy = _policy(job, first)
    request = request_for(
        claims,
        account_id=first.split(":")[4],
        partition=first.split(":")[1],
        session_name=job.session.role_session_name,
    )
    evaluation = evaluate(policy, request)
    findings = explain(evaluation, request)
    if evaluation.verdict == "denied":
        raise _denied(findings, first)
    if evaluation.verdict == "unknown":
        raise Doubtful("whether it allows this token is unknown", "see `cipipe oidc explain`")

    usual = _USUAL | _USUAL_IN_VERIFY if job.mode is Mode.VERIFY else _USUAL
    warnings = [finding for finding in findings if finding.id not in usual]
    if warnings:
        raise Doubtful(f"it allows this token; {warnings[0].message}", warnings[0].fix)
    return f"allows this token: {claims.subject}"


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


def _error(job: Job) -> IdentityError | None:
    """The first thing that is wrong with the token, if anything is."""
    try:
        jwt.check(job.known(), audience=job.audience, now=_now())
    except IdentityError as error:
        return error
    return None


def _denied(findings: Sequence[Finding], role: str) -> IdentityError:
    errors = [finding for finding in findings if finding.severity == "error"]
    message = "it does not allow this token"
    hint = "See `cipipe oidc explain`."
    if errors:
        message = errors[0].message
        hint = f"{errors[0].fix} (see `cipipe oidc explain`)"
    return IdentityError("oidc-access-denied", message, hint=hint, where=role)


def _policy(job: Job, role: str) -> Mapping[str, Any]:
    target = job.session.target
    keys = target.admin if target is not None else job.credentials
    if keys is None:
        raise Skipped("it cannot be read without credentials")
    aws = Aws(job.session.endpoint(), keys)
    try:
        return iam_roles.read(aws, role).policy
    except CipipeError as error:
        raise Skipped(error.message.splitlines()[0]) from None


def _doubt_environment(job: Job, subject: str) -> None:
    """Doubt a job that deploys and does not name the environment that the role trusts."""
    wanted = job.session.environment.job_environment
    found = ci.subject(subject)
    has_environments = ci.PROVIDERS[job.project.context.provider].environment_subject("a/b", "c")
    if job.mode is not Mode.DEPLOY or wanted is None or not has_environments:
        return
    if found.kind == "custom" or (found.kind, found.name) == ("environment", wanted):
        return
    raise Doubtful(
        f"{subject} does not have the environment {wanted}, which job_environment says that jobs "
        "name",
        f"name it in the job (`environment: {wanted}`), or remove job_environment of "
        f"[environments.{job.session.environment_name}] and run cipipe bootstrap again",
    )


def _described(source: object) -> str:
    if isinstance(source, RequestToken):
        return "minted for this check"
    if isinstance(source, FileToken):
        return f"in {source.path}"
    return "the sandbox's" if isinstance(source, NoToken) else "in its variable"


def _now() -> datetime:
    return datetime.now(UTC)
