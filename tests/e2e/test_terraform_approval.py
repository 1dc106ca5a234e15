"""Saved plans with real Terraform: applied byte for byte once, and refused where anything differs
from what was approved. All states stay as they were then.
"""

import base64
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.approvals import CONFIG, SECRET, Ended, Infrastructure


@pytest.fixture
def live(tmp_path: Path, endpoint: str) -> Infrastructure:
    """Nothing is deployed yet. The environment `live` wants approvals, `dev` does not."""
    return Infrastructure(tmp_path / "shop", endpoint)


def deployed(live: Infrastructure, environment: str = "dev", *, pipeline: int = 1) -> None:
    """Version `one` is deployed, and version `two` is checked out."""
    ended = live.job("run", "--env", environment, pipeline=pipeline)
    assert ended.status == 0, ended.err
    live.release("two")


def refused(live: Infrastructure, ended: Ended, error: str, before: dict[str, Any]) -> None:
    """Nothing was applied or recorded."""
    assert ended.error == (5, error), ended.err
    assert live.states() == before


def test_a_run_applies_nothing_that_nobody_approved(live: Infrastructure) -> None:
    before = live.states()
    assert set(before.values()) == {None}
    ended = live.job("run", "--env", "live", pipeline=7)
    refused(live, ended, "approval-required", before)
    assert "2 to add" in ended.document["error"]["message"]
    assert live.terraform("apply") == []

    # A shell needs an approval, too.
    refused(live, live.job("run", "--env", "live", "--yes"), "approval-required", before)

    # The environment that wants none is deployed as always.
    assert live.job("run", "--env", "dev", pipeline=7).status == 0
    assert live.applied("dev") == "one"


def test_the_approved_plan_is_applied_byte_for_byte_and_once(live: Infrastructure) -> None:
    plan = live.save()
    assert live.applied() is None
    described = json.loads(live.body(live.saved(plan)) or b"")
    assert described["place"]["environment"] == "live"
    assert described["counts"]["create"] == 2
    assert (described["pipeline_url"], described["actor"]) == (
        "https://gitlab.example/shop/-/pipelines/7",
        "ada",
    )
    head = live.s3.head_object(
        Bucket="cipipe-123456789012-eu-central-1", Key=live.saved(plan, "tfplan")
    )
    assert head["ServerSideEncryption"] == "AES256"

    ended = live.apply(plan)
    assert ended.status == 0, ended.err
    assert live.terraform("apply") == [f"apply {described['sha256']}"]
    assert live.applied() == "one"
    record = json.loads(live.body("ledger/shop/live/iac.json") or b"")
    assert (record["state"], record["sequence"]) == ("deployed", 7)
    assert "version" in json.loads(live.body("ledger/shop/live/iac.outputs.json") or b"")

    # The plan is gone with all its versions, and what is left says by whom it was used.
    assert [key for key in live.versions() if ".tfplan?" in key] == []
    before = live.states()
    again = live.apply(plan)
    refused(live, again, "saved-plan-used", before)
    assert "pipelines/7" in again.document["error"]["message"]

    # The rest of the pipeline runs as always, and nothing of it needs an approval.
    rest = live.job("run", "--env", "live", pipeline=7)
    assert rest.status == 0, rest.err
    assert [stage["result"] for stage in rest.document["stages"]] == ["unchanged", "done"]


def test_a_plan_without_changes_needs_no_approval(live: Infrastructure, tmp_path: Path) -> None:
    assert live.apply(live.save()).status == 0
    assert live.job("run", "--env", "live", pipeline=7).status == 0
    live.write("infra/comment.tf", "# nothing\n")
    live.release("one")
    ids = tmp_path / "ids"
    for due, started in ((True, True), (False, False)):
        before = len(live.terraform())
        saved = live.job(
            *("iac", "plan", "--env", "live", "--save", "--if-due", "--id-file", str(ids)),
            pipeline=8,
        )
        assert saved.status == 0, saved.err
        assert "saved" not in saved.document
        assert (saved.document["changes"] is not None) is due
        assert (len(live.terraform()) > before) is started
        ended = live.job("run", "--env", "live", pipeline=8)
        assert ended.status == 0, ended.err
    assert ids.read_text() == 2 * "CIPIPE_PLAN_ID=none\n"


def test_the_id_is_handed_over_in_a_file(live: Infrastructure, tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    ids.write_text("OTHER=1\n")
    plan = live.save("live", "--id-file", str(ids), "--valid-hours", "2")
    assert ids.read_text() == f"OTHER=1\nCIPIPE_PLAN_ID={plan}\n"


def test_the_plan_of_dev_in_a_job_of_live(live: Infrastructure) -> None:
    plan = live.save("dev")
    before, started = live.states(), live.terraform()
    ended = live.apply(plan, environment="live")
    refused(live, ended, "saved-plan-other-place", before)
    assert "environment dev, and this is live" in ended.document["error"]["message"]

    # Not even where somebody has copied it there.
    copied = plan.replace("dev.", "live.", 1)
    for ending in ("json", "tfplan"):
        live.put(live.saved(copied, ending), live.body(live.saved(plan, ending)) or b"")
    live.change(copied, id=copied)
    ended = live.apply(copied, environment="live")
    refused(live, ended, "saved-plan-other-place", before)
    assert "backend s3" in ended.document["error"]["message"]
    assert live.terraform() == started


def test_a_plan_of_another_commit(live: Infrastructure) -> None:
    plan = live.save()
    before = live.states()
    live.release("two")
    refused(live, live.apply(plan), "saved-plan-other-commit", before)


def test_one_byte_that_changed_is_found_before_terraform_starts(live: Infrastructure) -> None:
    plan = live.save()
    before, started = live.states(), live.terraform()
    key = live.saved(plan, "tfplan")
    body = live.body(key) or b""
    live.put(key, body[:100] + bytes([body[100] ^ 1]) + body[101:])
    refused(live, live.apply(plan), "saved-plan-damaged", before)
    assert live.terraform() == started


def test_an_expired_plan(live: Infrastructure) -> None:
    plan = live.save()
    before = live.states()
    live.change(plan, expires_at="2026-01-02T03:04:05+00:00")
    refused(live, live.apply(plan), "saved-plan-expired", before)


def test_an_older_pipeline(live: Infrastructure) -> None:
    deployed(live)
    plan = live.save("dev", pipeline=7)
    assert live.job("run", "--env", "dev", pipeline=9).status == 0
    before = live.states()
    refused(live, live.apply(plan, environment="dev", pipeline=7), "older-pipeline", before)


def test_a_deployment_in_between(live: Infrastructure) -> None:
    deployed(live)
    plan = live.save("dev", pipeline=7)
    assert live.job("run", "--env", "dev", pipeline=7).status == 0
    before = live.states()
    refused(live, live.apply(plan, environment="dev"), "saved-plan-outdated", before)


def test_a_state_that_changed_in_between(live: Infrastructure) -> None:
    plan = live.save()
    state = json.loads(live.body("shop-live.tfstate") or b"")
    live.put("shop-live.tfstate", json.dumps(state | {"serial": state["serial"] + 1}).encode())
    ended = live.apply(plan)
    assert ended.error == (6, "terraform-plan-stale"), ended.err
    assert live.applied() is None
    refused(live, live.apply(plan), "saved-plan-used", live.states())


def test_other_versions(live: Infrastructure) -> None:
    plan = live.save()
    before = live.states()
    versions = json.loads(live.body(live.saved(plan)) or b"")["versions"]
    live.change(plan, versions=versions | {"terraform": "1.10.0"})
    ended = live.apply(plan)
    refused(live, ended, "saved-plan-other-versions", before)
    assert "1.10.0, and this job has 1." in ended.document["error"]["message"]
    assert live.terraform("apply") == []


def test_a_plan_that_leaves_something_out(live: Infrastructure, tmp_path: Path) -> None:
    """As `terraform plan -target` makes it, by somebody who may write where plans are saved."""
    plan = live.save()
    before = live.states()
    body = targeted(live, tmp_path / "targeted.tfplan")
    live.change(plan, body=body)
    refused(live, live.apply(plan), "saved-plan-incomplete", before)
    assert live.terraform("apply") == []


def targeted(live: Infrastructure, file: Path) -> bytes:
    env = {**live.env, "TF_DATA_DIR": str(live.folder / ".cipipe/terraform/live/iac")}
    subprocess.run(
        ["terraform", "plan", "-target=terraform_data.it", f"-out={file}"],
        cwd=live.folder / "infra",
        env={**env, "TF_INPUT": "0"},
        check=True,
        capture_output=True,
    )
    return file.read_bytes()


def test_other_variables_of_the_job(live: Infrastructure) -> None:
    variable = 'variables = { secret = { env = "APP_SECRET" } }\n[stages.after]'
    live.write("cipipe.toml", CONFIG.replace("[stages.after]", variable))
    live.release("one")
    saved = live.job(
        *("iac", "plan", "--save", "--env", "live"), pipeline=7, APP_SECRET="one-secret-value"
    )
    assert saved.status == 0, saved.err
    plan = saved.document["saved"]["id"]
    before = live.states()
    ended = live.job(
        *("iac", "apply", "--env", "live", "--plan", plan), pipeline=7, APP_SECRET="another-value"
    )
    refused(live, ended, "saved-plan-other-inputs", before)


def test_a_merge_request_may_neither_save_nor_apply(live: Infrastructure) -> None:
    plan = live.save()
    before = live.versions()
    request = {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_IID": "5"}
    for arguments in (("plan", "--save"), ("apply", "--plan", plan)):
        ended = live.job("iac", *arguments, "--env", "live", pipeline=7, **request)
        assert ended.error == (5, "merge-request-read-only"), ended.err
    assert live.versions() == before


def test_resources_that_hold_data(live: Infrastructure) -> None:
    protected = 'protected_types = ["terraform_data"]\n[stages.after]'
    live.write("cipipe.toml", CONFIG.replace("[stages.after]", protected))
    live.release("one")
    assert live.apply(live.save()).status == 0
    live.release("two")
    live.write("infra/main.tf", 'terraform {\n  backend "s3" {}\n}\n')
    live.git("commit", "-qam", "Delete it")
    before = live.states()
    ended = live.job("iac", "plan", "--save", "--env", "live", pipeline=8)
    refused(live, ended, "terraform-protected-resource", before)
    plan = live.save("live", "--allow-replace", pipeline=8)
    ended = live.apply(plan, pipeline=8)
    assert ended.status == 0, ended.err
    assert json.loads(live.body("shop-live.tfstate") or b"")["resources"] == []


def test_only_plan_and_state_have_secrets(live: Infrastructure) -> None:
    plan = live.save()
    with zipfile.ZipFile(io.BytesIO(live.body(live.saved(plan, "tfplan")) or b"")) as archive:
        assert any(SECRET.encode() in archive.read(name) for name in archive.namelist())
    kept = live.versions()
    assert live.apply(plan).status == 0
    kept |= live.versions()
    found = {key.partition("?")[0] for key, body in kept.items() if has_secret(body)}
    assert found == {"shop-live.tfstate"}
    for file in live.folder.rglob("*"):
        if file.is_file() and file.name != "main.tf" and ".git/" not in str(file):
            assert not has_secret(file.read_bytes()), file


def has_secret(body: bytes) -> bool:
    secret = SECRET.encode()
    encoded = [secret, secret.hex().encode(), quote(SECRET, safe="").encode()]
    # In Base64, what comes before the secret shifts it by up to two bytes.
    encoded += [base64.b64encode(b"x" * shift + secret)[4:-4] for shift in range(3)]
    return any(one in body for one in encoded)
