"""Slim verification: which models of the dbt project a merge request changes.

The deployed image and the new one each parse their own project, with the same target and the same
variables: what depends on the environment is the same in both, and cancels out. Neither has
network or secrets, because the new one may be anybody's code.
"""

import posixpath

import msgspec

from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.image.dbt_runs import Parsing, compared, parse, run, unparsed
from cipipe.stages.image.dbt_settings import DbtProject
from cipipe.stages.image.deployed_project import DeployedProject, deployed_project
from cipipe.stages.image.models import (
    Manifest,
    ModelChanges,
    changes,
    large_seeds,
    listed,
    shown,
    summary,
)
from cipipe.stages.image.names import local_name
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.paths import repository_path

STATE = "/cipipe-state"
"""The folder of the deployed project's manifest, in the new image."""


class Comparison(msgspec.Struct, frozen=True):
    """The new project and the deployed one."""

    deployed: DeployedProject
    # Of the new project.
    manifest: Manifest
    changes: ModelChanges
    # Seeds that have changed and that dbt does not compare.
    seeds: frozenset[str]


def project_of(context: StageContext[ImageSettings]) -> DbtProject:
    """The setting `dbt`, without which there are no such steps."""
    dbt = context.stage.settings.dbt
    assert dbt is not None  # noqa: S101
    return dbt


def compare(context: StageContext[ImageSettings], result: StageResult) -> Comparison | None:
    """Name the models that change. None where nothing is deployed.

    Raises StageError if the new project cannot be parsed.
    """
    parsing = compared(project_of(context))
    new = parse(context, local_name(context), parsing).manifest
    deployed = deployed_project(context)
    if deployed is None:
        result.summary = "built; every model is new"
        return None

    old = deployed.manifest(parsing, new)
    seeds = _changed_seeds(context, large_seeds(old, new))
    found = changes(old, new, _modified(context, parsing, old) | seeds)
    for line in shown(found):
        context.line(line)
    result.summary = summary(found)
    result.findings["models"] = msgspec.to_builtins(found)
    return Comparison(deployed, new, found, frozenset(seeds))


def _modified(context: StageContext[ImageSettings], parsing: Parsing, old: Manifest) -> set[str]:
    """What dbt says is modified."""
    argv = ["dbt", "ls", "--select", "state:modified", "--state", STATE, "--output", "json"]
    argv += ["--output-keys", "unique_id"]
    files = {f"{STATE}/manifest.json": msgspec.json.encode(old)}
    done = run(context, local_name(context), parsing, argv=argv, files=files)
    # dbt succeeds, too, where nothing matches.
    if done.status != 0:
        raise unparsed(context, "dbt ls --select state:modified", done)
    return listed(done.printed)


def _changed_seeds(context: StageContext[ImageSettings], seeds: dict[str, str]) -> set[str]:
    """Those of the large seeds whose files differ from the deployed commit's."""
    record = context.previous
    if not seeds or record is None or not record.commit:
        return set()
    folder = repository_path(context.stage.settings.context)
    here = {entry.path: entry.oid for entry in context.entries}
    names = list(seeds)
    paths = [posixpath.normpath(posixpath.join(folder, seeds[name])) for name in names]
    there = context.repository.objects([f"{record.commit}:{path}" for path in paths])
    changed = set()
    for name, path, found in zip(names, paths, there, strict=True):
        if found is None:
            context.line(
                f"warning: {name} is too large for dbt to compare, and the deployed commit "
                f"{record.commit[:12]} is not in this clone: it counts as modified"
            )
        if found is None or here.get(path.encode(errors="surrogateescape")) != found.oid.encode():
            changed.add(name)
    return changed
