"""`cipipe init`."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from cipipe.cli.confirm import can_ask
from cipipe.cli.lazy import Choice
from cipipe.cli.options import Common, common
from cipipe.errors import RefusedError, UsageError
from cipipe.report import json
from cipipe.tools.git.client import Repository

if TYPE_CHECKING:
    from cipipe.pipeline.adoption.configuration import Answers
    from cipipe.pipeline.adoption.survey import Survey


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says, and whether the rest may be asked for."""

    project: str | None
    accounts: dict[str, str]
    account: str | None
    region: str | None
    provider: str | None
    repository: str | None
    dags_bucket: str | None
    asks: bool


@click.command
@common(sandbox=False)
@click.option("--project", metavar="NAME", help="The project's name.")
@click.option(
    "--environments", metavar="NAMES", help="With commas, in the order of deployment: dev,live."
)
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="[ENV=]ID",
    help="The account of all environments, or of one.",
)
@click.option("--region", metavar="REGION", help="The AWS region.")
@click.option("--provider", type=Choice(("gitlab", "github")), help="Where pipelines run.")
@click.option("--repository", metavar="URL", help="The ECR repository, if no output has it.")
@click.option("--dags-bucket", metavar="NAME", help="MWAA's bucket, if no output has it.")
@click.option(
    "--component", metavar="ADDRESS", help="Let GitLab's pipeline use cipipe's component there."
)
@click.option(
    "--workflow", metavar="ADDRESS", help="Let GitHub's pipeline use cipipe's workflow there."
)
@click.option("--image", metavar="IMAGE", help="cipipe's container image, for the jobs of both.")
@click.option("-y", "--yes", is_flag=True, help="Take what was found; do not ask.")
@click.option("--force", is_flag=True, help="Overwrite a cipipe.toml that differs.")
def init(
    shared: Common,
    project: str | None,
    environments: str | None,
    accounts: tuple[str, ...],
    region: str | None,
    provider: str | None,
    repository: str | None,
    dags_bucket: str | None,
    component: str | None,
    workflow: str | None,
    image: str | None,
    yes: bool,
    force: bool,
) -> None:
    """Write the first cipipe.toml for this repository, from what it contains."""
    from cipipe import ci, config
    from cipipe.config.names import NAME
    from cipipe.pipeline.adoption import configuration, files, pipelines, writing
    from cipipe.pipeline.adoption.survey import survey

    clone = Repository.discover(Path.cwd(), ci.without_secrets(shared.console.env))
    pairs = [text.rpartition("=") for text in accounts]
    given = _Given(
        project=project,
        accounts={name: number for name, _, number in pairs if name},
        account=next((number for name, _, number in pairs if not name), None),
        region=region,
        provider=provider,
        repository=repository,
        dags_bucket=dags_bucket,
        asks=not yes and can_ask(),
    )
    if component and not image:
        raise click.UsageError("--component needs --image: the component has no image of its own")
    names = tuple(name.strip() for name in (environments or "").split(",") if name.strip())
    for name in names:
        if not NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r} is not a name", param_hint="--environments")
    unknown = ", ".join(name for name in given.accounts if names and name not in names)
    if unknown:
        raise click.BadParameter(f"no environment is called {unknown}", param_hint="--account")
    found = survey(files.read(clone), names)
    if not found.roots and found.image is None and found.dags is None:
        raise UsageError(
            "init-nothing-found",
            "this repository has no Terraform root, no dbt project with a Dockerfile, and no DAG",
            hint="Run it where they are; docs/configuration.md has an example to start from.",
            where=str(clone.root),
        )
    answers = msgspec.structs.replace(
        _answers(found, given, clone), component=component, workflow=workflow, image=image
    )
    top = clone.root.resolve()
    wanted = {config.FILE_NAME: configuration.render(found, answers)}
    kept = []
    for path, text in pipelines.pipelines(found, answers).items():
        # What is there stays as it is, and a folder may be a link.
        if not os.path.lexists(top / path) and (top / path).resolve() == top / path:
            wanted[path] = text
        elif path not in found.pipelines and writing.differs(top, path, text):
            kept.append(path)
    written = _write(clone.root, wanted, (given.asks, force))
    _report(shared, found, written, kept if config.FILE_NAME in written.names else [])


def _answers(found: "Survey", given: _Given, clone: Repository) -> "Answers":
    """What is given, found or asked for. Raises UsageError with all that is missing."""
    from cipipe.pipeline.adoption.configuration import Answers

    missing: list[str] = []

    def answer(question: str, known: str | None, flag: str, *, sure: bool) -> str:
        if given.asks and not sure:
            check = _checked(flag.split(maxsplit=1)[0])
            return str(click.prompt(question, default=known, err=True, value_proc=check))
        if known is None:
            missing.append(flag)
        return known or ""

    providers = _providers(clone.remotes(), given.provider)
    called = next((path for _, path in providers.values()), clone.root.name).rpartition("/")[2]
    # As `cipipe bootstrap` wants it, which puts it into names of resources.
    slug = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")[:24].strip("-") or "project"
    slug = slug if slug[0].isalpha() else f"p-{slug}"[:24]
    name = answer("Project", given.project or slug, "--project", sure=given.project is not None)
    accounts = {}
    regions = {}
    for environment in found.environments:
        number = given.accounts.get(environment) or given.account
        flag = f"--account {environment}=ID"
        known = number or found.accounts.get(environment)
        accounts[environment] = answer(
            f"AWS account of {environment}", known, flag, sure=number is not None
        )
        known = given.region or found.regions.get(environment)
        regions[environment] = answer(
            f"Region of {environment}", known, "--region REGION", sure=given.region is not None
        )
    # They must not share these.
    each = ", with {environment} for the environment" if len(found.environments) > 1 else ""
    repository = given.repository
    if found.image is not None and "repository" not in found.outputs and repository is None:
        question = f"URL of the ECR repository{each}"
        repository = answer(question, None, "--repository URL", sure=False)
    bucket = given.dags_bucket
    if found.dags is not None and "bucket" not in found.outputs and bucket is None:
        bucket = answer(f"MWAA's bucket{each}", None, "--dags-bucket NAME", sure=False)
    if missing:
        raise UsageError(
            "init-missing-answers",
            "not found in this repository: " + ", ".join(dict.fromkeys(missing)),
            hint="Pass these options, or run cipipe init on a terminal, where it asks.",
        )
    return Answers(
        project=name,
        branch=clone.default_branch() or clone.branch() or "main",
        accounts=accounts,
        regions=regions,
        providers=providers,
        repository=repository,
        dags_bucket=bucket,
    )


# What the answer to the question of an option looks like.
_ANSWERS = {
    # As `cipipe bootstrap` wants it.
    "--project": (
        r"(?=.{1,24}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*",
        "lower-case letters, digits and single hyphens, at most 24",
    ),
    "--account": (r"[0-9]{12}", "12 digits"),
    "--region": (r"[a-z]{2,}(-[a-z]+)+-[0-9]", "an AWS region, such as eu-central-1"),
    "--repository": (r"[\w.{}-]+(:[0-9]+)?(/[\w.{}-]+)+", "HOST/NAME, without https:// and tag"),
    "--dags-bucket": (r"[a-z0-9{][\w.{}-]+", "the name of a bucket, without s3://"),
}


def _checked(option: str) -> Callable[[str], str]:
    """What refuses a wrong answer, so that click asks again."""
    pattern, described = _ANSWERS[option]

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text.strip(), re.ASCII):
            raise click.BadParameter(f"it has to be {described}")
        return text.strip()

    return check


def _providers(remotes: Mapping[str, str], wanted: str | None) -> dict[str, tuple[str, str]]:
    """The project at each provider that a remote names, `origin` first."""
    from cipipe.pipeline.adoption.survey import project_at

    found: dict[str, tuple[str, str]] = {}
    for name in sorted(remotes, key=lambda name: (name != "origin", name)):
        place = project_at(remotes[name])
        if place is None:
            continue
        provider = next((kind for kind in ("github", "gitlab") if kind in place[0]), None)
        if wanted is not None and provider is None and name == "origin":
            provider = wanted
        if provider is not None and wanted in {None, provider}:
            found.setdefault(provider, place)
    return found


class _Written(msgspec.Struct, frozen=True):
    names: list[str]
    # Empty where it was shown already.
    diff: str


def _write(
    root: Path,
    made: Mapping[str, str],
    consent: tuple[bool, bool],
) -> _Written:
    from cipipe import config
    from cipipe.config.schema import schema
    from cipipe.pipeline.adoption import configuration, writing

    # What would be refused later is not written.
    config.load(made[config.FILE_NAME].encode())
    document = msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"
    wanted = {
        **made,
        configuration.SCHEMA_FILE: document,
        ".gitignore": writing.ignoring(writing.current(root / ".gitignore")),
    }
    changes = writing.changes(root, wanted)
    shown = [name for name in changes if name != configuration.SCHEMA_FILE]
    diff = "".join(writing.diff(root, name, changes[name]) for name in shown)

    asks, force = consent
    differs = config.FILE_NAME in changes and (root / config.FILE_NAME).exists()
    if changes and asks:
        click.echo(diff, err=True)
        if not click.confirm(f"Write {', '.join(changes)}?", default=not differs, err=True):
            raise _refused("this was not confirmed; nothing was written")
    elif differs and not force:
        raise _refused(f"{config.FILE_NAME} exists and differs; nothing was written\n{diff}")
    for name, new in changes.items():
        writing.write(root / name, new)
    return _Written(list(changes), "" if asks else diff)


def _refused(message: str) -> RefusedError:
    return RefusedError(
        "init-would-overwrite",
        message,
        hint="Pass --force to overwrite it, or edit the file by hand.",
        where="cipipe.toml",
    )


def _report(shared: Common, found: "Survey", written: _Written, kept: list[str]) -> None:
    """`kept`: pipelines that another configuration than this one was made for."""
    names = written.names
    if shared.format == "json":
        parts = msgspec.to_builtins(found)
        for root in parts["roots"]:
            root["outputs"] = sorted(root["outputs"])
            # The block may have secrets in it.
            del root["settings"]
        shared.answer(json.document(found=parts, written=names, kept=kept))
        return
    lost = [root.path for root in found.roots if root.backend in {None, "local", "inmem"}]
    lines = [f"wrote {', '.join(names)}" if names else "nothing to change"]
    lines += [f'add a block such as backend "s3" {{}} to the root {path}' for path in lost]
    lines += [f"{path} stays as it is: let a job of it call cipipe run" for path in found.pipelines]
    every = ", ".join(found.environments)
    lines += [f"{path} stays as it is: look whether it deploys to {every}" for path in kept]
    if found.dags is not None and found.dags.startup is not None:
        lines.append(f"{found.dags.startup} is not uploaded: Terraform has MWAA's startup script")
    if found.dags is not None and (found.dags.plugins or found.dags.requirements):
        lines.append(
            "let Terraform ignore the versions of requirements.txt and plugins.zip: "
            "docs/configuration.md, kind = dags"
        )
    lines.append("next: cipipe check, commit, cipipe plan --offline, cipipe bootstrap")
    shared.answer(written.diff + "\n".join(lines) + "\n")
