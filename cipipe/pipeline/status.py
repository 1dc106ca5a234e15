"""`cipipe status`: what is deployed where, beside what this commit has."""

from collections.abc import Sequence

from cipipe.candidates import Candidate
from cipipe.errors import CipipeError, IdentityError, StageError
from cipipe.ledger import StoredRecord
from cipipe.model import FailedAttempt, Mode, State
from cipipe.pipeline.planning.snapshot import read_snapshot
from cipipe.pipeline.planning.stage_lookup import recorded_stages
from cipipe.pipeline.session import Session
from cipipe.results import EnvironmentStatus, StageStatus

# Errors of one environment whose ledger this job cannot read: the others
# are shown all the same.
_UNREADABLE = {"ledger-unreadable", "ledger-no-bucket"}


def status(session: Session, names: Sequence[str]) -> tuple[EnvironmentStatus, ...]:
    """Read the ledgers of environments, each with its read-only role where
    it has one.

    An environment that this job cannot read says so and does not hide the
    others. Raises CipipeError where none can be read.
    """
    found: list[EnvironmentStatus] = []
    refused: list[CipipeError] = []
    for name in names:
        try:
            found.append(_environment(session.at(name)))
        except (IdentityError, StageError) as error:
            if error.id not in _UNREADABLE and not isinstance(error, IdentityError):
                raise
            environment = session.project.config.environment(name)
            why = error.message.splitlines()[0]
            found.append(
                EnvironmentStatus(
                    name=name,
                    account_id=environment.account_id,
                    region=environment.region,
                    unreadable=why,
                )
            )
            refused.append(error)

    if len(refused) == len(names):
        raise refused[0]
    return tuple(found)


def _environment(session: Session) -> EnvironmentStatus:
    access = session.connect(Mode.DEPLOY, read_only=True)
    candidates = read_snapshot(session.project).candidates
    ledger = session.ledger(access)
    stored = ledger.read(recorded_stages(session.project.config))
    failures = ledger.failures(
        {name: found.record if found else None for name, found in stored.items()}
    )
    stages = tuple(
        _stage(candidates[name], found, failures[name]) for name, found in stored.items()
    )
    environment = session.environment
    return EnvironmentStatus(
        name=session.environment_name,
        account_id=environment.account_id,
        region=environment.region,
        stages=stages,
    )


def _stage(
    candidate: Candidate, found: StoredRecord | None, failure: FailedAttempt | None
) -> StageStatus:
    name = candidate.stage.name
    kind = candidate.stage.kind
    if found is None:
        return StageStatus(
            name=name,
            kind=kind,
            state="never-deployed",
            commit=None,
            ref=None,
            pipeline_url=None,
            finished_at=None,
            fingerprint=None,
            drift=True,
            last_failure=failure,
        )
    record = found.record
    same = record.fingerprint == candidate.fingerprint
    return StageStatus(
        name=name,
        kind=kind,
        state=record.state.value,
        commit=record.commit,
        ref=record.ref,
        pipeline_url=record.pipeline_url,
        finished_at=record.finished_at or record.started_at,
        fingerprint=record.fingerprint,
        drift=record.state is State.DESTROYED or not same,
        last_failure=failure,
    )
