"""What the terraform stage refuses, by Terraform's own account of a plan (`terraform show -json`)."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.errors import RefusedError
from cipipe.model import Environment, Mode
from cipipe.redact import Redactor
from cipipe.stages import terraform
from cipipe.stages.context import StageResult
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Repository
from cipipe.tools.terraform.client import Terraform
from support.contexts import stage_context

REPLACE = ["delete", "create"]


def entry(type: str, actions: list[str], **more: Any) -> dict[str, Any]:
    change = {"actions": actions, "before": None if actions == ["create"] else {"bucket": "b"}}
    return {"address": f"{type}.it", "type": type, "mode": "managed", "change": change, **more}


def plan(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *entries: dict[str, Any], **given: Any
) -> StageResult:
    """The step that plans, with a Terraform that answers so."""
    monkeypatch.setattr(Terraform, "plan", lambda *_, **__: bool(entries))
    shown = {"resource_changes": list(entries)}
    monkeypatch.setattr(Terraform, "_json", lambda _, __, shape: msgspec.convert(shown, shape))
    settings = terraform.Settings(root="terraform", backend={"bucket": "b", "key": "k"})
    mode: Mode = given.get("mode", Mode.DEPLOY)
    stage = Stage("iac", "terraform", settings)
    fields = {
        "stage": stage,
        "mode": mode,
        "scratch": folder,
        "repository": Repository(folder, {}),
        "child_env": {},
        "project": "shop",
        "environment_name": "dev",
        "environment": Environment("1" * 12, "eu-central-1", "arn"),
    }
    result = StageResult()
    (step,) = [step for step in terraform.steps(stage, mode, tag="") if "plan" in step.title][:1]
    step.run(stage_context(**fields | given), result)
    return result


@pytest.mark.parametrize("actions", [["delete"], REPLACE, ["create", "delete"]])
def test_losing_what_holds_data_is_refused(
    actions: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost, other = entry("aws_s3_bucket", actions), entry("aws_iam_role", actions)
    with pytest.raises(RefusedError) as caught:
        plan(monkeypatch, tmp_path, lost, other)
    assert caught.value.id == "terraform-protected-resource"
    assert "aws_s3_bucket.it" in caught.value.message
    assert "aws_iam_role" not in caught.value.message
    result = plan(monkeypatch, tmp_path, lost, allow_replace=True)
    assert "1 destroyed" in result.summary


@pytest.mark.parametrize(
    "harmless",
    [
        entry("aws_s3_bucket", ["create"]),
        entry("aws_s3_bucket", ["update"]),
        entry("aws_iam_role", REPLACE),
        entry("aws_vpc", REPLACE, action_reason="replace_because_tainted"),
    ],
)
def test_what_loses_no_data_is_not(
    harmless: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan(monkeypatch, tmp_path, harmless)


def test_replaced_for_another_reason_than_being_half_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError):
        plan(
            monkeypatch,
            tmp_path,
            entry("aws_vpc", REPLACE, action_reason="replace_because_cannot_update"),
        )


def test_data_sources_and_no_ops_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = plan(
        monkeypatch,
        tmp_path,
        entry("aws_s3_bucket", ["delete"], mode="data"),
        entry("aws_s3_bucket", ["no-op"]),
    )
    assert result.summary == "no resource changes"


@pytest.mark.parametrize("mode", [Mode.VERIFY, Mode.DESTROY])
def test_a_workspace_that_does_not_exist_is_not_created_to_look_at_it(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Terraform, "has_workspace", lambda _: False)
    result = plan(
        monkeypatch, tmp_path, entry("aws_iam_role", ["create"]), mode=mode, line=lambda _: None
    )
    assert "does not exist yet" in result.summary


@pytest.mark.parametrize(
    ("version", "locked"),
    [("1.9.8", False), ("1.10.0", True), ("1.11.4", True), ("1.13.0-rc1", True), ("2.0.0", True)],
)
def test_an_older_terraform_cannot_lock_by_a_file(
    version: str, locked: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, Any]] = []
    lines: list[str] = []
    monkeypatch.setattr("cipipe.tools.terraform.client.version", lambda _: version)
    monkeypatch.setattr(Terraform, "_init", lambda _, settings: given.append(dict(settings)))
    Terraform(tmp_path, tmp_path / "d", {}, Redactor(), lines.append, "unlock").init()
    assert [settings.get("use_lockfile", False) for settings in given] == [locked]
    assert bool(lines) is not locked
