"""Builds what a merge request changes, in the warehouse.

The new image runs `dbt build` of what differs from the deployed project, and of all below it.
References to everything else lead to the deployed relations. It writes to the schemas of its
target, and to nothing that is cipipe's.
"""

from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import StageError, UsageError
from cipipe.stages.context import StageContext, StageResult
from cipipe.stages.image import dbt_runs
from cipipe.stages.image.dbt_settings import DbtBuild
from cipipe.stages.image.models import selectors
from cipipe.stages.image.names import local_name
from cipipe.stages.image.run_results import RunResults, run_results
from cipipe.stages.image.settings import ImageSettings
from cipipe.stages.image.slim import STATE, Comparison, project_of
from cipipe.stages.settings import references

if TYPE_CHECKING:
    from cipipe.tools.docker.probe import ProbeResult

# The folder of the manifest that names the deployed relations.
_DEFERRED = "/cipipe-deferred"

# Seconds that dbt gets to cancel its queries.
_GRACE = 15

# Nodes that an error names, and characters of what dbt says of each.
_SHOWN = 10
_LONGEST = 300


def build(
    context: StageContext[ImageSettings], result: StageResult, found: Comparison | None
) -> None:
    """Build what the comparison found. Raises StageError where that fails,
    and UsageError where a secret is not set.
    """
    wanted = project_of(context).build
    assert wanted is not None  # noqa: S101  (there would be no such step)
    why_not = _why_not(wanted, found)
    if found is None or why_not:
        context.line(f"nothing is built: {why_not}")
        return

    done = _built(context, wanted, found, secrets=_secrets(context, wanted))
    results = run_results(done.file)
    if done.status != 0 or results is None:
        raise _failed(context, done, results)
    result.summary += f"; built: {results}" if results.results else "; nothing to build"
    result.findings["build"] = results.counts


def _why_not(wanted: DbtBuild, found: Comparison | None) -> str:
    """Why there is nothing to build; empty if there is."""
    if found is None:
        return "no relations are deployed that references could lead to"
    if not found.changes.modified:
        return "the merge request neither adds nor changes a node"
    unknown = [str(one.output) for _, one in references(wanted)]
    return f"the output {unknown[0]} is not known yet" if unknown else ""


def _built(
    context: StageContext[ImageSettings],
    wanted: DbtBuild,
    found: Comparison,
    secrets: dict[str, str],
) -> "ProbeResult":
    dbt = project_of(context)
    parsing = dbt_runs.built(dbt, wanted)
    state = found.deployed.manifest(parsing, found.manifest)
    deferred = found.deployed.manifest(dbt_runs.deferred(dbt, wanted), found.manifest)
    # Without --favor-state, what an earlier build left in the target would
    # take the place of what is deployed.
    argv = ["dbt", "build", "--select", "state:modified+"]
    argv += selectors(found.manifest, found.seeds)
    argv += ["--state", STATE, "--defer", "--defer-state", _DEFERRED, "--favor-state"]
    return dbt_runs.run(
        context,
        local_name(context),
        parsing,
        secrets,
        argv=argv,
        files={
            f"{STATE}/manifest.json": msgspec.json.encode(state),
            f"{_DEFERRED}/manifest.json": msgspec.json.encode(deferred),
        },
        result=f"{dbt_runs.TARGET}/run_results.json",
        network=wanted.network,
        timeout=wanted.timeout,
        grace=_GRACE,
        shown=True,
    )


def _secrets(context: StageContext[ImageSettings], wanted: DbtBuild) -> dict[str, str]:
    """The values by the container's variables."""
    found = {}
    for name, variable in wanted.secrets.items():
        value = context.child_env.get(variable)
        if not value:
            raise UsageError(
                "image-secret-missing",
                f"the variable {name} of dbt's build comes from the environment variable "
                f"{variable}, which is not set",
                hint=f"Set {variable} in the job, as a masked variable.",
                where=f"stages.{context.stage.name}.dbt.build.secrets.{name}",
            )
        context.redactor.register(value)
        found[name] = value
    return found


def _failed(
    context: StageContext[ImageSettings],
    done: "ProbeResult",
    results: RunResults | None,
) -> StageError:
    message = f"dbt build of what changed {dbt_runs.outcome(done)}"
    bad = results.bad if results else []
    if results and results.results:
        message += f": {results}"
    for one in bad[:_SHOWN]:
        message += f"\n{one.status:<6} {one.name}: {one.message[:_LONGEST]}"
    if not bad:
        message += f"\n{dbt_runs.tail(context, done)}"
    return StageError(
        "image-models-build-failed",
        context.redactor.text(message),
        hint="Correct what fails. If it cannot reach the warehouse, look at `dbt.build` of the "
        "stage: its variables, secrets and network.",
        where=f"stages.{context.stage.name}.dbt.build",
    )
