"""The `terraform` kind: init → plan to a file → check → apply exactly that file → outputs into the
ledger.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.errors import Problem, RefusedError
from cipipe.model import Effect, Environment, Mode, Output, partition_of
from cipipe.stages.base import (
    MOST_READ,
    Input,
    Needed,
    Resource,
    ResourceType,
    Setting,
    Stage,
    StageContext,
    StageResult,
    Step,
    consumes_nothing,
    literal,
    outside,
    owns_nothing,
    repository_path,
)
from cipipe.stages.base import Settings as BaseSettings
from cipipe.stages.links import Links
from cipipe.stages.terraform_root import CommandContext, Root, backend, client
from cipipe.tools.git.client import Repository
from cipipe.tools.terraform.backend import NOT_KEPT, Backend, Value

if TYPE_CHECKING:
    from cipipe.tools.terraform.client import Terraform
    from cipipe.tools.terraform.shown import Change

NAME = "terraform"

PATHS = ("root",)

consumes, owns = consumes_nothing, owns_nothing

_SHOWN = 10
_LOADED = (".tf", ".tf.json", ".tfvars", ".tfvars.json")
_MODULE = (".tf", ".tf.json")
_ROOT = (*_MODULE, "terraform.tfvars", ".auto.tfvars", ".terraform.lock.hcl")

_NAMING = {
    "address",
    "key",
    "path",
    "prefix",
    "schema_name",
    "conn_str",
    "workspaces",
    "secret_suffix",
}
"""Settings by which backends tell one state from another, unless the environment has them."""

_NAMED_IN_FILES = {"azurerm", "cloud", "cos", "gcs", "oss", "remote"}
"""Types that take the name of the state from the root's files where the settings do not have it, or
use a fixed one.
"""

_STORING = {
    "bucket",
    "container_name",
    "hostname",
    "namespace",
    "organization",
    "storage_account_name",
}
"""Settings that tell where a backend keeps its states. All others are about how it is reached."""

PROTECTED_TYPES = (
    "aws_db_instance",
    "aws_dynamodb_table",
    "aws_ecr_repository",
    "aws_efs_file_system",
    "aws_kms_key",
    "aws_mwaa_environment",
    "aws_rds_cluster",
    "aws_redshift_cluster",
    "aws_s3_bucket",
    "aws_secretsmanager_secret",
    "aws_vpc",
)


class Settings(BaseSettings, frozen=True):
    """`root` is a folder of the repository; `var_files` lie below it.

    `backend` holds the settings of Terraform's backend, and its `type`: S3 if left out.
    """

    root: str
    backend: dict[str, Value] = {}
    workspace: str | None = None
    var_files: tuple[str, ...] = ()
    variables: dict[str, Setting] = {}
    protected_types: tuple[str, ...] = PROTECTED_TYPES


def problems(stage: Stage[Settings]) -> Iterable[Problem]:
    settings = stage.settings
    yield from outside(settings.root, "root")
    for number, name in enumerate(settings.var_files):
        yield from outside(f"{settings.root}/{name}", f"var_files[{number}]")
    kind = settings.backend.get("type", "s3")
    if kind in NOT_KEPT:
        yield Problem(
            "terraform-state-not-kept",
            f"a state in backend {kind!r} is lost with the job",
            "backend.type",
            "Leave `type` out for S3, or name a backend that keeps the state.",
        )
    elif kind == "s3" and ("bucket" not in settings.backend or "key" not in settings.backend):
        yield Problem(
            "config-missing-key",
            "the S3 backend needs `bucket` and `key`",
            "backend",
            'backend = { bucket = "…", key = "terraform/{project}/{environment}.tfstate" }',
        )


def resources(stage: Stage[Settings], environment: Environment) -> Iterator[Resource]:
    settings = stage.settings
    kind, bucket, key = (settings.backend.get(name) for name in ("type", "bucket", "key"))
    workspace = (
        f" (workspace {settings.workspace})" if settings.workspace not in {None, "default"} else ""
    )
    if kind in {None, "s3"} and bucket and key:
        yield Resource(
            type=ResourceType.STATE,
            name=f"{partition_of(environment.region)}:s3/{bucket}/{_object(settings, str(key))}",
            shown=f"s3://{bucket}/{key}{workspace}",
            key="backend",
            hint='Name the environment in it, such as key = "terraform/{project}/{environment}.tfstate".',
        )
    elif _NAMING & settings.backend.keys() or kind in _NAMED_IN_FILES:
        telling = sorted(settings.backend.keys() & (_NAMING | _STORING))
        given = ", ".join(f"{name} = {settings.backend[name]!r}" for name in telling)
        if not _NAMING & settings.backend.keys():
            given = f"{given} in {repository_path(settings.root)}"  # its block says the rest
        yield Resource(
            type=ResourceType.STATE,
            name=f"{kind}: {given}{workspace}",
            shown=f"backend {kind}{workspace}",
            key="backend",
            hint="Name the environment in its address, path, prefix or key, or in the stage's `workspace`.",
        )


def _object(settings: Settings, key: str) -> str:
    """The key of the object that S3's backend keeps the state in."""
    if settings.workspace in {None, "default"}:
        return key
    return f"{settings.backend.get('workspace_key_prefix', 'env:')}/{settings.workspace}/{key}"


def needed(stage: Stage[Settings]) -> Iterator[Needed]:
    settings = stage.settings
    root = repository_path(settings.root)
    yield Needed(key="root", path=root, folder=True, on_disk=True)
    for number, file in enumerate(settings.var_files):
        yield Needed(key=f"var_files[{number}]", path=repository_path(root, file), on_disk=True)


def tools(stage: Stage[Settings]) -> tuple[str, ...]:  # noqa: ARG001
    return ("terraform",)


def inputs(stage: Stage[Settings], repository: Repository, tree: str) -> Iterator[Input]:
    """The root, its variable files, the local modules that it uses, through and through, and paths
    that these read.
    """
    settings = stage.settings
    root = repository_path(settings.root)
    yield Input(root, "root", endings=_ROOT, flat=True)
    for number, file in enumerate(settings.var_files):
        yield Input(repository_path(root, file), f"var_files[{number}]")

    links = Links(repository, tree)
    seen, waiting = {root}, [root]
    while waiting:
        folder = waiting.pop()
        for name, body in _files(links, folder):
            from cipipe.stages import hcl

            for found in hcl.taken_from_json(body) if name.endswith(".json") else hcl.taken(body):
                told = f"{repository_path(folder, name)}:{found.line}"
                path = links.followed(
                    repository_path(root if found.base == "root" else folder, found.path)
                )
                if found.pattern is not None:
                    for wild in hcl.alternatives(found.pattern):
                        yield Input(path, told, wild=wild, flat=True)
                elif not found.is_module:
                    yield Input(path, told)
                elif path not in seen:
                    seen.add(path)
                    waiting.append(path)
                    yield Input(path, told, endings=_MODULE, flat=True)


def _files(links: Links, folder: str) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a module's files, links followed."""
    listed = links.listing(folder)
    files = {name: links.file(folder, name) for name in listed if name.endswith(_MODULE)}
    entries = {name: entry for name, entry in files.items() if entry is not None}
    blobs = links.repository.blobs(entries.values())
    for name, entry in sorted(entries.items()):
        body = blobs.get(entry.path, b"")
        if len(body) <= MOST_READ:
            yield name, body


def steps(stage: Stage[Settings], mode: Mode, *, tag: str) -> tuple[Step, ...]:  # noqa: ARG001
    job = _Job(stage.settings)
    root = job.settings.root
    init = Step(f"terraform init in {root}/", Effect.READ, job.init)
    if mode is Mode.VERIFY:
        return (
            init,
            Step(f"terraform plan in {root}/ (no lock, nothing is applied)", Effect.READ, job.plan),
        )
    if mode is Mode.DESTROY:
        return (
            init,
            Step(f"terraform plan -destroy in {root}/", Effect.READ, job.plan),
            Step("look for what would block it", Effect.READ, job.look_for_blocks),
            Step(
                "deregister the task definitions that terraform would leave",
                Effect.DESTROY,
                job.deregister,
            ),
            Step(
                "terraform apply that plan: destroy everything in the state",
                Effect.DESTROY,
                job.apply,
            ),
        )
    return (
        init,
        Step("create an empty Terraform state if there is none", Effect.WRITE, job.create_state),
        Step(f"terraform plan in {root}/", Effect.READ, job.plan),
        Step("terraform apply that plan", Effect.WRITE, job.apply),
        Step("keep the outputs in the ledger", Effect.WRITE, job.keep_outputs),
    )


class _Job:
    """What one run of the stage carries from step to step: the folder with the saved plan, and what
    it changes.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._changes: tuple[Change, ...] = ()
        self._plan: Path | None = None

    def init(self, context: StageContext[Settings], _: StageResult) -> None:
        self._refuse_ignored(context)
        client_of(context).init()

    def create_state(self, context: StageContext[Settings], _: StageResult) -> None:
        client_of(context).create_state()

    def plan(self, context: StageContext[Settings], result: StageResult) -> None:
        settings = context.stage.settings
        terraform = client_of(context)
        if context.mode is not Mode.DEPLOY and not terraform.has_workspace():
            # Planning would create it, and this mode writes no state.
            result.summary = f"workspace {settings.workspace} does not exist yet"
            context.line(
                f"{result.summary}: there is nothing to compare with, so nothing was planned"
            )
            return
        # The plan holds values of the state: it lies in a private folder, which goes when the run
        # ends.
        self._plan = context.scratch / "terraform.tfplan"
        # In a file, because a command line is there for every user of the machine to read.
        variables = context.scratch / "stage.tfvars.json"
        variables.write_bytes(
            msgspec.json.encode({n: literal(v) for n, v in settings.variables.items()})
        )
        changed = terraform.plan(
            self._plan,
            var_files=(*settings.var_files, str(variables)),
            destroy=context.mode is Mode.DESTROY,
            lock=context.mode is not Mode.VERIFY,
        )
        self._changes = terraform.changes(self._plan) if changed else ()
        if context.mode is not Mode.DESTROY and not context.allow_replace:
            self._refuse_loss(settings)
        result.summary = summary(self._changes, done=context.mode is not Mode.VERIFY)

    def apply(self, context: StageContext[Settings], _: StageResult) -> None:
        if self._plan is None:
            return  # there is no workspace, so nothing to destroy
        # An empty plan is applied too: it may hold changed outputs, which are no resource's change.
        client_of(context).apply(self._plan)

    def look_for_blocks(self, context: StageContext[Settings], _: StageResult) -> None:
        """Terraform cannot delete a bucket that holds anything: say so now, before anything else is
        gone.
        """
        for change in self._changes:
            if change.type != "aws_s3_bucket" or change.before.get("force_destroy"):
                continue
            bucket = str(change.before["bucket"])
            foreign = sorted(
                {f"s3://{bucket}/{key}" for key in context.aws.bucket(bucket).all_keys()}
                - context.owned
            )
            if foreign:
                more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
                raise RefusedError(
                    "destroy-foreign-objects",
                    f"{change.address} holds objects that no stage owns: {', '.join(foreign[:_SHOWN])}{more}",
                    hint="Move or delete them first, all versions included. Nothing was deleted.",
                    where=context.stage.name,
                )

    def deregister(self, context: StageContext[Settings], _: StageResult) -> None:
        """`skip_destroy` keeps every revision of a task definition runnable; with the environment
        they go all the same.

        Before the state is destroyed, because the state alone knows their families.
        """
        families = {
            str(change.before["family"])
            for change in self._changes
            if change.type == "aws_ecs_task_definition" and change.before.get("skip_destroy")
        }
        for family in sorted(families):
            pages = context.aws.pages(
                "ecs", "list_task_definitions", familyPrefix=family, status="ACTIVE"
            )
            for arn in [arn for page in pages for arn in page["taskDefinitionArns"]]:
                if arn.rpartition("/")[2].rpartition(":")[0] == family:
                    context.aws.call("ecs", "deregister_task_definition", taskDefinition=arn)
                    context.line(f"deregistered {arn}")

    def keep_outputs(self, context: StageContext[Settings], result: StageResult) -> None:
        result.outputs = {
            name: Output(
                type=o.get("type"), value=o.get("value"), sensitive=bool(o.get("sensitive"))
            )
            for name, o in client_of(context).outputs().items()
        }
        result.data = {"outputs": sorted(result.outputs)}

    def _refuse_ignored(self, context: StageContext[Settings]) -> None:
        """Terraform loads files that git ignores, and nobody would know what was deployed."""
        root = context.stage.settings.root
        found = [
            path.decode(errors="backslashreplace") for path in context.repository.ignored(root)
        ]
        loaded = [path for path in found if path.endswith(_LOADED) and "/.terraform/" not in path]
        if loaded:
            raise RefusedError(
                "terraform-ignored-files",
                f"Terraform would load files that are not in the commit: {', '.join(loaded[:_SHOWN])}",
                hint="Commit them, or move them elsewhere. Values of one environment belong into its var file.",
                where=root,
            )

    def _refuse_loss(self, settings: Settings) -> None:
        # One that an interrupted run left half-made is replaced: it holds nothing yet, and running
        # again finishes.
        lost = [
            c
            for c in self._changes
            if c.destroys and not c.tainted and c.type in settings.protected_types
        ]
        if lost:
            names = "\n".join(
                f"  {change.address}: {' and '.join(change.actions)}" for change in lost
            )
            raise RefusedError(
                "terraform-protected-resource",
                f"the plan deletes or replaces resources that hold data:\n{names}",
                hint="If that is meant, run again with --allow-replace. Nothing was applied.",
                where=settings.root,
            )


def client_of(context: StageContext[Settings]) -> "Terraform":
    """Terraform for a run of the stage."""
    settings = context.stage.settings
    variables = {
        "TF_VAR_project": context.project,
        "TF_VAR_environment": context.environment_name,
        "TF_VAR_region": context.environment.region,
        "TF_VAR_account_id": context.environment.account_id,
    }
    root = Root(
        folder=context.repository.root / settings.root,
        shown=settings.root,
        stage=context.stage.name,
        backend=backend_of(settings, context.environment, sandbox=context.sandbox),
    )
    command = CommandContext(
        top=context.repository.root,
        environment_name=context.environment_name,
        env={**context.child_env, **variables},
        redactor=context.redactor,
        line=context.line,
        command_options=context.command_options,
        interrupt=context.interrupt,
        login=context.state_login,
    )
    return client(root, command)


def backend_of(settings: Settings, environment: Environment, *, sandbox: bool) -> Backend:
    """Where a stage's state is kept."""
    given = {key: value for key, value in settings.backend.items() if key != "type"}
    kind = str(settings.backend.get("type", "s3"))
    return backend(kind, given, environment, workspace=settings.workspace, sandbox=sandbox)


def summary(changes: "Iterable[Change]", *, done: bool = True) -> str:
    """`3 added, 1 changed, 0 destroyed`, or `3 to add, …`; as Terraform counts, a replacement is
    one of each.
    """
    found = [change.actions for change in changes]
    counts = [sum(word in actions for actions in found) for word in ("create", "update", "delete")]
    if not any(counts):
        return "no resource changes"
    words = ("added", "changed", "destroyed") if done else ("to add", "to change", "to destroy")
    return ", ".join(f"{count} {word}" for count, word in zip(counts, words, strict=True))
