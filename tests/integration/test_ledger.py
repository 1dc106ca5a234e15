"""The ledger on S3 (moto): conditions really sent and honoured, and refusals distinguished from
absence.
"""

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from cipipe.errors import CipipeError, ConflictError, StageError
from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import Newest, Output, Record, State
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint

REGION = "eu-central-1"
KEYS = Credentials("testing", "testing")


def record(state: State = State.DEPLOYING, **changes: object) -> Record:
    made = Record(
        schema=1,
        stage="iac",
        fingerprint="f" * 64,
        effective=None,
        state=state,
        commit="c" * 40,
        ref="main",
        provider="gitlab",
        sequence=7,
        pipeline_url="https://ci/7",
        started_at="2026-01-02T03:04:05+00:00",
        finished_at=None,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def aws(endpoint: str) -> Aws:
    made = Aws(Endpoint(REGION, endpoint), KEYS)
    made.call(
        "s3",
        "create_bucket",
        Bucket="ledger",
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    made.call(
        "s3",
        "put_bucket_versioning",
        Bucket="ledger",
        VersioningConfiguration={"Status": "Enabled"},
    )
    return made


@pytest.fixture
def ledger(aws: Aws) -> Ledger:
    return Ledger(aws.bucket("ledger"), "p/dev/")


def test_a_deployment(aws: Aws, ledger: Ledger) -> None:
    assert ledger.read(["iac", "dags"]) == {"iac": None, "dags": None}
    started = ledger.write(record(), None)
    done = ledger.write(record(State.DEPLOYED, data={"x": ["\u00fc"]}), started)
    assert started.etag != done.etag
    assert Ledger(aws.bucket("ledger"), "p/dev/").read(["iac"]) == {"iac": done}
    assert aws.bucket("ledger").keys("") == ["p/dev/.probe", "p/dev/iac.json"]
    stored = aws.bucket("ledger").get("p/dev/iac.json")
    assert stored is not None
    assert msgspec.json.decode(stored.body)["state"] == "deployed"


def test_two_writers_and_one_winner(aws: Aws) -> None:
    """Both have read that there is no record; both then say `deploying`."""

    def start(number: int) -> StoredRecord | ConflictError:
        try:
            return Ledger(aws.bucket("ledger"), "p/").write(
                record(pipeline_url=f"https://ci/{number}"), None
            )
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(start, range(8)))
    (winner,) = [one for one in made if isinstance(one, StoredRecord)]
    losers = [one for one in made if isinstance(one, ConflictError)]
    assert len(losers) == 7
    for loser in losers:
        assert loser.exit_status == 6
        assert f"changed by {winner.record.pipeline_url} (deploying since 2026" in loser.message


def test_a_stale_record_is_not_written_over(aws: Aws, ledger: Ledger) -> None:
    first = ledger.write(record(State.DEPLOYED), None)
    newer = Ledger(aws.bucket("ledger"), "p/dev/").write(record(sequence=8), first)
    with pytest.raises(ConflictError):
        ledger.write(record(), first)
    assert ledger.read(["iac"]) == {"iac": newer}


def test_a_record_that_was_deleted_meanwhile(aws: Aws, ledger: Ledger) -> None:
    stored = ledger.write(record(), None)
    aws.bucket("ledger").delete("p/dev/iac.json")
    with pytest.raises(ConflictError):
        ledger.write(record(State.DEPLOYED), stored)
    assert ledger.read(["iac"]) == {"iac": None}


def test_a_damaged_record(aws: Aws, ledger: Ledger) -> None:
    aws.bucket("ledger").put("p/dev/iac.json", b'{"schema": 1')
    with pytest.raises(StageError) as caught:
        ledger.read(["image", "iac", "dags"])
    assert (caught.value.id, caught.value.where) == ("ledger-damaged", "s3://ledger/p/dev/iac.json")


def test_outputs(ledger: Ledger) -> None:
    outputs = {
        "url": Output("string", "here"),
        "key": Output("string", "s3cret", sensitive=True),
        "empty": Output("string", None),
    }
    assert ledger.read_outputs("iac") is None
    ledger.write_outputs("iac", outputs)
    assert ledger.read_outputs("iac") == outputs | {"key": Output("string", sensitive=True)}


def test_a_bucket_that_is_not_there(aws: Aws) -> None:
    with pytest.raises(StageError) as caught:
        Ledger(aws.bucket("absent"), "p/").read(["iac"])
    assert caught.value.id == "ledger-no-bucket"
    assert "bootstrap" in (caught.value.hint or "")


class Refusing(http.server.BaseHTTPRequestHandler):
    """S3's answer to a role that may not list the bucket: 403, whether or not the object exists."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def refusing() -> Iterator[Aws]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        made = Aws(Endpoint(REGION, f"http://127.0.0.1:{server.server_port}"), KEYS)
        yield made
        server.shutdown()
        thread.join()


def test_a_record_that_may_not_be_read_never_means_not_due(refusing: Aws) -> None:
    with pytest.raises(CipipeError) as caught:
        Ledger(refusing.bucket("ledger"), "p/").read(["iac"])
    assert (caught.value.id, caught.value.exit_status) == ("ledger-unreadable", 4)
    assert "AccessDenied" in caught.value.message
    assert "s3:ListBucket" in (caught.value.hint or "")


def test_the_newest_pipeline_of_a_provider(aws: Aws, ledger: Ledger) -> None:
    """It only goes up, unless going back is intended; each provider has numbers of its own."""

    def written(number: int, provider: str = "gitlab", *, over_newer: bool = False) -> int | None:
        ledger.write_newest(
            Newest(schema=1, provider=provider, sequence=number, commit="c" * 40),
            over_newer=over_newer,
        )
        found, _ = ledger.read_newest(provider)
        return found.sequence if found else None

    assert ledger.read_newest("gitlab") == (None, None)
    assert [written(7), written(9), written(8), written(9)] == [7, 9, 9, 9]
    assert written(8, over_newer=True) == 8
    assert written(3, "github") == 3
    assert aws.bucket("ledger").keys("") == [
        "p/dev/pipelines/github.json",
        "p/dev/pipelines/gitlab.json",
    ]
    assert len(list(aws.bucket("ledger").versions("p/dev/pipelines/gitlab.json"))) == 3


def test_pipelines_that_all_say_that_they_are_the_newest(aws: Aws) -> None:
    def write(number: int) -> None:
        Ledger(aws.bucket("ledger"), "p/").write_newest(
            Newest(schema=1, provider="gitlab", sequence=number, commit="c" * 40)
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [11, 14, 12, 13]))
    found, _ = Ledger(aws.bucket("ledger"), "p/").read_newest("gitlab")
    assert found is not None
    assert found.sequence == 14


@pytest.mark.parametrize(
    "body", [b"{", b'{"schema": 2, "provider": "gitlab", "sequence": 1, "commit": "c"}', b"[]"]
)
def test_a_newest_pipeline_that_is_damaged_is_an_error(
    aws: Aws, ledger: Ledger, body: bytes
) -> None:
    aws.bucket("ledger").put("p/dev/pipelines/gitlab.json", body, content_type="application/json")
    with pytest.raises(StageError) as caught:
        ledger.read_newest("gitlab")
    assert caught.value.id == "ledger-damaged"
