"""The entry point of the dbt container: real processes, with moto as AWS.

`dbt` is a script here that writes what dbt writes; tests/e2e runs the real one in the real image.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from support.tools import ROOT

PASSWORD = 'correct horse "battery" staple'  # with characters that JSON escapes
BUCKET = "artifacts"

DBT = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time

target = pathlib.Path(os.environ["DBT_TARGET_PATH"])
logs = pathlib.Path(os.environ["DBT_LOG_PATH"])
target.mkdir(exist_ok=True)
logs.mkdir(exist_ok=True)
step = sys.argv[1]
with (logs / "dbt.log").open("a") as log:
    print("ran", *sys.argv[1:], os.environ.get("DBT_ENV_SECRET_PASSWORD"), file=log)
print("arguments:", *sys.argv[1:])
print("password:", os.environ.get("DBT_ENV_SECRET_PASSWORD"))
print("user:", os.environ.get("REDSHIFT_USER"), "host:", os.environ.get("REDSHIFT_HOST"))
(target / "manifest.json").write_text(json.dumps({{"step": step}}))
if step in ("run", "test", "docs"):
    results = [{{"status": "success"}}, {{"status": "success" if step == "run" else "pass"}}]
    (target / "run_results.json").write_text(json.dumps({{"results": results, "step": step}}))
if step == "docs":
    (target / "catalog.json").write_text("{{}}")
    (target / "index.html").write_text("<html></html>")
if step == os.environ.get("SLOW"):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("cancelled", flush=True)
        if "STUBBORN" in os.environ:
            time.sleep(60)
        sys.exit(1)
sys.exit(int(os.environ.get("FAIL_" + step.upper(), 0)))
"""


@dataclass(frozen=True)
class Container:
    """The container's environment in a folder of this machine."""

    folder: Path
    endpoint: str

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        env = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "dbt/runtime"),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
            "DBT_TARGET": "redshift",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "eu-central-1",
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "dbt_runtime", *arguments],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> "Ended":
        return ended(self.start(*arguments, **variables))

    def client(self, service: str) -> Any:
        create: Any = boto3.client
        return create(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="eu-central-1",
        )

    def stored(self) -> dict[str, bytes]:
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {
            entry["Key"]: s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            for entry in listed
        }


@dataclass(frozen=True)
class Ended:
    status: int
    text: str

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.text.splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    @property
    def steps(self) -> dict[str, str]:
        events = (event for event in self.events if event["event"] == "step")
        return {event["step"].split()[0]: event["status"] for event in events}


def ended(process: "subprocess.Popen[str]") -> Ended:
    text, _ = process.communicate(timeout=60)
    return Ended(process.returncode, text)


@pytest.fixture
def container(tmp_path: Path, endpoint: str) -> Container:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dbt").write_text(DBT)
    (tmp_path / "bin/dbt").chmod(0o755)
    made = Container(tmp_path, endpoint)
    made.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return made


def secret(container: Container, content: Mapping[str, Any] | str) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    made = container.client("secretsmanager").create_secret(Name="dev/dbt", SecretString=text)
    return str(made["ARN"])


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_whole_sequence(container: Container) -> None:
    arn = secret(container, {"username": "emp_dbt", "password": PASSWORD, "host": "warehouse"})
    done = container.run(
        DBT_CREDENTIALS_SECRET=arn,
        DBT_ARTIFACTS=f"s3://{BUCKET}/dev/shop/",
        DBT_RUN_ID="first",
        REDSHIFT_HOST="from-the-task",
    )
    assert done.status == 0, done.text
    assert done.steps == {
        "deps": "skipped",
        "debug": "ok",
        "run": "ok",
        "test": "ok",
        "source": "ok",
        "docs": "ok",
    }
    # The secret reached dbt; a variable of the task was kept; nothing shows the password.
    assert "user: emp_dbt host: from-the-task" in done.text
    assert "password: ***" in done.text
    assert "battery" not in done.text

    stored = container.stored()
    names = [
        "catalog.json",
        "dbt.log",
        "index.html",
        "manifest.json",
        "run_results.json",
        "run_results_docs.json",
        "run_results_run.json",
        "run_results_test.json",
    ]
    assert sorted(stored) == sorted(
        [f"dev/shop/{name}" for name in names] + [f"dev/shop/runs/first/{name}" for name in names]
    )
    # dbt overwrites its results with those of each command.
    assert json.loads(stored["dev/shop/run_results.json"])["step"] == "test"
    assert json.loads(stored["dev/shop/run_results_run.json"])["step"] == "run"
    assert b"battery" not in b"".join(stored.values())
    html = container.client("s3").head_object(Bucket=BUCKET, Key="dev/shop/index.html")
    assert html["ContentType"] == "text/html"

    # dbt's own log is not ours; nothing else on disk has the password.
    written = [path for path in files_below(container.folder) if path.name != "dbt.log"]
    assert not any(b"battery" in path.read_bytes() for path in written)


def test_one_command(container: Container) -> None:
    arguments = ("dbt", "run", "--select", "emp_fact")
    done = container.run(*arguments, DBT_ARTIFACTS=f"s3://{BUCKET}/dev/shop/")
    assert done.status == 0, done.text
    assert "arguments: run --select emp_fact" in done.text
    (step,) = (event for event in done.events if event["event"] == "step")
    assert step["results"] == {"success": 2}
    assert "dev/shop/run_results.json" in container.stored()


@pytest.mark.parametrize(
    ("failing", "status", "skipped"),
    [("run", 1, {"test"}), ("test", 1, set()), ("debug", 2, {"run", "test", "source", "docs"})],
)
def test_a_step_fails(container: Container, failing: str, status: int, skipped: set[str]) -> None:
    done = container.run(
        DBT_ARTIFACTS=f"s3://{BUCKET}/dev/shop/", **{f"FAIL_{failing.upper()}": str(status)}
    )
    assert done.status == status
    assert done.steps[failing] == "failed"
    assert {name for name, state in done.steps.items() if state == "skipped"} == {"deps"} | skipped
    # The artifacts are there all the same.
    assert "dev/shop/manifest.json" in container.stored()


def test_a_glue_connection(container: Container) -> None:
    container.client("glue").create_connection(
        ConnectionInput={
            "Name": "warehouse",
            "ConnectionType": "JDBC",
            "ConnectionProperties": {
                "JDBC_CONNECTION_URL": "jdbc:redshift://glue-host:5439/emp",
                "USERNAME": "glue_user",
                "PASSWORD": PASSWORD,
            },
        }
    )
    done = container.run("dbt", "run", DBT_CREDENTIALS_CONNECTION="warehouse")
    assert done.status == 0, done.text
    assert "user: glue_user host: glue-host" in done.text
    assert "password: ***" in done.text

    other = container.run(
        "dbt", "run", DBT_CREDENTIALS_CONNECTION="warehouse", DBT_TARGET="snowflake"
    )
    assert other.status == 2
    assert "no JDBC URL of snowflake" in other.text


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"DBT_CREDENTIALS_SECRET": "nowhere"}, "ResourceNotFoundException"),
        ({"DBT_CREDENTIALS_CONNECTION": "nowhere"}, "the Glue connection nowhere cannot be read"),
        ({"DBT_STEPS": ","}, "DBT_STEPS"),
    ],
)
def test_what_cannot_be_used(container: Container, variables: dict[str, str], text: str) -> None:
    done = container.run(**variables)
    assert done.status == 2
    (event,) = done.events
    assert event["event"] == "error"
    assert text in event["message"]


def test_artifacts_that_cannot_be_stored(container: Container) -> None:
    lost = {"DBT_ARTIFACTS": "s3://no-such-bucket/dev/"}
    assert container.run("dbt", "run", **lost).status == 74
    assert container.run("dbt", "run", FAIL_RUN="1", **lost).status == 1


def test_s3_that_does_not_answer_is_not_waited_for(container: Container) -> None:
    started = time.monotonic()
    done = container.run(
        "dbt", "run", DBT_ARTIFACTS=f"s3://{BUCKET}/dev/", AWS_ENDPOINT_URL="http://127.0.0.1:9"
    )
    assert done.status == 74
    assert sum(event["event"] == "artifact" for event in done.events) == 1
    assert time.monotonic() - started < 30


def test_results_stay_for_the_next_step(container: Container) -> None:
    done = container.run(DBT_STEPS="run, debug, test", DBT_ARTIFACTS=f"s3://{BUCKET}/dev/")
    steps = {event["step"]: event["results"] for event in done.events if event["event"] == "step"}
    assert steps == {"run": {"success": 2}, "debug": {}, "test": {"success": 1, "pass": 1}}
    assert (container.folder / "target/run_results.json").exists()
    assert "dev/run_results_debug.json" not in container.stored()


def test_no_such_program(container: Container) -> None:
    assert container.run("no-such-program").status == 127


def wait_for(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_dbt_and_keeps_the_artifacts(
    container: Container, number: signal.Signals
) -> None:
    process = container.start(SLOW="run", DBT_ARTIFACTS=f"s3://{BUCKET}/dev/shop/")
    wait_for(process, "waiting")
    process.send_signal(number)
    done = ended(process)
    assert done.status == 128 + number
    assert "cancelled" in done.text
    assert {done.steps[name] for name in ("test", "source", "docs")} == {"skipped"}
    assert "dev/shop/manifest.json" in container.stored()


def test_dbt_that_does_not_stop_is_killed(container: Container) -> None:
    process = container.start("dbt", "run", SLOW="run", STUBBORN="1", DBT_STOP_SECONDS="1")
    wait_for(process, "waiting")
    started = time.monotonic()
    process.terminate()
    done = ended(process)
    assert done.status == 143
    assert time.monotonic() - started < 30
