"""`cipipe drift` for a stage of DAGs: its objects, what MWAA installs, the task definition."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.model import Output, State
from cipipe.pace import Pace
from support import servers
from support.mwaa import NAME, Mwaa
from support.shop import BUCKET, CONFIG, OUTPUTS, REGION, Cli, Shop

SETTINGS = """\
requirements = "dags/requirements.txt"
mwaa_environment = { output = "environment", default = "" }
confirm_timeout = 0
"""
DAG = (
    "from airflow import DAG\n"
    "CLUSTER = 'local'  # cipipe: cluster\n"
    "TASK = 'local:1'  # cipipe: task_definition\n"
)
REPOSITORY = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/dbt"


@pytest.fixture(scope="module")
def service() -> Mwaa:
    return Mwaa()


@pytest.fixture(scope="module")
def server(service: Mwaa) -> Iterator[str]:
    with servers.wsgi(service) as url:
        yield url


def register(shop: Shop, tag: str) -> str:
    """A task definition with an image of the repository and one of somebody else."""
    containers = [
        {"name": "dbt", "image": f"{REPOSITORY}:{tag}", "memory": 512},
        {"name": "proxy", "image": "envoy:1", "memory": 512},
    ]
    answer = shop.aws.call(
        "ecs", "register_task_definition", family="dbt", containerDefinitions=containers
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


@pytest.fixture
def shop(tmp_path: Path, server: str, service: Mwaa) -> Shop:
    service.fresh()
    made = Shop(tmp_path / "shop", server)
    made.commit(
        {"cipipe.toml": CONFIG + SETTINGS, "dags/a.py": DAG, "dags/requirements.txt": "pandas\n"}
    )
    outputs = {
        **OUTPUTS,
        "environment": Output(value=NAME),
        "task_definition": Output(value=register(made, "one")),
    }
    made.apply(**outputs)
    return made


@pytest.fixture
def cipipe(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    made = Cli(shop, monkeypatch, capsys)
    made.pace = Pace(mwaa_poll=0.01, mwaa_sync=0.0)
    assert made("dags", "deploy") == 0, made.err
    assert made("drift", "dags") == 0, made.out + made.err
    return made


def drifted(cipipe: Cli, *arguments: str, status: int = 6) -> list[tuple[str, str]]:
    """The kind of each finding, and what it is about."""
    return [
        (str(found["kind"]), str(found["what"]))
        for found in all_of(cipipe, *arguments, status=status)
    ]


def all_of(cipipe: Cli, *arguments: str, status: int = 6) -> list[dict[str, Any]]:
    assert cipipe("drift", "dags", "--format", "json", *arguments) == status, (
        cipipe.out + cipipe.err
    )
    document: dict[str, Any] = msgspec.json.decode(cipipe.out)
    assert document["schema"] == 1
    return list(document["findings"])


def test_what_was_just_deployed_has_none(shop: Shop, cipipe: Cli) -> None:
    before = shop.writes()
    assert drifted(cipipe, status=0) == []
    assert cipipe("drift", "dags", "--format", "markdown") == 0
    assert "Everything is as the ledger says." in cipipe.out
    assert shop.writes() == before


def test_an_object_that_somebody_else_wrote(shop: Shop, cipipe: Cli) -> None:
    shop.aws.bucket(BUCKET).put("dags/a.py", b"tampered")
    assert drifted(cipipe) == [("object-changed", f"s3://{BUCKET}/dags/a.py")]
    assert "[drift-found] docs/errors.md#drift-found, exit status 6" in cipipe.err


def test_an_object_that_is_gone(shop: Shop, cipipe: Cli) -> None:
    shop.aws.call("s3", "delete_object", Bucket=BUCKET, Key="dags/helper.py")
    assert drifted(cipipe) == [("object-missing", f"s3://{BUCKET}/dags/helper.py")]


def test_an_object_of_others_is_left_alone(shop: Shop, cipipe: Cli) -> None:
    shop.aws.bucket(BUCKET).put("dags/theirs.py", b"# theirs")
    assert drifted(cipipe, status=0) == []


def test_versions_that_mwaa_does_not_install(service: Mwaa, cipipe: Cli) -> None:
    runs = service.environment["RequirementsS3ObjectVersion"]
    service.environment["RequirementsS3ObjectVersion"] = "older"
    (found,) = all_of(cipipe)
    assert (found["kind"], found["what"]) == (
        "mwaa-version",
        f"requirements.txt of MWAA environment {NAME}",
    )
    assert (found["expected"], found["actual"]) == (f"version {runs}", "version older")


def test_a_task_definition_that_was_deregistered(shop: Shop, cipipe: Cli) -> None:
    (arn,) = shop.aws.call("ecs", "list_task_definitions")["taskDefinitionArns"]
    shop.aws.call("ecs", "deregister_task_definition", taskDefinition=arn)
    assert drifted(cipipe) == [("task-definition-inactive", arn)]


def image_record(shop: Shop, tag: str) -> None:
    """Another stage's record, of an image that was deployed."""
    record = shop.record()
    data = {"repository": REPOSITORY, "tag": tag, "digest": "sha256:" + "0" * 64}
    shop.ledger.write(
        msgspec.structs.replace(record, stage="image", data=data, project=None, environment=None),
        shop.ledger.read(["image"])["image"],
    )


IMAGE = f"""
[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = "{REPOSITORY}"
"""


def test_the_image_of_a_task_definition(shop: Shop, cipipe: Cli) -> None:
    shop.commit({"cipipe.toml": CONFIG + SETTINGS + IMAGE, "dbt/Dockerfile": "FROM scratch\n"})
    image_record(shop, "one")
    assert drifted(cipipe, status=0) == []
    image_record(shop, "two")
    (found,) = all_of(cipipe)
    assert found["kind"] == "task-image-differs"
    assert found["what"].startswith("container dbt of arn:aws:ecs:")
    assert (found["expected"], found["actual"]) == (f"{REPOSITORY}:two", f"{REPOSITORY}:one")


def test_a_stage_that_cannot_be_checked(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before counts, and what is not compared decides the exit status."""
    shop.aws.call("s3", "delete_object", Bucket=BUCKET, Key="dags/helper.py")
    monkeypatch.setattr("cipipe.stages.dags.mwaa.environment.environment", refuse)
    assert drifted(cipipe, status=4) == [
        ("object-missing", f"s3://{BUCKET}/dags/helper.py"),
        ("unchecked", "stage dags"),
    ]
    assert "[drift-unchecked]" in cipipe.err
    assert cipipe("drift", "dags") == 4
    assert "1 thing differs, 1 could not be compared." in cipipe.out


def refuse(*_: object) -> dict[str, Any]:
    from cipipe.tools.aws.errors import AwsError

    raise AwsError("mwaa:GetEnvironment", "AccessDeniedException", "no", 403)


@pytest.mark.parametrize(
    ("state", "status", "kinds"),
    [
        (State.FAILED, 4, ["unchecked"]),
        (State.DEPLOYING, 4, ["unchecked"]),
        (State.DESTROYED, 0, []),
    ],
)
def test_what_is_not_deployed_is_not_compared(
    shop: Shop, cipipe: Cli, state: State, status: int, kinds: list[str]
) -> None:
    record = msgspec.structs.replace(shop.record(), state=state)
    shop.ledger.write(record, shop.ledger.read(["dags"])["dags"])
    shop.aws.call("s3", "delete_object", Bucket=BUCKET, Key="dags/helper.py")
    assert [kind for kind, _ in drifted(cipipe, status=status)] == kinds


def test_what_was_never_deployed(shop: Shop, cipipe: Cli) -> None:
    shop.commit({"cipipe.toml": CONFIG + SETTINGS + IMAGE, "dbt/Dockerfile": "FROM scratch\n"})
    assert cipipe("drift", "image") == 0, cipipe.err
    assert "image  nothing    never-deployed" in cipipe.out


def test_a_name_that_no_stage_has(cipipe: Cli) -> None:
    assert cipipe("drift", "dag") == 2
    assert "[stage-unknown]" in cipipe.err


def test_names_of_others_are_data(shop: Shop, cipipe: Cli) -> None:
    record = shop.record()
    manifest = {**record.data["manifest"], "dags/`|<b>\x1b[31m": {"sha256": "0", "version": "v"}}
    shop.ledger.write(
        msgspec.structs.replace(record, data={**record.data, "manifest": manifest}),
        shop.ledger.read(["dags"])["dags"],
    )
    assert cipipe("drift", "dags", "--format", "markdown") == 6
    assert "\x1b" not in cipipe.out
    assert "``s3://dags-bucket/dags/`" in cipipe.out
    assert cipipe("drift", "dags") == 6
    assert "\x1b" not in cipipe.out
