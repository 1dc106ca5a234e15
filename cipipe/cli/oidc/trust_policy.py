"""`cipipe oidc trust-policy`.

What the command line leaves out comes from cipipe.toml and from the job,
where there is one.
"""

import json as jsons

import click
import msgspec

from cipipe.cli.lazy import Choice
from cipipe.cli.options import Common, common
from cipipe.errors import UsageError
from cipipe.pipeline.project import Project
from cipipe.pipeline.trust.defaults import PROVIDERS, Defaults
from cipipe.pipeline.trust.options import TrustPolicyOptions
from cipipe.pipeline.trust.policy import make_policy
from cipipe.report import json

# Errors of a folder without a project: the command works there, from its
# options alone.
_NO_PROJECT = {"config-missing", "git-no-repository", "git-no-commit"}


@click.command("trust-policy")
@common(sandbox=False)
@click.option(
    "--provider",
    type=Choice(PROVIDERS),
    help="The provider of the tokens. Default: the one of [oidc], or the job's.",
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
    help="Protected refs only, and no merge requests. Default: where AWS can tell; --no-protected "
    "is for a role that reads.",
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
    """Write the least trust policy for tokens of one project, for some refs or one environment."""
    console = shared.console
    options = msgspec.convert(given, TrustPolicyOptions)
    defaults = Defaults(
        env=console.env,
        own=console.provider,
        project=_configured(shared),
        environment_name=shared.environment,
    )
    made = make_policy(options, defaults)
    for text in made.warnings:
        console.warning(text)
    if shared.format == "json":
        shared.answer(json.document(policy=made.document))
    else:
        shared.answer(jsons.dumps(made.document, indent=2) + "\n", json=True)


def _configured(shared: Common) -> Project | None:
    try:
        return shared.project()
    except UsageError as error:
        # Whoever names a configuration or an environment wants it to be
        # used.
        named = shared.config is not None or shared.environment is not None
        if named or error.id not in _NO_PROJECT:
            raise
        return None
