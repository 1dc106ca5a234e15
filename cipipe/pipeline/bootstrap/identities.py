"""The OIDC providers and tokens that an environment's roles trust, as Terraform variables."""

from collections.abc import Mapping
from typing import Any

from cipipe.errors import UsageError
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.explain import explain
from cipipe.oidc.request import ROLE_ARN, issuer_key, provider_arn, request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.pipeline.identity import iam_roles
from cipipe.pipeline.identity.tokens import issuer_of
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.pipeline.trust.subjects import Trust, TrustedProject, ids_of, trust
from cipipe.tools.aws.clients import Aws


def trusted_tokens(project: Project, name: str) -> dict[str, Trust]:
    """The tokens that the environment's roles are to trust, by provider. Raises UsageError."""
    found = {}
    environment = project.config.environment(name)
    for provider, settings in project.config.oidc.items():
        if settings.project is None:
            raise UsageError(
                "bootstrap-no-project",
                f"the roles cannot trust {provider} without knowing the project",
                hint=f'Set `project` under [oidc] {provider}, such as project = "group/name".',
                where=f"oidc.{provider}.project",
            )
        trusted = TrustedProject(
            provider=provider,
            issuer=issuer_key(issuer_of(project, provider).issuer),
            path=settings.project,
            settings=settings,
            ids=ids_of(settings, f"oidc.{provider}"),
        )
        found[provider] = trust(
            trusted, environment.deploy_from, job_environment=environment.job_environment
        )

    if found and not any(one.deploy_subjects for one in found.values()):
        raise UsageError(
            "bootstrap-no-refs",
            f"{name} names no branch or tag that deploys to it, so its deploy role would trust "
            "nobody",
            hint='Set deploy_from, such as deploy_from = { branches = ["main"] }.',
            where=f"environments.{name}.deploy_from",
        )
    return found


def existing_providers(aws: Aws) -> frozenset[str]:
    """The hosts of the account's OIDC providers. There can be only one of each, whoever made it."""
    listed = aws.call("iam", "list_open_id_connect_providers")["OpenIDConnectProviderList"]
    return frozenset(entry["Arn"].partition("oidc-provider/")[2] for entry in listed)


def warn_of_audiences(session: Session, aws: Aws, foreign: frozenset[str]) -> None:
    """Warn of a provider that somebody else made and that does not accept the project's tokens."""
    project = session.project
    for provider in project.config.oidc:
        identity = issuer_of(project, provider)
        host = identity.issuer.partition("://")[2]
        if host not in foreign:
            continue
        partition = session.environment.role_arn.split(":")[1]
        arn = provider_arn(
            identity.issuer, account_id=session.environment.account_id, partition=partition
        )
        found = aws.call("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if identity.audience not in found["ClientIDList"]:
            session.progress.warning(
                f"oidc-audience-mismatch: the account's OIDC provider {host}, which cipipe did not "
                f"create, does not list the audience {identity.audience}. Fix: add it to the "
                f"client ids of {arn}, or set `audience` under [oidc] to one of them"
            )


def provider_variables(
    project: Project, trusted: Mapping[str, Trust], foreign: frozenset[str]
) -> dict[str, Any]:
    """The variable `identity_providers` of the root. A `foreign` provider is not created."""
    variables = {}
    for provider, found in trusted.items():
        identity = issuer_of(project, provider)
        variables[provider] = {
            "url": identity.issuer,
            "client_ids": [identity.audience],
            "deploy_subjects": found.deploy_subjects,
            "verify_subjects": found.verify_subjects,
            "claims": found.claims,
            "deploy_claims": found.deploy_claims,
            "create": identity.issuer.partition("://")[2] not in foreign,
        }
    return variables


def warn_of_policy(session: Session, aws: Aws, trusted: Mapping[str, Trust]) -> None:
    """Warn where the deploy role accepts a merge request's token as a
    branch's.

    The role is read from IAM: the Terraform root may be the project's own,
    with another policy.
    """
    environment = session.environment
    policy = iam_roles.read(aws, environment.role_arn.rpartition("/")[2]).policy
    match = ROLE_ARN.fullmatch(environment.role_arn)
    partition = match[1] if match else "aws"
    for provider, found in trusted.items():
        identity = issuer_of(session.project, provider)
        # Any subject will do: they differ in the ref only.
        for subject in found.deploy_subjects[:1]:
            payload = {"iss": identity.issuer, "sub": subject, "aud": identity.audience}
            request = request_for(
                TokenClaims({}, payload), account_id=environment.account_id, partition=partition
            )
            for finding in explain(evaluate(policy, request), request):
                if finding.id == "oidc-merge-request-indistinct":
                    text = f"{finding.id}: {finding.message}. Fix: {finding.fix}"
                    session.progress.warning(text)
