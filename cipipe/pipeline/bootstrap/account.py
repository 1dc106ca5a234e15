"""`cipipe bootstrap`: what an account needs before its first pipeline.

The bucket is made by API, because the state of everything else lives in it; Terraform then adopts
it (an `import` block) and makes the OIDC providers and the roles, in the root that `bootstrap_root`
chooses.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cipipe.errors import UsageError
from cipipe.model import Mode
from cipipe.oidc.claims import TokenClaims
from cipipe.oidc.explain import explain
from cipipe.oidc.request import ROLE_ARN, issuer_key, request_for
from cipipe.oidc.trust_policy import evaluate
from cipipe.pipeline.bootstrap.root import chosen, prepared, refuse_other_outputs
from cipipe.pipeline.identity import iam_roles
from cipipe.pipeline.identity.access import check_account, child_environment
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.identity.tokens import ambient, issuer_of
from cipipe.pipeline.identity.trusted import Trust, Whose, ids_of, trust
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.stages.terraform.root import Root, backend, client
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.terraform.client import Terraform


def bootstrap(session: Session) -> dict[str, Any]:
    """Create or update the account's bucket, OIDC providers and roles. Returns Terraform's outputs.

    Uses the credentials of the person who runs it (an administrator, once), not a job's token.
    """
    trusted = _trusted(session.project, session.environment_name)
    with (
        _terraform(session) as (aws, terraform, bucket),
        tempfile.TemporaryDirectory(prefix="cipipe-plan-") as folder,
    ):
        terraform.create_state()
        # A provider that somebody else made is used as it is, not created a second time.
        foreign = _identity_providers(aws) - terraform.identity_providers()
        variables = Path(folder) / "bootstrap.tfvars.json"
        variables.write_bytes(msgspec.json.encode(_variables(session, bucket, trusted, foreign)))
        file = Path(folder) / "terraform.tfplan"
        if terraform.plan(file, var_files=[str(variables)]):
            refuse_other_outputs(session.project, terraform.planned_outputs(file))
            terraform.apply(file)

        for trust_of_provider in trusted.values():
            for doubt in trust_of_provider.doubts:
                session.progress.warning(doubt)
        _warn_of_policy(session, aws, trusted)
        return {key: output.get("value") for key, output in terraform.outputs().items()}


def unlock(session: Session, *, lock_id: str) -> None:
    """Release the lock that a killed bootstrap left."""
    with _terraform(session) as (_, terraform, _):
        terraform.unlock(lock_id)


@contextlib.contextmanager
def _terraform(session: Session) -> Iterator[tuple[Aws, Terraform, str]]:
    """The account, Terraform initialised in the bootstrap's root, and the bucket, made first.

    Raises RefusedError in a merge request's job, which may have the credentials of another step.
    The sandbox has an account of its own, which any job may bootstrap.
    """
    project, name = session.project, session.environment_name
    if project.context.mode is Mode.VERIFY and not session.sandbox:
        raise merge_request_read_only(name)
    root = chosen(project, session.say)
    endpoint = session.endpoint()
    credentials = session.target.admin if session.target is not None else ambient(project)
    aws = Aws(endpoint, credentials, account=session.environment.account_id)
    check_account(aws, name, session.environment)

    # Before Terraform: the bucket keeps the state of everything else.
    bucket = project.config.expanded(project.config.ledger.bucket, name)
    ensure_bucket(aws, bucket)
    session.say(f"bucket {bucket} exists")
    key = f"terraform/{project.config.project.name}/{name}.bootstrap.tfstate"
    child_env = child_environment(
        project=project,
        environment=session.environment,
        endpoint=endpoint,
        credentials=credentials,
        target=session.target,
    )
    state = backend(
        "s3", {"bucket": bucket, "key": key}, session.environment, sandbox=session.sandbox
    )
    with prepared(root) as folder:
        terraform = client(
            Root(folder=folder, shown=_shown(project, root), stage=None, backend=state),
            session.terraform(child_env),
        )
        terraform.init()
        yield aws, terraform, bucket


def _shown(project: Project, root: Path) -> str:
    """A root as messages name it: a path in the repository, or cipipe's own."""
    top = project.repository.root
    return root.relative_to(top).as_posix() if root.is_relative_to(top) else "bootstrap"


def ensure_bucket(aws: Aws, name: str) -> None:
    """Create the bucket unless it is ours already: versioned, encrypted, closed to the public."""
    region, owner = aws.endpoint.region, {"ExpectedBucketOwner": aws.account} if aws.account else {}
    place = (
        {}
        if region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        aws.call("s3", "head_bucket", Bucket=name, **owner)
    except AwsError as error:
        if error.status != 404:
            raise
        aws.call("s3", "create_bucket", Bucket=name, **place)
    aws.call(
        "s3",
        "put_public_access_block",
        Bucket=name,
        **owner,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    aws.call(
        "s3",
        "put_bucket_versioning",
        Bucket=name,
        VersioningConfiguration={"Status": "Enabled"},
        **owner,
    )


def _identity_providers(aws: Aws) -> frozenset[str]:
    """The hosts of the OIDC providers that the account has: there can be only one of each, whoever
    made it.
    """
    listed = aws.call("iam", "list_open_id_connect_providers")["OpenIDConnectProviderList"]
    return frozenset(entry["Arn"].partition("oidc-provider/")[2] for entry in listed)


def _trusted(project: Project, name: str) -> dict[str, Trust]:
    """Whose tokens the environment's roles are to trust, by provider. Raises UsageError."""
    found = {}
    for provider, settings in project.config.oidc.items():
        if settings.project is None:
            raise UsageError(
                "bootstrap-no-project",
                f"the roles cannot trust {provider} before they know which project",
                hint=f'Set `project` under [oidc] {provider}, such as project = "group/name".',
                where=f"oidc.{provider}.project",
            )
        allowed = project.config.environment(name).deploy_from
        ids = ids_of(settings, f"oidc.{provider}")
        whose = Whose(
            provider,
            issuer_key(issuer_of(project, provider).issuer),
            settings.project,
            settings,
            ids,
        )
        found[provider] = trust(whose, branches=allowed.branches, tags=allowed.tags)
    if found and not any(one.deploy_subjects for one in found.values()):
        raise UsageError(
            "bootstrap-no-refs",
            f"{name} names no branch or tag that deploys to it, so its deploy role would trust nobody",
            hint='Set deploy_from, such as deploy_from = { branches = ["main"] }.',
            where=f"environments.{name}.deploy_from",
        )
    return found


def _warn_of_policy(session: Session, aws: Aws, trusted: Mapping[str, Trust]) -> None:
    """Warn where the deploy role, as it is in IAM now, takes a merge request's token for a
    branch's.

    The Terraform root belongs to the project, which may have changed it.
    """
    environment = session.environment
    policy = iam_roles.read(aws, environment.role_arn.rpartition("/")[2]).policy
    for provider, found in trusted.items():
        issuer = issuer_of(session.project, provider)
        for subject in found.deploy_subjects[:1]:
            payload = {"iss": issuer.issuer, "sub": subject, "aud": issuer.audience}
            match = ROLE_ARN.fullmatch(environment.role_arn)
            partition = match[1] if match else "aws"
            request = request_for(
                TokenClaims({}, payload), account_id=environment.account_id, partition=partition
            )
            for finding in explain(evaluate(policy, request), request):
                if finding.id == "oidc-merge-request-indistinct":
                    session.progress.warning(f"{finding.id}: {finding.message}. Fix: {finding.fix}")


def _variables(
    session: Session, bucket: str, trusted: Mapping[str, Trust], foreign: frozenset[str]
) -> dict[str, Any]:
    project, name, environment = session.project, session.environment_name, session.environment
    providers = {}
    for provider, found in trusted.items():
        issuer = issuer_of(project, provider)
        providers[provider] = {
            "url": issuer.issuer,
            "client_ids": [issuer.audience],
            "deploy_subjects": found.deploy_subjects,
            "verify_subjects": found.verify_subjects,
            "claims": found.claims,
            "deploy_claims": found.deploy_claims,
            "create": issuer.issuer.partition("://")[2] not in foreign,
        }
    return {
        "project": project.config.project.name,
        "environment": name,
        "region": environment.region,
        "account_id": environment.account_id,
        "bucket": bucket,
        "ledger_prefix": project.config.expanded(project.config.ledger.prefix, name),
        "deploy_role_name": environment.role_arn.rpartition("/")[2],
        "verify_role_name": environment.verify_role_arn.rpartition("/")[2]
        if environment.verify_role_arn
        else None,
        "identity_providers": providers,
    }
