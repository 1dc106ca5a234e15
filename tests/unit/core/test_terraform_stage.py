"""What a terraform stage refuses to apply, given what `terraform show -json` prints of a plan."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.errors import RefusedError
from cipipe.model import Mode
from cipipe.redact import Redactor
from cipipe.stages import terraform
from cipipe.stages.context import StageResult
from cipipe.stages.settings import Stage
from cipipe.tools.terraform.client import Terraform
from cipipe.tools.terraform.commands import Commands
from cipipe.tools.terraform.shown import ShownPlan
from support.contexts import stage_context

REPLACE = ["delete", "create"]


def entry(type: str, actions: list[str], **more: Any) -> dict[str, Any]:
    change = {"actions": actions, "before": None if actions == ["create"] else {"bucket": "b"}}
    return {"address": f"{type}.it", "type": type, "mode": "managed", "change": change, **more}


class FakeTerraform:
    """A client whose plan has these changes, as `terraform show -json` prints them."""

    def __init__(self, changes: list[dict[str, Any]], *, has_workspace: bool = True) -> None:
        self._changes = changes
        self._has_workspace = has_workspace

    def has_workspace(self) -> bool:
        return self._has_workspace

    def plan(self, *_: Any, **__: Any) -> bool:
        return bool(self._changes)

    def show(self, _: Path) -> ShownPlan:
        return msgspec.convert({"resource_changes": self._changes}, ShownPlan)


def plan(
    folder: Path,
    *changes: dict[str, Any],
    has_workspace: bool = True,
    approval: bool = False,
    **given: Any,
) -> StageResult:
    """Run the step that plans."""
    settings = terraform.Settings(root="terraform", backend={"bucket": "b", "key": "k"})
    mode: Mode = given.get("mode", Mode.DEPLOY)
    stage = Stage("iac", "terraform", settings, approval=approval)
    fake: Any = FakeTerraform(list(changes), has_workspace=has_workspace)
    steps = terraform.steps(stage, mode, tag="", client_of=lambda _: fake)
    step = next(step for step in steps if " plan " in step.title)
    context = stage_context(
        stage=stage,
        scratch=folder,
        line=lambda _: None,
        redactor=Redactor(),
        **{"mode": mode, **given},
    )
    result = StageResult()
    step.run(context, result)
    return result


@pytest.mark.parametrize("actions", [["delete"], REPLACE, ["create", "delete"]])
def test_losing_data_is_refused(actions: list[str], tmp_path: Path) -> None:
    lost = entry("aws_s3_bucket", actions)
    other = entry("aws_iam_role", actions)
    with pytest.raises(RefusedError) as caught:
        plan(tmp_path, lost, other)
    assert caught.value.id == "terraform-protected-resource"
    assert "aws_s3_bucket.it" in caught.value.message
    assert "aws_iam_role" not in caught.value.message
    result = plan(tmp_path, lost, allow_replace=True)
    assert result.summary == ("1 destroyed" if actions == ["delete"] else "1 replaced")


@pytest.mark.parametrize(
    "harmless",
    [
        entry("aws_s3_bucket", ["create"]),
        entry("aws_s3_bucket", ["update"]),
        entry("aws_iam_role", REPLACE),
        entry("aws_vpc", REPLACE, action_reason="replace_because_tainted"),
    ],
)
def test_other_changes_are_not_refused(harmless: dict[str, Any], tmp_path: Path) -> None:
    plan(tmp_path, harmless)


def test_only_a_tainted_resource_may_be_replaced(
    tmp_path: Path,
) -> None:
    with pytest.raises(RefusedError):
        plan(
            tmp_path,
            entry("aws_vpc", REPLACE, action_reason="replace_because_cannot_update"),
        )


def test_what_changes_after_the_first_plan_needs_an_approval_too(tmp_path: Path) -> None:
    """The step before found no changes, and this plan would be applied."""
    new = entry("aws_iam_role", ["create"])
    with pytest.raises(RefusedError) as caught:
        plan(tmp_path, new, approval=True)
    assert caught.value.id == "approval-required"
    assert plan(tmp_path, approval=True).summary == "no resource changes"
    assert plan(tmp_path, new, approval=True, approval_waived=True).summary == "1 added"


def test_data_sources_and_no_ops_do_not_count(
    tmp_path: Path,
) -> None:
    result = plan(
        tmp_path,
        entry("aws_s3_bucket", ["delete"], mode="data"),
        entry("aws_s3_bucket", ["no-op"]),
    )
    assert result.summary == "no resource changes"


@pytest.mark.parametrize("mode", [Mode.VERIFY, Mode.DESTROY])
def test_a_missing_workspace_is_not_created_by_a_plan(mode: Mode, tmp_path: Path) -> None:
    result = plan(tmp_path, entry("aws_iam_role", ["create"]), mode=mode, has_workspace=False)
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
    monkeypatch.setattr("cipipe.tools.terraform.client.version", lambda *_: version)
    monkeypatch.setattr(Terraform, "_init", lambda _, settings: given.append(dict(settings)))
    commands = Commands(
        root=tmp_path,
        data_dir=tmp_path / "d",
        env={},
        redactor=Redactor(),
        line=lines.append,
        unlock_command="unlock",
    )
    Terraform(commands).init()
    assert [settings.get("use_lockfile", False) for settings in given] == [locked]
    assert bool(lines) is not locked
