"""The command that releases a lock repeats what the command that found the lock was called with."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cipipe
from cipipe.pipeline.session import Session
from cipipe.redact import Redactor
from cipipe.stages import terraform as kind
from cipipe.stages.settings import Stage
from cipipe.stages.terraform.root import CommandContext, Root, client, unlock_command
from cipipe.tools.terraform.backend import Backend

OPTIONS = ("--sandbox", "--config", "conf/my file.toml")
REPEATED = "--sandbox --config 'conf/my file.toml'"


def command_in(top: Path, *options: str) -> CommandContext:
    return CommandContext(
        top=top,
        environment_name="live",
        env={},
        redactor=Redactor(),
        line=lambda _: None,
        command_options=options,
    )


@pytest.mark.parametrize(
    ("stage", "which"),
    [("net", "--stage net"), ("my net", "--stage 'my net'"), (None, "--bootstrap")],
)
def test_the_state_is_named(tmp_path: Path, stage: str | None, which: str) -> None:
    root = Root(folder=tmp_path, shown="r", stage=stage, backend=Backend("s3"))
    expected = f"cipipe iac unlock --env live {which}"
    assert unlock_command(root, command_in(tmp_path)) == expected
    assert unlock_command(root, command_in(tmp_path, *OPTIONS)) == f"{expected} {REPEATED}"


def test_the_client_has_it(tmp_path: Path) -> None:
    root = Root(folder=tmp_path, shown="r", stage="net", backend=Backend("s3"))
    made = client(root, command_in(tmp_path, *OPTIONS))
    assert made.commands.unlock_command == f"cipipe iac unlock --env live --stage net {REPEATED}"


def test_a_stage_that_runs_repeats_the_options(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(
        stage=Stage(name="net", kind="terraform", paths=(), settings=kind.Settings(root="infra")),
        project="shop",
        environment_name="live",
        environment=SimpleNamespace(region="eu-central-1", account_id="111111111111"),
        repository=SimpleNamespace(root=tmp_path),
        child_env={},
        redactor=Redactor(),
        line=lambda _: None,
        interrupt=None,
        sandbox=True,
        command_options=OPTIONS,
        state_login=lambda _: {},
    )
    made = kind.client_of(context)
    assert made.commands.unlock_command == f"cipipe iac unlock --env live --stage net {REPEATED}"


def test_a_command_outside_of_a_run_repeats_the_options(tmp_path: Path) -> None:
    project: Any = SimpleNamespace(
        repository=SimpleNamespace(root=tmp_path),
        command_options=lambda *, sandbox: OPTIONS if sandbox else OPTIONS[1:],
        state_login=lambda _: {},
    )
    target: Any = SimpleNamespace()
    session = Session(project=project, environment_name="live", redactor=Redactor(), target=target)
    for stage, which in (("net", "--stage net"), (None, "--bootstrap")):
        root = Root(folder=tmp_path, shown="r", stage=stage, backend=Backend("s3"))
        made = client(root, session.terraform({}))
        assert made.commands.unlock_command == f"cipipe iac unlock --env live {which} {REPEATED}"


def test_clients_are_made_in_one_place() -> None:
    package = Path(cipipe.__file__).parent
    makers = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call)
        and "Terraform" in {getattr(node.func, "id", None), getattr(node.func, "attr", None)}
    }
    assert makers == {"stages/terraform/root.py"}
