"""What is different from a stage's record: its objects in the bucket, the versions that MWAA
installs, the task definitions that its DAGs run.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cipipe.model import Record
from cipipe.results import DriftFinding
from cipipe.stages.context import StageContext
from cipipe.stages.dags.bucket import manifest
from cipipe.stages.dags.bucket.inventory import Inventory, InventoryEntry, inventory
from cipipe.stages.dags.bucket.parallel import in_parallel
from cipipe.stages.dags.mwaa import environment as mwaa
from cipipe.stages.dags.settings import Settings
from cipipe.tools.aws.errors import AwsError

_TASK_DEFINITION = re.compile(rb"arn:[a-z-]+:ecs:[a-z0-9-]+:\d{12}:task-definition/[\w-]+:\d+")

_MISSING = {"ClientException", "ResourceNotFoundException", "NotFoundException"}
"""AWS's codes for what is not there; ECS has none of its own."""


def findings(
    context: StageContext[Settings], records: Mapping[str, Record]
) -> Iterator[DriftFinding]:
    """Ask S3, MWAA and ECS. Raises StageError."""
    record = context.previous
    assert record is not None  # noqa: S101  (without one there is nothing to compare)
    found = inventory(context, record)
    yield from _objects(context, found)
    yield from _installed(context, record.data.get("mwaa") or {})
    yield from _task_definitions(context, found, records)


def _objects(context: StageContext[Settings], found: Inventory) -> Iterator[DriftFinding]:
    entries = (context.previous.data if context.previous else {}).get("manifest") or {}
    for file in found.drifted:
        missing = file.state == "missing"
        yield _finding(
            context,
            kind="object-missing" if missing else "object-changed",
            what=f"s3://{found.bucket}/{file.key}",
            expected=_recorded(file, entries[file.key].get("version")),
            actual="no object" if missing else _present(file),
            hint=f"Upload it again: cipipe dags deploy --stage {context.stage.name} "
            f"{context.again}",
        )


def _recorded(file: InventoryEntry, version: str | None) -> str:
    return f"version {version or 'null'}, SHA-256 {(file.sha256 or 'unknown')[:12]}"


def _present(file: InventoryEntry) -> str:
    # A bucket without versioning shows a change by the content only.
    return f"version {file.version}" if file.version != "null" else "other content"


def _installed(
    context: StageContext[Settings], recorded: Mapping[str, Any]
) -> Iterator[DriftFinding]:
    """The versions of requirements and plugins that the MWAA environment runs."""
    if not recorded:
        return
    name = str(recorded["environment"])
    try:
        found = mwaa.environment(context, name)
    except AwsError as error:
        if error.code not in _MISSING:
            raise
        yield _finding(
            context,
            kind="mwaa-missing",
            what=f"MWAA environment {name}",
            expected="there",
            actual="there is no such environment",
            hint="Compare the terraform stage that creates it, and apply that.",
        )
        return

    for key, version in sorted(recorded["versions"].items()):
        runs = mwaa.version_of(found, key)
        if runs != version:
            yield _finding(
                context,
                kind="mwaa-version",
                what=f"{key} of MWAA environment {name}",
                expected=f"version {version}",
                actual=f"version {runs}" if runs else "no version is set",
                hint=f"Have it installed again: cipipe run {context.stage.name} "
                f"--force {context.stage.name} {context.again}",
            )


def _task_definitions(
    context: StageContext[Settings], found: Inventory, records: Mapping[str, Record]
) -> Iterator[DriftFinding]:
    """The task definitions whose ARNs are in the uploaded files."""
    bucket = context.aws.bucket(str(found.bucket))
    python = [file.key for file in found.files if file.state == "ok" and file.key.endswith(".py")]
    pinned = set()
    for _, stored in in_parallel(bucket.get, python):
        if stored is not None:
            pinned |= {arn.decode() for arn in _TASK_DEFINITION.findall(stored.body)}

    for arn in sorted(pinned):
        yield from _task_definition(context, arn, records)


def _task_definition(
    context: StageContext[Settings], arn: str, records: Mapping[str, Record]
) -> Iterator[DriftFinding]:
    again = (
        f"Register one again: cipipe run {context.again}, with --force for the "
        "terraform stage that defines it."
    )
    try:
        answer = context.aws.call("ecs", "describe_task_definition", taskDefinition=arn)
    except AwsError as error:
        if error.code not in _MISSING:
            raise
        yield _finding(
            context,
            kind="task-definition-missing",
            what=arn,
            expected="ACTIVE",
            actual="ECS does not have it",
            hint=again,
        )
        return

    definition = answer["taskDefinition"]
    status = str(definition.get("status"))
    if status != "ACTIVE":
        yield _finding(
            context,
            kind="task-definition-inactive",
            what=arn,
            expected="ACTIVE",
            actual=status,
            hint=again,
        )
    # After a rollback, the DAGs run the image of their own time.
    data = context.previous.data if context.previous else {}
    if manifest.RESTORED in data:
        return
    for container in definition.get("containerDefinitions", ()):
        yield from _image(context, arn, container, records)


def _image(
    context: StageContext[Settings],
    arn: str,
    container: Mapping[str, Any],
    records: Mapping[str, Record],
) -> Iterator[DriftFinding]:
    """Whether a container runs what a stage has deployed into the repository of its image.

    Several stages may push to one repository: one of them is enough. Images
    of other repositories are nobody's here.
    """
    image = str(container.get("image", ""))
    name, _, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    repository = f"{folder}{slash}{last.partition(':')[0]}"
    deployed = [
        (f"{repository}:{record.data.get('tag')}", record.data.get("digest"))
        for record in records.values()
        if record.data.get("repository") == repository
    ]
    runs = any(digest == there if digest else name == tag for tag, there in deployed)
    if deployed and not runs:
        yield _finding(
            context,
            kind="task-image-differs",
            what=f"container {container.get('name')} of {arn}",
            expected=" or ".join(sorted(tag for tag, _ in deployed)),
            actual=image,
            hint=f"Deploy the environment again: cipipe run {context.again}",
        )


def _finding(context: StageContext[Settings], **fields: str) -> DriftFinding:
    return DriftFinding(stage=context.stage.name, **fields)
