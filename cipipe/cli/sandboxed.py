"""`--sandbox`: bring the sandbox up around a command (or use the one that is kept), and bootstrap
its account.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe import ci
from cipipe.cli.options import Common
from cipipe.model import Environment
from cipipe.pipeline.project import Project
from cipipe.tools.own_folder import own_folder

if TYPE_CHECKING:
    from cipipe.config import Config
    from cipipe.pipeline.identity.access import AwsTarget
    from cipipe.sandbox.client import Sandbox


@contextlib.contextmanager
def sandboxed(
    shared: Common, project: Project, name: str, *, bootstrap: bool = True
) -> Iterator["AwsTarget | None"]:
    """The sandbox as the AWS target, for environment `name`; None where --sandbox was not asked for.

    A sandbox that this call starts ends with it, whatever happens.
    """
    if not shared.sandbox:
        yield None
        return
    from cipipe.sandbox import SandboxOptions, client, needs

    folder = folder_of(project)
    for tool, how in {**needs.missing(project.env), **without_docker(project)}.items():
        shared.console.warning(
            f"{tool} is not to be had on this machine; stages that need it are skipped ({how})"
        )
    with contextlib.ExitStack() as stack:
        kept = client.find(folder)
        if kept is None:
            shared.console.say("starting a sandbox: AWS services, OIDC issuer, image registry")
            kept = stack.enter_context(
                client.attached(
                    SandboxOptions(
                        directory=folder,
                        account_id=project.config.environment(name).account_id,
                        docker=not without_docker(project),
                        docker_data=data_root(project),
                    ),
                    env=project.env,
                    say=shared.console.say,
                )
            )
        target = target_of(project, name, kept)
        if bootstrap:
            bootstrap_once(shared, project, name, kept, target)
        yield target


def folder_of(project: Project) -> Path:
    """Where the sandbox keeps its state."""
    return Path(
        project.env.get("CIPIPE_SANDBOX_DIR") or own_folder(project.repository.root) / "sandbox"
    ).absolute()


def without_docker(project: Project) -> dict[str, str]:
    """Docker as a missing tool, where somebody wants a sandbox without it: it starts sooner, and
    skips the image.
    """
    if project.env.get("CIPIPE_SANDBOX_DOCKER") != "off":
        return {}
    return {"docker": "CIPIPE_SANDBOX_DOCKER is off"}


def data_root(project: Project) -> Path:
    """Where a private Docker daemon keeps its images; scripts/setup puts the base image there."""
    return own_folder(project.repository.root) / "docker"


def target_of(project: Project, name: str, sandbox: "Sandbox") -> "AwsTarget":
    from cipipe.pipeline.identity.access import AwsTarget, issuer_of

    own = project.context.provider
    flavour = (
        own
        if own in project.config.oidc
        else next(iter(project.config.oidc), next(iter(ci.PROVIDERS)))
    )
    settings, audience = project.config.oidc.get(flavour), issuer_of(project, flavour).audience

    def mint(environment: Environment) -> tuple[str, str]:
        allowed = environment.deploy_from
        ref_type, patterns = (
            ("branch", allowed.branches) if allowed.branches else ("tag", allowed.tags)
        )
        token = sandbox.mint(
            flavour=flavour,
            project=(settings.project if settings else None) or project.config.project.name,
            ref=(patterns[0] if patterns else "main").replace("*", "0"),
            ref_type=ref_type,
            audience=audience,
        )
        return token, audience

    admin = sandbox.admin_of(project.config.environment(name).account_id)
    return AwsTarget(sandbox.endpoint, admin, sandbox.child_env(), mint, sandbox.state.missing)


def bootstrap_once(
    shared: Common, project: Project, name: str, sandbox: "Sandbox", target: "AwsTarget"
) -> None:
    """Bootstrap the account of an environment, unless this sandbox has seen this very bootstrap
    already.
    """
    from cipipe.pipeline.bootstrap import account as use_case
    from cipipe.pipeline.bootstrap.root import chosen
    from cipipe.sandbox import state

    if "terraform" in target.missing:
        return
    root = chosen(project, shared.console.detail)
    digest = bootstrap_digest(project.config, root, started_at=sandbox.state.started_at)
    marker = folder_of(project) / f"bootstrapped-{name}"
    if marker.is_file() and marker.read_text() == digest:
        return
    shared.console.say(f"bootstrapping the account of {name}: bucket, OIDC providers, roles")
    outputs = use_case.bootstrap(
        project, name, redactor=shared.console.redactor, line=shared.console.detail, target=target
    )
    with state.create(marker) as stamp:
        stamp.write(digest.encode())
    shared.console.say(
        f"bootstrapped: this project's tokens may assume {outputs['deploy_role_arn']}"
    )


def bootstrap_digest(config: "Config", root: Path, *, started_at: str) -> str:
    """What a bootstrap is made from. A view of one environment has the digest of its whole
    configuration.
    """
    total = hashlib.sha256(f"{started_at} {config.whole or config}".encode())
    for file in sorted(root.glob("*.tf")):
        total.update(file.read_bytes())
    return total.hexdigest()
