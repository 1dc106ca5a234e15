"""Real Terraform and its state: kept or refused, locked, raced for. No sandbox: S3 is moto's, HTTP
a store of our own.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from cipipe.errors import ConflictError, RefusedError, StageError
from cipipe.redact import Redactor
from cipipe.stages.terraform.root import CommandContext, Root, client
from cipipe.tools.terraform.backend import Backend, in_force
from cipipe.tools.terraform.client import Terraform
from support import statestore
from support.statestore import Store
from support.tools import require

REGION = "eu-central-1"
BLOCK = 'terraform {\n  backend "%s" {\n%s  }\n}\n'
MADE = (
    'resource "terraform_data" "it" {\n  provisioner "local-exec" {\n'
    '    command = "echo made >> %s"\n  }\n}\n'
)


@pytest.fixture
def store() -> Iterator[Store]:
    with statestore.serving() as serving:
        yield serving


@pytest.fixture
def terraform(tmp_path: Path, moto_server: str) -> Callable[..., Terraform]:
    """Makes a client in a root with these files; `name` tells roots apart."""
    require("terraform", "its own account of a state")

    def made(files: dict[str, str], backend: Backend, name: str = "root", **more: Any) -> Terraform:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for file, text in files.items():
            (root / file).write_text(text)
        lines: list[str] = []
        env = {
            "PATH": more.pop("path", os.environ["PATH"]),
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ENDPOINT_URL": moto_server,
            "AWS_ENDPOINT_URL_STS": moto_server,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
        }
        top = tmp_path / f"{name}.top"
        top.mkdir(exist_ok=True)
        command = CommandContext(
            top=top,
            environment_name="dev",
            env=env,
            redactor=Redactor(),
            line=lines.append,
            command_options=(),
            **more,
        )
        return client(Root(folder=root, shown=name, stage="iac", backend=backend), command)

    return made


@pytest.fixture
def s3(moto_server: str) -> Any:
    made = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION).client(
        "s3", endpoint_url=moto_server
    )
    made.create_bucket(
        Bucket="states", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield made
    for entry in made.list_objects_v2(Bucket="states").get("Contents", []):
        made.delete_object(Bucket="states", Key=entry["Key"])
    made.delete_bucket(Bucket="states")


def in_s3(**more: Any) -> Backend:
    workspace = more.pop("workspace", None)
    given = {
        "bucket": "states",
        "key": "net.tfstate",
        "region": REGION,
        "use_path_style": True,
        **more,
    }
    return Backend("s3", given, workspace)


def keys(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket="states").get("Contents", [])]


HEREDOC = (
    'locals {\n  text = <<-END\n    terraform {\n      backend "s3" {}\n'
    '    }\n  END\n}\n# terraform { backend "s3" {} }\n'
)


@pytest.mark.parametrize(
    ("files", "id"),
    [
        ({"main.tf": ""}, "terraform-state-not-kept"),
        ({"main.tf": HEREDOC}, "terraform-state-not-kept"),
        ({"main.tf": BLOCK % ("local", "")}, "terraform-state-not-kept"),
        (
            {"main.tf": BLOCK % ("s3", ""), "ci_override.tf": BLOCK % ("local", "")},
            "terraform-state-not-kept",
        ),
        (
            {"main.tf.json": '{"terraform": {"backend": {"local": {"path": "x"}}}}'},
            "terraform-state-not-kept",
        ),
        ({"main.tf": BLOCK % ("http", "")}, "terraform-backend-mismatch"),
        (
            {"main.tf": 'terraform {\n  cloud {\n    organization = "o"\n  }\n}\n'},
            "terraform-backend-mismatch",
        ),
    ],
)
def test_state_that_would_be_lost_is_refused(
    files: dict[str, str], id: str, terraform: Callable[..., Terraform], s3: Any
) -> None:
    with pytest.raises(RefusedError) as caught:
        terraform(files, in_s3()).init()
    assert caught.value.id == id
    assert 'backend "s3" {}' in f"{caught.value.message} {caught.value.hint}"
    assert keys(s3) == []


def test_a_block_that_went_is_noticed_although_an_earlier_run_had_it(
    terraform: Callable[..., Terraform], s3: Any
) -> None:
    terraform({"main.tf": BLOCK % ("s3", "")}, in_s3()).init()
    with pytest.raises(RefusedError) as caught:
        terraform({"main.tf": ""}, in_s3()).init()
    assert caught.value.where == "root/backend.tf"
    terraform({"main.tf.json": '{"terraform": [{"backend": [{"s3": [{}]}]}]}'}, in_s3()).init()


def test_a_block_without_settings_that_went_is_noticed_too(
    terraform: Callable[..., Terraform], store: Store
) -> None:
    in_environment = Backend(
        "http", {"username": "gitlab-ci-token", "password": statestore.PASSWORD}
    )
    address = f'    address = "{store.settings("net")["address"]}"\n'
    terraform({"main.tf": BLOCK % ("http", address)}, in_environment).init()
    with pytest.raises(RefusedError) as caught:
        terraform({"main.tf": ""}, in_environment).init()
    assert caught.value.id == "terraform-state-not-kept"


def test_the_lines_of_the_refusal_are_what_was_missing(
    terraform: Callable[..., Terraform], s3: Any
) -> None:
    with pytest.raises(RefusedError) as caught:
        terraform({"main.tf": "locals {}\n"}, in_s3()).init()
    lines = caught.value.message.partition(":\n")[2]
    terraform({Path(str(caught.value.where)).name: lines}, in_s3()).init()


def test_a_lock_in_s3_that_another_holds(
    terraform: Callable[..., Terraform], s3: Any, tmp_path: Path
) -> None:
    """No setting asks for locks, and the lock of another is honoured anyway."""
    body = {
        "ID": "77",
        "Operation": "OperationTypePlan",
        "Who": "eve@host",
        "Created": "2026-02-03T04:05:06Z",
    }
    s3.put_object(Bucket="states", Key="net.tfstate.tflock", Body=json.dumps(body).encode())
    one = terraform({"main.tf": BLOCK % ("s3", "")}, in_s3())
    one.init()
    for attempt in (one.create_state, lambda: one.plan(tmp_path / "p")):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.id == "terraform-locked"
        assert "eve@host since 2026-02-03 04:05:06 UTC" in caught.value.message
        assert str(caught.value.hint).endswith("cipipe iac unlock --env dev --stage iac 77")
    one.plan(tmp_path / "p", lock=False)
    for lock_id in ("78", ""):
        with pytest.raises(StageError) as refused:
            one.unlock(lock_id)
        assert refused.value.id == "terraform-lock-unknown"
        assert "eve@host" in refused.value.message
    one.unlock("77")
    with pytest.raises(StageError) as gone:
        one.unlock("77")
    assert gone.value.id == "terraform-lock-unknown"
    assert keys(s3) == []


def test_a_root_that_locks_in_a_table_locks_there_alone(
    terraform: Callable[..., Terraform], s3: Any, tmp_path: Path, moto_server: str
) -> None:
    one = terraform({"main.tf": BLOCK % ("s3", '    dynamodb_table = "locks"\n')}, in_s3())
    one.init()
    config = (in_force(one.commands.data_dir) or {})["config"]
    assert (config["dynamodb_table"], config["use_lockfile"]) == ("locks", False)
    with pytest.raises(StageError) as caught:
        one.plan(tmp_path / "p")
    assert caught.value.id == "terraform-lock-no-table"
    assert "Requested resource not found" in caught.value.message
    with pytest.raises(StageError) as caught:
        one.create_state()
    assert caught.value.id == "terraform-lock-no-table"


def test_a_workspace_is_created_by_the_first_deployment_and_by_nothing_else(
    terraform: Callable[..., Terraform], s3: Any, tmp_path: Path
) -> None:
    files = {"main.tf": BLOCK % ("s3", "") + 'output "of" {\n  value = terraform.workspace\n}\n'}
    one = terraform(files, in_s3(workspace="blue"))
    one.init()
    assert not one.has_workspace()
    assert keys(s3) == []
    one.create_state()
    one.create_state()
    assert one.has_workspace()
    assert keys(s3) == ["env:/blue/net.tfstate"]
    one.plan(tmp_path / "p")
    one.apply(tmp_path / "p")
    assert one.outputs()["of"]["value"] == "blue"
    assert keys(s3) == ["env:/blue/net.tfstate"]


def test_a_store_over_http(
    terraform: Callable[..., Terraform], store: Store, tmp_path: Path
) -> None:
    """The password is in no argument, no file of Terraform's and no plan; wrong IDs release
    nothing.
    """
    (tmp_path / "bin").mkdir()
    wrapper, log = tmp_path / "bin/terraform", tmp_path / "arguments"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\nexec {require("terraform", "a store")} "$@"\n'
    )
    wrapper.chmod(0o755)
    files = {"main.tf": BLOCK % ("http", "") + 'output "it" {\n  value = "x"\n}\n'}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    one = terraform(files, Backend("http", store.settings("net")), path=path, login=store.login)
    one.init()
    one.create_state()
    assert one.plan(tmp_path / "p")
    one.apply(tmp_path / "p")
    assert one.outputs()["it"]["value"] == "x"
    assert store.locks == {}
    secrets = [
        file
        for file in [*one.commands.data_dir.rglob("*"), tmp_path / "p", log]
        if file.is_file() and _holds(file)
    ]
    assert secrets == []

    lock_id = store.hold("net")
    with pytest.raises(ConflictError) as locked:
        one.plan(tmp_path / "p")
    assert locked.value.id == "terraform-locked"
    assert f"lock ID {lock_id}" in locked.value.message
    assert "root@" not in locked.value.message, "Terraform adds what it wrote of its own attempt"
    assert str(locked.value.hint).endswith(lock_id)
    with pytest.raises(StageError) as unknown:
        one.unlock("00000000-0000-4000-8000-000000000000")
    assert unknown.value.id == "terraform-lock-unknown"
    assert str(unknown.value.hint).endswith(lock_id)
    assert store.locks["net"]["ID"] == lock_id
    one.unlock(lock_id)
    assert store.locks == {}
    with pytest.raises(StageError) as none:
        one.unlock(lock_id)
    assert none.value.id == "terraform-lock-unknown"


def _holds(file: Path) -> bool:
    return statestore.PASSWORD.encode() in file.read_bytes()


def test_a_store_that_does_not_let_us_in(terraform: Callable[..., Terraform], store: Store) -> None:
    one = terraform({"main.tf": BLOCK % ("http", "")}, Backend("http", store.settings("net")))
    with pytest.raises(StageError) as caught:
        one.init()
    assert caught.value.id == "terraform-failed"
    assert "requires auth" in caught.value.message


@pytest.mark.parametrize("kept", ["http", "s3"])
def test_of_two_first_deployments_one_applies(
    kept: str, terraform: Callable[..., Terraform], store: Store, s3: Any, tmp_path: Path
) -> None:
    """Both found no state and planned before either applied."""
    made = tmp_path / "made"
    files = {"main.tf": BLOCK % (kept, "") + MADE % made}
    backend = Backend("http", store.settings("net")) if kept == "http" else in_s3()
    both = [terraform(files, backend, name, login=store.login) for name in ("one", "other")]
    for each in both:
        each.init()
    for each in both:
        each.create_state()
    for each in both:
        each.plan(each.commands.data_dir / "p")

    def apply(each: Terraform) -> str:
        try:
            each.apply(each.commands.data_dir / "p")
        except ConflictError as error:
            return error.id
        return "applied"

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(apply, both))
    assert ended.count("applied") == 1
    assert set(ended) - {"applied"} <= {
        "terraform-plan-stale",
        "terraform-locked",
        "terraform-lock-taken",
    }
    assert made.read_text() == "made\n"


def test_a_plan_against_no_state_is_stale_once_there_is_one(
    terraform: Callable[..., Terraform], store: Store, tmp_path: Path
) -> None:
    """A state that starts with serial 0, as other tools push them: Terraform alone would apply the
    plan over it.
    """
    made = tmp_path / "made"
    one = terraform(
        {"main.tf": BLOCK % ("http", "") + MADE % made},
        Backend("http", store.settings("net")),
        login=store.login,
    )
    one.init()
    one.create_state()
    one.plan(one.commands.data_dir / "p")
    state = json.loads(store.states["net"])
    store.states["net"] = json.dumps(
        {**state, "serial": 0, "lineage": "3f0c5e0e-1111-4222-8333-444444444444"}
    ).encode()
    with pytest.raises(ConflictError) as caught:
        one.apply(one.commands.data_dir / "p")
    assert caught.value.id == "terraform-plan-stale"
    assert not made.exists()


def test_an_existing_state_is_left_as_it_is(
    terraform: Callable[..., Terraform], store: Store, tmp_path: Path
) -> None:
    one = terraform(
        {"main.tf": BLOCK % ("http", "") + MADE % (tmp_path / "made")},
        Backend("http", store.settings("net")),
        login=store.login,
    )
    one.init()
    one.create_state()
    one.plan(one.commands.data_dir / "p")
    one.apply(one.commands.data_dir / "p")
    before = store.states["net"]
    one.create_state()
    assert store.states["net"] == before
    assert not one.plan(one.commands.data_dir / "p")
