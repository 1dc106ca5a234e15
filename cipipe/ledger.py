"""The ledger: what is deployed, one record per environment and stage, in
S3.

Every write is conditional, so two pipelines cannot both think that they
won. A record that cannot be read is an error; it never means "not due".
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from cipipe import bounded
from cipipe.errors import CipipeError, ConflictError, RefusedError, StageError
from cipipe.model import SCHEMA, FailedAttempt, Newest, Output, Owner, Record
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import Bucket

T = TypeVar("T")

_ATTEMPTS = 5

# Objects that are read at the same time. A request takes some 20 ms, nearly
# all of it waiting, so that the records of a thousand stages take one or
# two seconds.
_READERS = 16


class StoredRecord(msgspec.Struct, frozen=True):
    """A record as read or written."""

    record: Record

    # The ETag that the next write has to match.
    etag: str


class StoredFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt as it is stored."""

    schema: int
    stage: str
    failure: FailedAttempt


@dataclass
class Ledger:
    """The records of one environment."""

    bucket: Bucket

    # Ends with a slash.
    prefix: str

    # Whose records these have to be; None: anybody's.
    project: str | None = None
    environment: str | None = None

    _probed: bool = field(default=False, init=False)
    _probing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def read(self, stages: Iterable[str]) -> dict[str, StoredRecord | None]:
        """The record of each stage, None where there is none. One GET each, side by side."""
        return _side_by_side(self._read, stages)

    def read_outputs_of(self, stages: Iterable[str]) -> dict[str, dict[str, Output] | None]:
        """What `read_outputs` gives of each stage. One GET each, side by side."""
        return _side_by_side(self.read_outputs, stages)

    def write(self, record: Record, previous: StoredRecord | None) -> StoredRecord:
        """Write the record over `previous`, or where there is none. Raises
        ConflictError if another one is there.
        """
        with self._probing:
            self._probe()
        written = self.bucket.put(
            self._key(record.stage),
            _encoded(record),
            content_type="application/json",
            **self._owner(record.stage),
            if_match=previous.etag if previous else None,
            if_none_match=previous is None,
        )
        if written is None:
            return self._lost(record)
        return StoredRecord(record, written.etag)

    def check(self, stored: StoredRecord) -> None:
        """Raise ConflictError if another record has replaced ours."""
        now = self._read(stored.record.stage)
        if now is None or now.etag != stored.etag:
            raise self._conflict(stored.record.stage, now)

    def history(self, stage: str) -> Iterator[Record]:
        """The records of a stage, newest first, as far back as the bucket
        keeps versions; one GET each.

        What cannot be read any more is left out: a version that was
        deleted, an old schema.
        """
        key = self._key(stage)
        for version in self.bucket.versions(key):
            if version.key != key or version.deleted:
                continue
            stored = self.bucket.get(key, version.id)
            try:
                record = bounded.decode(stored.body, type=Record) if stored else None
            except msgspec.MsgspecError:
                continue
            if record is not None and record.schema == SCHEMA and not self._foreign(record):
                yield record

    def read_outputs(self, stage: str) -> dict[str, Output] | None:
        """The outputs that a stage left, without the values of
        sensitive ones; None if it never did.
        """
        stored = self.bucket.get(self._outputs_key(stage))
        if stored is None:
            return None
        try:
            found: dict[str, Output] = bounded.decode(stored.body, type=dict[str, Output])
        except msgspec.MsgspecError as error:
            raise self._damaged(self._outputs_key(stage), str(error)) from error
        return found

    def write_outputs(self, stage: str, outputs: dict[str, Output]) -> None:
        """Keep the outputs; of a sensitive one only its name and type."""
        kept = {
            name: Output(type=o.type, value=msgspec.UNSET, sensitive=True) if o.sensitive else o
            for name, o in sorted(outputs.items())
        }
        self.bucket.put(
            self._outputs_key(stage),
            _encoded(kept),
            content_type="application/json",
            **self._owner(stage),
        )

    def note_failure(self, stage: str, failure: FailedAttempt) -> None:
        """Keep the last attempt that failed, beside the record: its ETag is
        what other runs write over.
        """
        self.bucket.put(
            self._failure_key(stage),
            _encoded(StoredFailure(schema=SCHEMA, stage=stage, failure=failure)),
            content_type="application/json",
            **self._owner(stage),
        )

    def failures(self, records: Mapping[str, Record | None]) -> dict[str, FailedAttempt | None]:
        """The failed attempt of each stage that is newer than its record.
        One GET each, side by side.

        What cannot be read counts as none: it is for people only.
        """

        def newer(stage: str) -> FailedAttempt | None:
            failure = self._failure(stage)
            return failure if failure and failure.is_newer_than(records[stage]) else None

        return _side_by_side(newer, records)

    def read_newest(self, provider: str) -> tuple[Newest | None, str | None]:
        """The newest of a provider's pipelines that left everything as its
        commit says, and the object's ETag.
        """
        key = self._newest_key(provider)
        try:
            stored = self.bucket.get(key)
        except AwsError as error:
            raise self._unreadable(f"the newest pipeline of {provider}", key, error) from error
        if stored is None:
            return None, None
        try:
            found = bounded.decode(stored.body, type=Newest)
        except msgspec.MsgspecError as error:
            raise self._damaged(key, str(error)) from error
        if found.schema != SCHEMA:
            raise self._damaged(key, f"schema {found.schema}")
        return found, stored.etag

    def write_newest(self, newest: Newest, *, over_newer: bool = False) -> None:
        """Record a pipeline as the newest one; one that is newer stays,
        unless `over_newer`. Raises ConflictError.
        """
        key = self._newest_key(newest.provider)
        for _ in range(_ATTEMPTS):
            found, etag = self.read_newest(newest.provider)
            if found is not None:
                overtaken = found.newer_than(newest) and not over_newer
                if found.sequence == newest.sequence or overtaken:
                    return
            if self.bucket.put(
                key,
                _encoded(newest),
                content_type="application/json",
                **self._owner("pipelines"),
                if_match=etag,
                if_none_match=etag is None,
            ):
                return
        raise ConflictError(
            "ledger-conflict",
            "other pipelines keep recording themselves as the newest",
            hint="Let them finish, then run again: what was deployed is not deployed twice.",
            where=f"s3://{self.bucket.name}/{key}",
        )

    def _failure(self, stage: str) -> FailedAttempt | None:
        try:
            stored = self.bucket.get(self._failure_key(stage))
            found = bounded.decode(stored.body, type=StoredFailure) if stored else None
        except (AwsError, msgspec.MsgspecError):
            return None
        return found.failure if found and (found.schema, found.stage) == (SCHEMA, stage) else None

    def _read(self, stage: str) -> StoredRecord | None:
        key = self._key(stage)
        try:
            stored = self.bucket.get(key)
        except AwsError as error:
            if error.code == "NoSuchBucket":
                raise StageError(
                    "ledger-no-bucket",
                    f"the ledger's bucket {self.bucket.name} does not exist",
                    hint="`cipipe bootstrap` makes it, once per account. Check `[ledger] bucket` "
                    "and the region too.",
                    where="ledger.bucket",
                ) from error
            raise self._unreadable(f"the record of stage {stage}", key, error) from error
        if stored is None:
            return None

        try:
            record = bounded.decode(stored.body, type=Record)
        except msgspec.MsgspecError as error:
            raise self._damaged(key, str(error)) from error
        if record.schema != SCHEMA or record.stage != stage:
            raise self._damaged(key, f"schema {record.schema}, stage {record.stage!r}")
        if self._foreign(record):
            raise RefusedError(
                "ledger-foreign-record",
                f"the record of stage {stage} belongs to {record.project}'s environment "
                f"{record.environment}, and not to {self.project}'s environment "
                f"{self.environment}",
                hint="Give each environment its own place: "
                '[ledger] prefix = "ledger/{project}/{environment}/".',
                where=f"s3://{self.bucket.name}/{key}",
            )
        return StoredRecord(record, stored.etag)

    def _foreign(self, record: Record) -> bool:
        """Whether a record says that it is another environment's. Those of
        earlier versions do not say.
        """
        owner = (record.project, record.environment)
        ours = (self.project, self.environment)
        return None not in owner and None not in ours and owner != ours

    def _owner(self, stage: str) -> dict[str, Any]:
        """The owner that an object names, as `Bucket.put` takes it."""
        if self.project is None or self.environment is None:
            return {}
        return {"owner": Owner(self.project, self.environment, stage).text}

    def _probe(self) -> None:
        """Check, once per process, that the store honours conditions;
        without them two pipelines could both win.
        """
        if self._probed:
            return
        # The object stays, so that the next probe writes no further version
        # of it.
        key = f"{self.prefix}.probe"
        # A plan against a commit reads no ledger.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            mismatched = pool.submit(
                self.bucket.put,
                key,
                b"overwritten\n",
                if_match='"00000000000000000000000000000000"',
            )
            made = self.bucket.put(
                key, b"cipipe asks here whether conditions are honoured\n", if_none_match=True
            )
            again = self.bucket.put(key, b"overwritten\n", if_none_match=True) if made else None
            other = mismatched.result()
        if again is not None or other is not None:
            raise StageError(
                "ledger-store-unconditional",
                f"the store behind {self.bucket.name} does not honour conditional writes",
                hint="The ledger needs If-Match and If-None-Match, as Amazon S3 has them.",
            )
        self._probed = True

    def _lost(self, wanted: Record) -> StoredRecord:
        """What is there after a write that was refused: our own record,
        where the answer to a first attempt was lost and the write was sent
        again.

        Raises ConflictError with who has the stage, and since when, if it
        is somebody else's.
        """
        try:
            stored = self._read(wanted.stage)
        except CipipeError:
            stored = None
        if stored and stored.record == wanted:
            return stored
        raise self._conflict(wanted.stage, stored)

    def _conflict(self, stage: str, stored: StoredRecord | None) -> ConflictError:
        who = "somebody else"
        if stored:
            record = stored.record
            run = record.pipeline_url or record.provider or "another run"
            who = f"{run} ({record.state} since {record.since})"
        return ConflictError(
            "ledger-conflict",
            f"stage {stage} was changed by {who}",
            hint="Let that run finish, then run again: what it deployed is not deployed twice.",
            where=f"s3://{self.bucket.name}/{self._key(stage)}",
        )

    def _unreadable(self, what: str, key: str, error: AwsError) -> StageError:
        return StageError(
            "ledger-unreadable",
            f"{what} cannot be read: {error.code}: {error.text}",
            hint="A record that cannot be read never counts as 'not due', so nothing was run. "
            "Give the role s3:GetObject and s3:ListBucket on the ledger.",
            where=f"s3://{self.bucket.name}/{key}",
        )

    def _damaged(self, key: str, detail: str) -> StageError:
        return StageError(
            "ledger-damaged",
            f"the record is damaged: {detail}",
            hint="Restore the object's previous version, or delete it to deploy the stage again.",
            where=f"s3://{self.bucket.name}/{key}",
        )

    def _key(self, stage: str) -> str:
        return f"{self.prefix}{stage}.json"

    def _newest_key(self, provider: str) -> str:
        """In a folder, where no stage's record can be."""
        return f"{self.prefix}pipelines/{provider}.json"

    def _failure_key(self, stage: str) -> str:
        return f"{self.prefix}failures/{stage}.json"

    def _outputs_key(self, stage: str) -> str:
        return f"{self.prefix}{stage}.outputs.json"


def _encoded(value: Any) -> bytes:
    """As it is stored: indented, for people who look at the object."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _side_by_side(read: Callable[[str], T], stages: Iterable[str]) -> dict[str, T]:
    names = list(stages)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))
