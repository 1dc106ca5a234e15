"""`cipipe status`: what is deployed where, beside what this commit holds."""

from collections.abc import Sequence

from cipipe.errors import CipipeError, IdentityError, StageError
from cipipe.model import EnvironmentStatus, Mode, StageStatus, State
from cipipe.pipeline.contexts import ledger_of
from cipipe.pipeline.identity.access import AwsTarget, connect
from cipipe.pipeline.planning import snapshot
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor

_CLOSED = {"ledger-unreadable", "ledger-no-bucket"}


def status(
    project: Project, names: Sequence[str], *, redactor: Redactor, target: AwsTarget | None = None
) -> tuple[EnvironmentStatus, ...]:
    """Read the ledgers of environments, each with its read-only role where it has one.

    One that this job may not look into says so and does not hide the others; raises CipipeError if
    none can be read.
    """
    found: list[EnvironmentStatus] = []
    refused: list[CipipeError] = []
    for name in names:
        try:
            found.append(_one(project.at(name), name, redactor, target))
        except (IdentityError, StageError) as error:
            if error.id not in _CLOSED and not isinstance(error, IdentityError):
                raise
            environment = project.config.environment(name)
            why = error.message.splitlines()[0]
            found.append(
                EnvironmentStatus(name, environment.account_id, environment.region, unreadable=why)
            )
            refused.append(error)
    if len(refused) == len(names):
        raise refused[0]
    return tuple(found)


def _one(
    project: Project, name: str, redactor: Redactor, target: AwsTarget | None
) -> EnvironmentStatus:
    environment = project.config.environment(name)
    access = connect(project, name, Mode.DEPLOY, redactor=redactor, target=target, read_only=True)
    shot = snapshot(project)
    recorded = [n for n, candidate in shot.candidates.items() if candidate.stage.when == "due"]
    held = ledger_of(project, name, access).read(recorded)
    stages = []
    for stage in recorded:
        found, candidate = held[stage], shot.candidates[stage]
        record = found.record if found else None
        live = record is not None and record.state is not State.DESTROYED
        stages.append(
            StageStatus(
                name=stage,
                kind=candidate.stage.kind,
                state=record.state.value if record else "never-deployed",
                commit=record.commit if record else None,
                ref=record.ref if record else None,
                pipeline_url=record.pipeline_url if record else None,
                finished_at=(record.finished_at or record.started_at) if record else None,
                fingerprint=record.fingerprint if record else None,
                drift=not live or record is None or record.fingerprint != candidate.fingerprint,
            )
        )
    return EnvironmentStatus(name, environment.account_id, environment.region, tuple(stages))
