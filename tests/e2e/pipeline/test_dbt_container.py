"""The image that a run deployed, pulled by its digest and run as the task definition says, against
the sandbox's AWS.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from support.clone import Aws, FirstRun
from support.dbt_container import DbtImage, files_of
from support.tools import ROOT

PASSWORD = 'correct "h0rse-7f3e91"'  # with a character that JSON escapes
TRACE = b"h0rse-7f3e91"
SECRET = "dbt-deployment/dev/warehouse"
CONNECTION = "dbt-deployment-dev-warehouse"

STEPS = "debug --connection, seed, run, snapshot, test, docs generate --static"

# A query that takes days.
ENDLESS = (
    "select count(*) as n from range(9000000) a cross join range(9000000) b where a.range < b.range"
)

COMPILERS = ["cc", "gcc", "g++", "clang", "make", "ld"]


@pytest.fixture(scope="module")
def definition(deployed: FirstRun, aws: Aws) -> dict[str, Any]:
    """The container in the deployed task definition."""
    described = aws.client("ecs").describe_task_definition(
        taskDefinition=aws.outputs()["task_definition_arn"]
    )
    return dict(described["taskDefinition"]["containerDefinitions"][0])


@pytest.fixture(scope="module")
def image(definition: dict[str, Any], aws: Aws) -> Iterator[DbtImage]:
    state = aws.sandbox.state
    engine = docker.DockerClient(base_url=state.docker_host or None, timeout=180)
    data = aws.record("image")["data"]
    keys = aws.sandbox.admin_of("111111111111")
    task = {entry["name"]: entry["value"] for entry in definition["environment"]}
    yield DbtImage(
        engine=engine,
        image=str(engine.images.pull(f"{data['repository']}@{data['digest']}").id),
        environment=task
        | {
            "AWS_ENDPOINT_URL": state.aws_url,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
    )
    engine.close()


@pytest.fixture
def artifacts(aws: Aws) -> Iterator["Artifacts"]:
    made = Artifacts(aws)
    yield made
    made.clear()


class Artifacts:
    """The bucket for artifacts. What is in it would stop the environment's destruction."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._bucket, _, self._prefix = (
            aws.outputs()["artifacts_url"].removeprefix("s3://").partition("/")
        )

    def files(self) -> dict[str, bytes]:
        """Name below ENVIRONMENT/PROJECT/ → content."""
        keys = self._aws.keys(self._bucket)
        return {key.removeprefix(self._prefix): self._aws.get(self._bucket, key) for key in keys}

    def clear(self) -> None:
        for key in self._aws.keys(self._bucket):
            self._aws.client("s3").delete_object(Bucket=self._bucket, Key=key)


def test_all_steps_on_a_read_only_disk(
    image: DbtImage, artifacts: Artifacts, definition: dict[str, Any]
) -> None:
    assert definition["readonlyRootFilesystem"]
    done = image.run(DBT_STEPS=STEPS, DBT_RUN_ID="nightly")
    assert done.status == 0, done.text
    assert set(done.steps().values()) == {"ok"}
    assert done.steps("results")["run"] == {"success": 1}
    assert done.steps("results")["test"].keys() == {"pass"}

    files = artifacts.files()
    latest = {name for name in files if not name.startswith("runs/")}
    assert latest >= {
        "catalog.json",
        "dbt.log",
        "index.html",
        "manifest.json",
        "run_results.json",
        "run_results_run.json",
        "run_results_test.json",
        "static_index.html",
    }
    assert {name for name in files if name.startswith("runs/")} == {
        f"runs/nightly/{name}" for name in latest
    }
    assert json.loads(files["run_results.json"])["args"]["which"] == "test"
    assert b"emp_fact" in files["static_index.html"]


def test_a_failing_test_keeps_dbts_exit_code_and_the_artifacts(
    image: DbtImage, artifacts: Artifacts, tmp_path: Path
) -> None:
    seed = ROOT / "dbt/seeds/employee.csv"
    bad = tmp_path / "employee.csv"
    bad.write_text(seed.read_text("utf-8").replace("98000.00", ""), "utf-8")
    bad.chmod(0o644)
    mounts = {str(bad): {"bind": "/project/seeds/employee.csv", "mode": "ro"}}

    container = image.start(volumes=mounts, DBT_STEPS="seed, test --select employee, docs generate")
    done = image.wait(container)

    assert done.status == 1, done.text
    assert done.steps() == {"seed": "ok", "test": "failed", "docs": "ok"}
    assert done.steps("results")["test"]["fail"] >= 1
    results = json.loads(artifacts.files()["run_results.json"])["results"]
    failed = {result["unique_id"] for result in results if result["status"] == "fail"}
    assert any("not_null_employee_annual_salary" in name for name in failed)


@pytest.fixture(params=["secret", "connection"])
def credentials(request: pytest.FixtureRequest, aws: Aws) -> Iterator[dict[str, str]]:
    """The variable that names where the password is."""
    if request.param == "secret":
        secrets = aws.client("secretsmanager")
        content = {"username": "emp", "password": PASSWORD, "host": "127.0.0.1", "dbname": "emp"}
        arn = secrets.create_secret(Name=SECRET, SecretString=json.dumps(content))["ARN"]
        yield {"DBT_CREDENTIALS_SECRET": arn}
        secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        return

    glue = aws.client("glue")
    glue.create_connection(
        ConnectionInput={
            "Name": CONNECTION,
            "ConnectionType": "JDBC",
            "ConnectionProperties": {
                "JDBC_CONNECTION_URL": "jdbc:redshift://127.0.0.1:5439/emp",
                "USERNAME": "emp",
                "PASSWORD": PASSWORD,
            },
        }
    )
    # moto deletes no connections.
    yield {"DBT_CREDENTIALS_CONNECTION": CONNECTION, "DBT_TARGET": "redshift"}


def test_credentials_are_nowhere_but_in_dbts_environment(
    image: DbtImage, artifacts: Artifacts, credentials: dict[str, str]
) -> None:
    script = "import os; print('password', os.environ['DBT_ENV_SECRET_PASSWORD'], os.getpid())"
    variables = {"DBT_TARGET": "redshift", **credentials}
    container = image.start("python", "-c", script, volumes=None, **variables)
    container.wait(timeout=60)
    left = files_of(container, "/home/dbt") | files_of(container, "/tmp")
    done = image.wait(container)
    build = image.run("dbt", "build", **credentials)

    assert done.status == 0, done.text
    assert "password ***" in done.text
    assert "DBT_ENV_SECRET_PASSWORD" in done.text
    # The image has no adapter for Redshift.
    assert build.status == (2 if "DBT_TARGET" in credentials else 0), build.text
    for where in (done.text, done.inspected, build.text, build.inspected):
        assert TRACE not in where.encode()
    assert TRACE not in b"".join([*left.values(), *artifacts.files().values()])
    assert TRACE not in image.layers()


def test_a_stopped_task_cancels_its_query_and_uploads_artifacts(
    image: DbtImage, artifacts: Artifacts
) -> None:
    steps = f"seed, show --inline '{ENDLESS}', test"
    container = image.start(DBT_STEPS=steps, DBT_STOP_SECONDS="20")
    deadline = time.monotonic() + 60
    while b'"step": "seed"' not in container.logs():
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.2)
    time.sleep(8)  # dbt says nothing when it sends the query
    started = time.monotonic()
    container.kill("SIGTERM")
    done = image.wait(container)
    assert time.monotonic() - started < 28
    assert done.status == 143, done.text
    assert done.steps() == {"seed": "ok", "show": "failed", "test": "skipped"}
    assert {"manifest.json", "run_results_seed.json"} <= set(artifacts.files())


def test_what_is_in_the_image(image: DbtImage) -> None:
    script = (
        f"import os, shutil, sys; print([name for name in {COMPILERS} if shutil.which(name)],"
        " os.getuid(), [name for name in os.listdir('/opt/dbt/bin') if name.startswith('pip')],"
        " os.access('/project', os.W_OK))"
    )
    assert image.program(script).strip() == "[] 10001 [] False"

    # docs/reference-dbt.md states the size that dbt and the project add to the base image.
    history = image.engine.images.get(image.image).history()
    added = sum(layer["Size"] for layer in history if "COPY" in layer["CreatedBy"])
    assert 150e6 < added < 210e6


def test_the_smoke_command_needs_neither_network_nor_aws(image: DbtImage) -> None:
    container = image.engine.containers.run(
        image.image, ["dbt", "parse"], detach=True, network_disabled=True, read_only=True
    )
    done = image.wait(container)
    assert done.status == 0, done.text
    assert [event["event"] for event in done.events] == ["start", "step", "end"]
