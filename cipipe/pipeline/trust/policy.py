"""`cipipe oidc trust-policy`: the least trust policy for the tokens of one project."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cipipe import ci
from cipipe.ci.base import Pins
from cipipe.errors import UsageError
from cipipe.model import DeployFrom
from cipipe.oidc import least
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.examine import request_of
from cipipe.oidc.lints import lint
from cipipe.oidc.request import issuer_key
from cipipe.oidc.trust_policy import evaluate
from cipipe.pipeline.trust.defaults import PROVIDERS, Defaults
from cipipe.pipeline.trust.options import (
    TrustPolicyOptions,
    branches_and_tags,
    check,
    needed,
    refuse_hidden,
    unusable,
)
from cipipe.pipeline.trust.subjects import (
    TrustedProject,
    deploy_claims,
    ref_claims,
    trust,
    with_ids,
    workflow_claims,
)

_PATH = re.compile(r"[\w.-]+(/[\w.-]+)+", re.ASCII)


class TrustPolicy(msgspec.Struct, frozen=True):
    """A trust policy, and what it allows that may not be intended."""

    document: dict[str, Any]
    warnings: tuple[str, ...]


def make_policy(options: TrustPolicyOptions, defaults: Defaults) -> TrustPolicy:
    """The policy for the refs, or for the environment, of the options. Raises UsageError."""
    check(options)
    provider = defaults.provider(options)
    identity = defaults.identity(provider)
    arn, issuer = defaults.arn_and_issuer(options, identity)
    _check_issuer(provider, issuer)
    path = defaults.project_path(options, provider)
    project = TrustedProject(
        provider=provider,
        issuer=issuer,
        path=path,
        settings=defaults.settings(provider),
        ids=defaults.ids(options, provider, issuer, path),
    )

    options = _as_configured(options, project, defaults)
    refs = _refs(options, project, defaults)
    trusted = trust(project, refs)
    subjects = trusted.deploy_subjects
    if options.job_environment is not None:
        subject = _environment_subject(project, options.job_environment)
        subjects = with_ids(ci.PROVIDERS[provider], [subject], trusted.ids)
    _check_subjects(project, subjects)

    claims = {
        **trusted.claims,
        **_workflow_claims(project, refs, options),
        **_required_claims(project, options, defaults),
    }
    audience = options.audience or identity.audience
    document = least.policy(
        provider_arn=arn, issuer=issuer, audience=audience, subjects=subjects, claims=claims
    )

    # The policy is linted with a token that it is intended for.
    shown = {key: values[0] for key, values in claims.items()}
    payload = {**shown, "iss": f"https://{issuer}", "sub": subjects[0], "aud": audience}
    doubts = _doubts(document, TokenClaims({}, payload), subjects)
    return TrustPolicy(document, (*trusted.doubts, *doubts))


def _check_issuer(provider: str, issuer: str) -> None:
    """Refuse the issuer of another provider, whose tokens have subjects of another form."""
    for other in PROVIDERS:
        identity = ci.PROVIDERS[other].IDENTITY
        usual = issuer_key(identity.issuer).lower() if identity else ""
        if other != provider and f"{issuer.lower()}/".startswith(f"{usual}/"):
            raise unusable(
                "--provider-arn", f"{issuer} issues the tokens of {other}, not those of {provider}"
            )


def _as_configured(
    options: TrustPolicyOptions, project: TrustedProject, defaults: Defaults
) -> TrustPolicyOptions:
    """The options with the environment that jobs name according to cipipe.toml, and the refs that
    deploy; unchanged if they name a ref or an environment themselves.
    """
    environment = defaults.environment()
    allowed = defaults.deploy_from()
    if options.refs or options.job_environment is not None or environment is None:
        return options
    name = environment.job_environment
    provider = ci.PROVIDERS[project.provider]
    if name is None or allowed is None or not provider.environment_subject(project.path, name):
        return options
    refs = tuple(value for values in ref_claims(project, allowed).values() for value in values)
    return msgspec.structs.replace(options, job_environment=name, environment_refs=refs)


def _refs(options: TrustPolicyOptions, project: TrustedProject, defaults: Defaults) -> DeployFrom:
    """The branches and tags that may deploy. Raises UsageError."""
    if options.job_environment is not None:
        _environment_subject(project, options.job_environment)
        if options.refs:
            raise UsageError(
                "usage",
                "that is not possible: a subject has a ref or an environment",
                hint="Use --environment-ref instead of --ref.",
                where="--environment",
            )
        return branches_and_tags(options.refs)
    if options.refs:
        return branches_and_tags(options.refs)
    allowed = defaults.deploy_from()
    if allowed is None:
        raise needed("--ref", "without it every branch could assume the role")
    return allowed


def _environment_subject(project: TrustedProject, environment: str) -> str:
    subject = ci.PROVIDERS[project.provider].environment_subject(project.path, environment)
    if subject is None:
        raise UsageError(
            "usage",
            f"that is not possible: subjects of {project.provider} do not have the environment",
            hint="Leave it out.",
            where="--environment",
        )
    return subject


def _check_subjects(project: TrustedProject, subjects: Sequence[str]) -> None:
    """Refuse a path that would change the meaning of the subjects."""
    parsed = [ci.PROVIDERS[project.provider].subject(subject) for subject in subjects]
    # A subject of GitLab with other components may not have the path in it.
    wrong = any(subject is None or subject.project not in {project.path, ""} for subject in parsed)
    if not _PATH.fullmatch(project.path) or wrong:
        raise UsageError(
            "usage",
            f"{project.path!r} is not the path of a project of {project.provider}",
            where="--project",
        )


def _workflow_claims(
    project: TrustedProject, refs: DeployFrom, options: TrustPolicyOptions
) -> dict[str, list[str]]:
    """The claim that names the workflow files, at the refs that may deploy."""
    if options.job_environment is not None:
        # Branches and tags of any name: the refs of pull requests are
        # neither.
        refs = DeployFrom(branches=("*",), tags=("*",))
        if options.environment_refs:
            refs = branches_and_tags(options.environment_refs)
    return workflow_claims(project, refs)


def _required_claims(
    project: TrustedProject, options: TrustPolicyOptions, defaults: Defaults
) -> dict[str, list[str]]:
    """The claims that the options ask for. Raises UsageError where AWS would not see them."""
    pins = ci.PROVIDERS[project.provider].PINS or Pins()
    found: dict[str, list[str]] = {}
    if options.pin_ids:
        owner_id, project_id = defaults.pinned_ids(options, project.provider)
        found |= {pins.project: [project_id], pins.owner: [owner_id]}
    if options.protected:
        refuse_hidden({pins.protected or "the ref's protection"}, project.issuer, "--protected")
    usual = options.protected is None and project.settings.protected_refs
    if options.protected or usual:
        found |= deploy_claims(project.provider, project.issuer)
    if options.environment_refs:
        refuse_hidden({"ref"}, project.issuer, "--environment-ref")
        found["ref"] = [
            ref if ref.startswith("refs/") else f"refs/heads/{ref}"
            for ref in options.environment_refs
        ]
    return found


def _doubts(document: Mapping[str, Any], token: TokenClaims, subjects: Sequence[str]) -> list[str]:
    """What the policy allows that may not be intended."""
    request, _ = request_of(token, document, provider=None, role=None)
    found = []
    for statement in evaluate(document, request).statements:
        for finding in lint(statement, request):
            text = f"{finding.id}: {finding.message}"
            # Nothing but the subject distinguishes them, so the fix is not
            # obvious.
            if finding.id == "oidc-merge-request-indistinct":
                text = f"{text}. Fix: {finding.fix}"
            found.append(text)
    if found:
        return found
    return [
        f"{subject} admits every {ci.subject(subject).kind} of the project"
        for subject in subjects
        if ci.subject(subject).kind != "custom" and not ci.subject(subject).name.strip("*?")
    ]
