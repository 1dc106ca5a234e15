"""`cipipe bootstrap`: what an account needs before its first pipeline.

The bucket is made through the API, because it keeps the state of everything
else. Terraform then adopts it (with an `import` block) and makes the OIDC
providers and the roles, in the root that `bootstrap/root.py` chooses.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from cipipe.model import Mode
from cipipe.pipeline.bootstrap import bucket as state_bucket
from cipipe.pipeline.bootstrap.identities import (
    existing_providers,
    provider_variables,
    trusted_tokens,
    warn_of_audiences,
    warn_of_policy,
)
from cipipe.pipeline.bootstrap.permissions import Extra, extra
from cipipe.pipeline.bootstrap.root import (
    SHIPPED,
    chosen,
    prepared,
    refuse_names,
    refuse_other_outputs,
    refuse_own_roles,
)
from cipipe.pipeline.identity.access import check_account, child_environment
from cipipe.pipeline.identity.role_session import merge_request_read_only
from cipipe.pipeline.identity.tokens import ambient
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.stages.terraform.root import Root, backend, client
from cipipe.tools.aws.clients import Aws
from cipipe.tools.terraform.client import Terraform
from cipipe.tools.terraform.shown import ResourceChange

Agree: TypeAlias = Callable[[str, Sequence[str]], None]
"""Gets the name of something that would change, and what would be done to it, a line each.
Raises RefusedError if that is not wanted.
"""


def bootstrap(session: Session, agree: Agree | None = None) -> dict[str, Any]:
    """Create or update the account's bucket, OIDC providers and roles.
    Returns Terraform's outputs.

    Uses the credentials of the person who runs it (an administrator, once),
    not a job's token. `agree` is called before the bucket is changed, and
    before a plan is applied; without it, nobody is asked.
    """
    # What is wrong with the settings is said before anything is changed.
    trusted = trusted_tokens(session.project, session.environment_name)
    granted = extra(session.project.config, session.environment_name)

    def prepare(aws: Aws, bucket: str) -> None:
        todo = state_bucket.steps(aws, bucket)
        if todo and agree is not None:
            agree(f"the bucket {bucket}", [step.title for step in todo])
        for step in todo:
            step.run(aws)
        session.say(f"bucket {bucket} exists")

    with (
        _terraform(session, prepare) as (aws, terraform, bucket),
        tempfile.TemporaryDirectory(prefix="cipipe-plan-") as folder,
    ):
        terraform.create_state()
        # A provider that somebody else made is used as it is, not created a
        # second time.
        foreign = existing_providers(aws) - terraform.identity_providers()
        variables = Path(folder) / "bootstrap.tfvars.json"
        providers = provider_variables(session.project, trusted, foreign)
        values = {
            **_variables(session, bucket, providers, granted),
            **state_bucket.kept(aws, bucket),
        }
        variables.write_bytes(msgspec.json.encode(_with_key(session, values)))
        file = Path(folder) / "terraform.tfplan"
        if terraform.plan(file, var_files=[str(variables)]):
            shown = terraform.show(file)
            refuse_other_outputs(session.project, frozenset(shown.planned_values.outputs))
            if agree is not None:
                agree("the roles and OIDC providers", _shown_changes(shown.changes()))
            terraform.apply(file)

        for trust_of_provider in trusted.values():
            for doubt in trust_of_provider.doubts:
                session.progress.warning(doubt)
        warn_of_audiences(session, aws, foreign)
        warn_of_policy(session, aws, trusted)
        return {key: output.get("value") for key, output in terraform.outputs().items()}


def unlock(session: Session, *, lock_id: str) -> None:
    """Release the lock that a killed bootstrap left."""
    with _terraform(session) as (_, terraform, _):
        terraform.unlock(lock_id)


@contextlib.contextmanager
def _terraform(
    session: Session, prepare: Callable[[Aws, str], None] | None = None
) -> Iterator[tuple[Aws, Terraform, str]]:
    """The account, Terraform initialised in the bootstrap's root, and the
    bucket, which `prepare` makes first.

    Raises RefusedError in a merge request's job, which may have the
    credentials of another step. The sandbox has an account of its own,
    which any job may bootstrap.
    """
    project = session.project
    name = session.environment_name
    if project.context.mode is Mode.VERIFY and not session.sandbox:
        raise merge_request_read_only(name)
    root = chosen(project, session.say)
    if root == SHIPPED:
        refuse_names(project.config.project.name, name)
        refuse_own_roles(project.config.project.name, name, session.environment)
    endpoint = session.endpoint()
    credentials = session.target.admin if session.target is not None else ambient(project)
    aws = Aws(endpoint, credentials, account=session.environment.account_id)
    check_account(aws, name, session.environment)

    # Before Terraform: the bucket keeps the state of everything else.
    bucket = project.config.expanded(project.config.ledger.bucket, name)
    if prepare is not None:
        prepare(aws, bucket)
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


def _shown_changes(changes: Iterable[ResourceChange]) -> list[str]:
    """A line for each change, those first that destroy something."""
    found = []
    for change in sorted(changes, key=lambda change: (not change.destroys, change.address)):
        verb = "replace" if len(change.actions) > 1 else "".join(change.actions)
        if verb not in {"no-op", "read"}:
            found.append(f"{verb:<8} {change.address}")
    return found or ["only outputs change"]


def _shown(project: Project, root: Path) -> str:
    """A root as messages name it: a path in the repository, or cipipe's own."""
    top = project.repository.root
    return root.relative_to(top).as_posix() if root.is_relative_to(top) else "bootstrap"


def _variables(
    session: Session, bucket: str, providers: dict[str, Any], granted: Extra
) -> dict[str, Any]:
    """The variables of the root, but for what Terraform itself finds out."""
    project = session.project
    name = session.environment_name
    environment = session.environment
    verify_role = environment.verify_role_arn
    paths = {"deploy_role_path": _path(environment.role_arn)}
    if verify_role:
        paths["verify_role_path"] = _path(verify_role)
    if session.sandbox:
        # A sandbox's account has no policies of the team.
        granted = msgspec.structs.replace(granted, deploy_policy_arns=[], verify_policy_arns=[])
    return {
        "project": project.config.project.name,
        "environment": name,
        "region": environment.region,
        "account_id": environment.account_id,
        "bucket": bucket,
        "ledger_prefix": project.config.expanded(project.config.ledger.prefix, name),
        "deploy_role_name": environment.role_arn.rpartition("/")[2],
        "verify_role_name": verify_role.rpartition("/")[2] if verify_role else None,
        "identity_providers": providers,
        # A root that was copied from an earlier version may not have these.
        **{key: value for key, value in msgspec.to_builtins(granted).items() if value},
        **({"alarm_key": True} if project.config.bootstrap.alarm_key else {}),
        **{key: path for key, path in paths.items() if path != "/"},
    }


def _path(role_arn: str) -> str:
    """The path of a role, with a slash at both ends."""
    return role_arn.partition(":role")[2].rpartition("/")[0] + "/"


def _with_key(session: Session, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, with the ARN of the key that the bucket is encrypted
    with among `key_arns`: the roles need it.
    """
    key = (variables.get("bucket_encryption") or {}).get("key")
    if not key:
        return variables
    if "alias/" in key:
        session.progress.warning(
            f"the bucket is encrypted with {key}, and permissions are not given by alias: name a "
            "policy that allows to use its key in deploy_policies and verify_policies"
        )
        return variables
    if not key.startswith("arn:"):
        environment = session.environment
        partition = environment.role_arn.split(":")[1]
        here = f"{environment.region}:{environment.account_id}"
        key = f"arn:{partition}:kms:{here}:key/{key}"
    return {**variables, "key_arns": sorted({*variables.get("key_arns", []), key})}
