"""`cipipe oidc trust-policy`. What the command line leaves out comes from cipipe.toml and from the
job, where they are there.
"""

import json as jsons
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from cipipe import ci
from cipipe.ci.base import Identity, Pins
from cipipe.cli.lazy import Choice
from cipipe.cli.options import Common, common
from cipipe.config import OidcSettings
from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.oidc import least
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.examine import PROVIDER_ARN, request_of
from cipipe.oidc.lints import lint
from cipipe.oidc.request import issuer_key, provider_arn, visible
from cipipe.oidc.trust_policy import evaluate
from cipipe.pipeline.identity.trusted import (
    Whose,
    deploy_claims,
    ids_of,
    trust,
    with_ids,
    workflow_claims,
)
from cipipe.pipeline.project import Project
from cipipe.report import json

_PROVIDERS = [name for name, provider in ci.PROVIDERS.items() if provider.IDENTITY]
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)+", re.ASCII)
_REF = re.compile(r"(refs/(heads|tags)/)?(?!refs/)[^\x00-\x20\x7f:~^\[\\]+")
_ID = re.compile(r"[0-9]+")


class Wanted(msgspec.Struct, frozen=True):
    """The options, as they were given."""

    provider: str | None
    project: str | None
    refs: tuple[str, ...]
    job_environment: str | None
    environment_refs: tuple[str, ...]
    pin_ids: bool
    project_id: str | None
    owner_id: str | None
    protected: bool | None
    provider_arn: str | None
    audience: str | None


@click.command("trust-policy")
@common(sandbox=False)
@click.option(
    "--provider",
    type=Choice(_PROVIDERS),
    help="Whose tokens. Default: the one of [oidc], or the job's.",
)
@click.option(
    "--project", metavar="PATH", help="The project. Default: the one of [oidc], or the job's."
)
@click.option(
    "--ref",
    "refs",
    metavar="REF",
    multiple=True,
    help="A branch, or refs/tags/NAME. May be repeated.",
)
@click.option(
    "--environment",
    "job_environment",
    metavar="NAME",
    help="Jobs of this environment, whatever their ref.",
)
@click.option(
    "--environment-ref",
    "environment_refs",
    metavar="REF",
    multiple=True,
    help="With --environment: of its jobs only those of this branch or tag. May be repeated.",
)
@click.option(
    "--pin-ids",
    is_flag=True,
    help="Trust the project's and its owner's ids as well, which outlive names.",
)
@click.option("--project-id", metavar="ID", help="With --pin-ids. Default: the job's.")
@click.option("--owner-id", metavar="ID", help="With --pin-ids. Default: the job's.")
@click.option(
    "--protected/--no-protected",
    default=None,
    help="Protected refs only, and no merge requests. Default: where AWS can tell; --no-protected is for a role that reads.",
)
@click.option(
    "--provider-arn",
    metavar="ARN",
    help="The OIDC provider in IAM. Default: of the environment's account.",
)
@click.option(
    "--audience", metavar="AUD", help="Default: the one of [oidc], or the provider's usual one."
)
def trust_policy(shared: Common, **given: object) -> None:
    """Write the least trust policy for tokens of one project, of some refs or of one environment."""
    wanted = msgspec.convert(given, Wanted)
    _check(wanted)
    project = _configured(shared)
    name = _provider(shared, project, wanted)
    identity = _identity(project, name)
    arn, issuer = _arn(shared, project, identity, wanted)
    _check_issuer(name, issuer)
    path = wanted.project or _known_project(shared, project, name)
    whose = _whose(shared, project, name, issuer, path, wanted)
    refs = _refs(shared, project, name, path, wanted)
    trusted = trust(whose, branches=refs.branches, tags=refs.tags)
    subjects = trusted.deploy_subjects
    if wanted.job_environment is not None:
        subjects = with_ids(
            ci.PROVIDERS[name],
            [_environment_subject(name, path, wanted.job_environment)],
            trusted.ids,
        )
    _check_subjects(name, path, subjects)
    claims = {
        **trusted.claims,
        **_workflow_claims(whose, refs, wanted),
        **_claims(shared, name, issuer, wanted, whose.settings),
    }
    if wanted.environment_refs:
        _refuse_hidden({"ref"} - visible(issuer), issuer, "--environment-ref")
        claims["ref"] = [
            ref if ref.startswith("refs/") else f"refs/heads/{ref}"
            for ref in wanted.environment_refs
        ]
    audience = wanted.audience or identity.audience
    made = least.policy(
        provider_arn=arn, issuer=issuer, audience=audience, subjects=subjects, claims=claims
    )
    shown = {key: values[0] for key, values in claims.items()}
    token = TokenClaims(
        {}, {**shown, "iss": f"https://{issuer}", "sub": subjects[0], "aud": audience}
    )
    for text in (*trusted.doubts, *_doubts(made, token, subjects)):
        shared.console.warning(text)
    text = (
        json.document(policy=made)
        if shared.format == "json"
        else jsons.dumps(made, indent=2) + "\n"
    )
    shared.answer(text, json=True)


def _check(wanted: Wanted) -> None:
    """Refuse values of which no policy could be made that lets a token in. Raises UsageError
    `usage`.
    """
    for option, refs in (("--ref", wanted.refs), ("--environment-ref", wanted.environment_refs)):
        for ref in refs:
            if not _REF.fullmatch(ref):
                raise _refused(option, f"{ref!r} is neither a branch nor refs/tags/NAME")
    if wanted.environment_refs and wanted.job_environment is None:
        raise _refused(
            "--environment-ref", "it counts with --environment only", "Use --ref instead."
        )
    for option, value in (
        ("--environment", wanted.job_environment),
        ("--audience", wanted.audience),
    ):
        if value is not None and not value.strip():
            raise _refused(option, "it is empty")
    for option, value in (("--project-id", wanted.project_id), ("--owner-id", wanted.owner_id)):
        if value is not None and not wanted.pin_ids:
            raise _refused(
                option, "it counts with --pin-ids only", "Add --pin-ids, or leave it out."
            )


def _check_issuer(name: str, issuer: str) -> None:
    """Refuse the issuer of another provider, whose tokens have subjects of another form."""
    for other in _PROVIDERS:
        identity = ci.PROVIDERS[other].IDENTITY
        usual = issuer_key(identity.issuer).lower() if identity else ""
        if other != name and f"{issuer.lower()}/".startswith(f"{usual}/"):
            raise _refused(
                "--provider-arn", f"{issuer} issues the tokens of {other}, not those of {name}"
            )


def _doubts(made: Mapping[str, Any], token: TokenClaims, subjects: list[str]) -> list[str]:
    """What the policy lets in that may not be meant."""
    request, _ = request_of(token, made, provider=None, role=None)
    statements = evaluate(made, request).statements
    findings = [finding for statement in statements for finding in lint(statement, request)]
    found = [
        # Where nothing but the subject can tell, what to do about it is not plain.
        f"{one.id}: {one.message}"
        + (f". Fix: {one.fix}" if one.id == "oidc-merge-request-indistinct" else "")
        for one in findings
    ]
    every = [
        one
        for one in subjects
        if ci.subject(one).kind != "custom" and not ci.subject(one).name.strip("*?")
    ]
    return found or [f"{one} admits every {ci.subject(one).kind} of the project" for one in every]


def _configured(shared: Common) -> Project | None:
    try:
        return shared.project()
    except UsageError as error:
        absent = {"config-missing", "git-no-repository", "git-no-commit"}
        if shared.config is not None or shared.environment is not None or error.id not in absent:
            raise
        return None


def _provider(shared: Common, project: Project | None, wanted: Wanted) -> str:
    if wanted.provider:
        return wanted.provider
    configured = list(project.config.oidc) if project else []
    own = shared.console.provider.NAME
    if own in _PROVIDERS or len(configured) == 1:
        return own if own in _PROVIDERS else configured[0]
    names = configured or _PROVIDERS
    hint = f"Pass --provider {' or --provider '.join(names)}."
    raise _missing("--provider", f"it is one of {', '.join(names)}", hint)


def _identity(project: Project | None, name: str) -> Identity:
    usual = ci.PROVIDERS[name].IDENTITY or Identity("", audience="", token_variable="")
    if project is None:
        return usual
    from cipipe.pipeline.identity.tokens import issuer_of

    return issuer_of(project, name)


def _arn(
    shared: Common, project: Project | None, identity: Identity, wanted: Wanted
) -> tuple[str, str]:
    """The provider's ARN and its issuer, without scheme."""
    if wanted.provider_arn is not None:
        match = PROVIDER_ARN.fullmatch(wanted.provider_arn)
        if match is None:
            raise UsageError(
                "usage", f"{wanted.provider_arn!r} is no provider's ARN", where="--provider-arn"
            )
        return wanted.provider_arn, match[3]
    if project is None:
        raise _missing(
            "--provider-arn", "it looks like arn:aws:iam::111111111111:oidc-provider/ISSUER"
        )
    environment = project.config.environment(project.environment_name(shared.environment))
    partition = environment.role_arn.split(":")[1]
    arn = provider_arn(identity.issuer, account_id=environment.account_id, partition=partition)
    return arn, issuer_key(identity.issuer)


def _known_project(shared: Common, project: Project | None, name: str) -> str:
    settings = project.config.oidc.get(name) if project else None
    own = (
        shared.console.provider.context(shared.console.env).project
        if name == shared.console.provider.NAME
        else None
    )
    found = (settings.project if settings else None) or own
    if not found:
        raise _missing(
            "--project",
            "it is the path that the provider shows, such as group/name",
            "Pass --project, or set `project` under [oidc] in cipipe.toml.",
        )
    return found


def _whose(
    shared: Common, project: Project | None, name: str, issuer: str, path: str, wanted: Wanted
) -> Whose:
    """The project whose tokens are meant, with the ids that are known: of the options, the
    configuration or the job.
    """
    settings = project.config.oidc.get(name) if project else None
    settings = settings or OidcSettings()
    pins = ci.PROVIDERS[name].PINS
    ids = ids_of(settings, f"oidc.{name}") if settings.project in {None, path} else None
    if wanted.pin_ids:
        _refuse_hidden(
            {pins.owner, pins.project} - visible(issuer) if pins else set(), issuer, "--pin-ids"
        )
        ids = _pinned_ids(shared, name, settings, wanted)
    elif ids is None and pins is not None and _is_own(shared, name, path):
        env = shared.console.env
        own = (env.get(pins.owner_variable, ""), env.get(pins.project_variable, ""))
        ids = own if all(_ID.fullmatch(text) for text in own) else None
    return Whose(name, issuer, path, settings, ids)


def _pinned_ids(
    shared: Common, name: str, settings: OidcSettings, wanted: Wanted
) -> tuple[str, str]:
    pins, env = ci.PROVIDERS[name].PINS or Pins(), shared.console.env
    own = env if name == shared.console.provider.NAME else {}
    project_id = wanted.project_id or settings.project_id or own.get(pins.project_variable)
    owner_id = wanted.owner_id or settings.owner_id or own.get(pins.owner_variable)
    for option, value in (("--project-id", project_id), ("--owner-id", owner_id)):
        if not value or not _ID.fullmatch(value):
            raise _missing(option, f"a number; jobs of {name} have it in their environment")
    return owner_id or "", project_id or ""


def _is_own(shared: Common, name: str, path: str) -> bool:
    """Whether this process is a job of that very project."""
    provider = shared.console.provider
    if name != provider.NAME:
        return False
    own = provider.context(shared.console.env).project
    return own is not None and own.lower() == path.lower()


def _refs(
    shared: Common, project: Project | None, name: str, path: str, wanted: Wanted
) -> DeployFrom:
    """The branches and tags that are meant. Raises UsageError."""
    if wanted.job_environment is not None:
        if _environment_subject(name, path, wanted.job_environment) and wanted.refs:
            raise UsageError(
                "usage",
                "that is not possible: a subject has a ref or an environment",
                hint="Use --environment-ref instead of --ref.",
                where="--environment",
            )
    elif not wanted.refs and project is not None:
        allowed = project.config.environment(
            project.environment_name(shared.environment)
        ).deploy_from
        if allowed.branches or allowed.tags:
            return allowed
    if not wanted.refs and wanted.job_environment is None:
        raise _missing("--ref", "without it every branch could assume the role")
    return _branches_and_tags(wanted.refs)


def _workflow_claims(whose: Whose, refs: DeployFrom, wanted: Wanted) -> dict[str, list[str]]:
    """The workflow files that are meant, at the refs that are. Any branch or tag is none of a pull
    request's refs.
    """
    if wanted.job_environment is None:
        return workflow_claims(whose, branches=refs.branches, tags=refs.tags)
    if not wanted.environment_refs:
        return workflow_claims(whose, branches=("*",), tags=("*",))
    named = _branches_and_tags(wanted.environment_refs)
    return workflow_claims(whose, branches=named.branches, tags=named.tags)


def _branches_and_tags(refs: Sequence[str]) -> DeployFrom:
    branches = [ref.removeprefix("refs/heads/") for ref in refs if not ref.startswith("refs/tags/")]
    tags = [ref.removeprefix("refs/tags/") for ref in refs if ref.startswith("refs/tags/")]
    return DeployFrom(tuple(branches), tuple(tags))


def _environment_subject(name: str, path: str, environment: str) -> str:
    subject = ci.PROVIDERS[name].environment_subject(path, environment)
    if subject is None:
        raise UsageError(
            "usage",
            f"that is not possible: subjects of {name} do not say the environment",
            hint="Leave it out.",
            where="--environment",
        )
    return subject


def _check_subjects(name: str, path: str, subjects: Sequence[str]) -> None:
    """Refuse a path that would change the meaning of the subjects."""
    parsed = [ci.PROVIDERS[name].subject(subject) for subject in subjects]
    wrong = any(subject is None or subject.project not in {path, ""} for subject in parsed)
    if not _PATH.fullmatch(path) or wrong:
        raise UsageError(
            "usage", f"{path!r} is not the path of a project of {name}", where="--project"
        )


def _claims(
    shared: Common, name: str, issuer: str, wanted: Wanted, settings: OidcSettings
) -> dict[str, list[str]]:
    """The claims that have to be so. Raises UsageError where AWS would not see them."""
    pins = ci.PROVIDERS[name].PINS or Pins()
    found: dict[str, list[str]] = {}
    if wanted.pin_ids:
        owner_id, project_id = _pinned_ids(shared, name, settings, wanted)
        found = {pins.project: [project_id], pins.owner: [owner_id]}
    if wanted.protected:
        _refuse_hidden(
            {pins.protected or "the ref's protection"} - visible(issuer), issuer, "--protected"
        )
    if wanted.protected or (wanted.protected is None and settings.protected_refs):
        found |= deploy_claims(name, issuer)
    return found


def _refuse_hidden(hidden: set[str], issuer: str, option: str) -> None:
    if hidden:
        raise UsageError(
            "oidc-pins-not-visible",
            f"AWS does not see {' and '.join(sorted(hidden))} of {issuer}, so a condition on it would never hold",
            hint=f"Leave {option} out. AWS sees {', '.join(sorted(visible(issuer)))} of this issuer.",
            where=option,
        )


def _missing(option: str, what: str, hint: str | None = None) -> UsageError:
    return UsageError(
        "usage", f"{option} is needed: {what}", hint=hint or f"Pass {option}.", where=option
    )


def _refused(
    option: str, what: str, hint: str = "`cipipe oidc trust-policy --help` tells more."
) -> UsageError:
    return UsageError("usage", f"{option} cannot be used: {what}", hint=hint, where=option)
