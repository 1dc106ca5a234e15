"""Whole runs against a ledger in S3 (moto): what is due is run, nothing is lost, and nothing older
wins.

The stages are commands that write their names into a file, which shows what ran.
"""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cipipe.cli import main
from cipipe.errors import ConflictError
from cipipe.model import Mode, Plan, StagePlan
from cipipe.pipeline import project, running
from cipipe.pipeline.planning.plan import PlanOptions
from cipipe.pipeline.running import Outcome, RunOptions
from cipipe.results import StageReport
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.aws.s3 import Bucket, StoredObject
from support.configurations import environment, head
from support.environment import shell_environment
from support.git import ENV, Repo
from support.sessions import session_of

ACCOUNT, REGION = "123456789012", "eu-central-1"
BUCKET = f"cipipe-{ACCOUNT}-{REGION}"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

CONFIG = (
    head(ACCOUNT)
    + """\
deploy_from = { branches = ["main"] }
"""
    + environment("live", account=ACCOUNT)
    + """\
deploy_from = { branches = ["main"] }
after = "dev"
"""
    + "".join(
        f"""
[stages.{name}]
kind = "command"
paths = ["{name}/**"]
run = [["sh", "{name}/run"]]
needs = {needs}
"""
        for name, needs in {"one": "[]", "two": '["one"]', "apart": "[]"}.items()
    )
    + """
[stages.default]
kind = "command"
when = "nothing-due"
run = [["sh", "-c", "echo default >>.git/ran"]]
"""
)
STAGES = ("one", "two", "apart")


class Silent:
    def stage_started(self, stage: StagePlan, *, alone: bool) -> None: ...
    def step(self, stage: str, title: str) -> None: ...
    def line(self, stage: str, text: str) -> None: ...
    def stage_finished(self, report: StageReport) -> None: ...
    def warning(self, text: str) -> None: ...


@dataclass
class Pipelines:
    """A repository and its pipelines on GitLab. Each call is one job, with its exit status."""

    repo: Repo
    aws: Aws
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    endpoint: str
    number: int = 100
    said: str = field(default="", init=False)

    def __call__(self, *arguments: str, **variables: str) -> int:
        self.monkeypatch.chdir(self.repo.root)
        self.monkeypatch.setattr(os, "environ", self.env(**variables))
        self.capsys.readouterr()
        status = main(list(arguments))
        self.said = "".join(self.capsys.readouterr())
        return status

    def env(self, **variables: str) -> dict[str, str]:
        self.number += 1
        job = {
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": "push",
            "CI_COMMIT_REF_NAME": "main",
            "CI_COMMIT_BRANCH": "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_IID": str(self.number),
        }
        aws = {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}
        return {**shell_environment(ENV), **aws, **job, **variables}

    def run(self, meanwhile: Callable[[], object], **variables: str) -> Outcome:
        """A run between whose plan and first step something else happens."""
        found = project.load(self.repo.root, self.env(**variables))
        options = RunOptions(planning=PlanOptions(mode=Mode.DEPLOY))

        def planned(plan: Plan) -> None:
            meanwhile()

        return running.run(session_of(found, progress=Silent()), options, planned=planned)

    def due(self, *arguments: str, **variables: str) -> dict[str, str]:
        """What a plan says of each stage that is not unchanged."""
        assert (
            self("plan", "--format", "json", "--output", ".git/plan.json", *arguments, **variables)
            == 0
        ), self.said
        plan = json.loads((self.repo.root / ".git/plan.json").read_text())
        return {
            stage["name"]: stage["reason"]
            for stage in plan["stages"]
            if stage["status"] != "unchanged"
        }

    def ran(self) -> list[str]:
        """What has run since it was asked last, in the order of the file: what is not needed runs
        at any time.
        """
        log = self.repo.root / ".git/ran"
        names = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(names, key=[*STAGES, *names].index)

    def record(self, stage: str, environment: str = "dev") -> dict[str, Any]:
        stored = self.aws.bucket(BUCKET).get(f"ledger/shop/{environment}/{stage}.json")
        assert stored is not None
        return dict(json.loads(stored.body))


def script(name: str, version: int = 1) -> dict[str, str]:
    return {f"{name}/run": f"# {version}\necho {name} >>.git/ran\n"}


@pytest.fixture
def pipelines(
    endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Pipelines:
    # A run sets handlers for signals, and this process has its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    aws = Aws(Endpoint(REGION, endpoint), Credentials("testing", "testing"))
    aws.call(
        "s3",
        "create_bucket",
        Bucket=BUCKET,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    repo = Repo(tmp_path / "repo")
    repo.commit(
        {"cipipe.toml": CONFIG, "docs": "", **script("one"), **script("two"), **script("apart")}
    )
    return Pipelines(repo, aws, monkeypatch, capsys, endpoint)


def test_from_the_first_commit_to_nothing_due(pipelines: Pipelines) -> None:
    assert pipelines.due() == dict.fromkeys(STAGES, "never-deployed")
    assert pipelines("run") == 0, pipelines.said
    assert pipelines.ran() == list(STAGES)
    assert pipelines("run") == 0
    assert pipelines.ran() == ["default"]


def test_a_failure_is_not_forgotten_by_a_push_that_touches_docs(pipelines: Pipelines) -> None:
    pipelines("run")
    pipelines.repo.commit({"one/run": "exit 1"})
    pipelines.ran()
    assert pipelines("run") == 4
    pipelines.repo.commit({"docs": "words"})
    assert pipelines.due() == {"one": "not-finished", "two": "upstream"}
    assert pipelines("run") == 4


def test_a_failure_half_way_and_a_revert(pipelines: Pipelines) -> None:
    pipelines("run")
    pipelines.repo.commit({"one/run": "echo half >>.git/ran; exit 1"})
    pipelines.ran()
    pipelines("run")
    assert pipelines.ran() == ["half"]
    pipelines.repo.git("revert", "--no-edit", "HEAD")
    assert pipelines.due()["one"] == "not-finished"
    assert pipelines("run") == 0
    assert pipelines.ran() == ["one"]
    assert pipelines.due() == {"default": "nothing-due"}


def test_killed_and_run_again_on_the_same_commit(pipelines: Pipelines) -> None:
    pipelines("run")
    pipelines.ran()
    record = pipelines.record("apart") | {"state": "deploying", "finished_at": None}
    pipelines.aws.bucket(BUCKET).put("ledger/shop/dev/apart.json", json.dumps(record).encode())
    assert pipelines.due() == {"apart": "not-finished"}
    assert pipelines("run") == 0
    assert (pipelines.ran(), pipelines.record("apart")["state"]) == (["apart"], "deployed")


def test_destroyed_and_the_same_commit_again(pipelines: Pipelines) -> None:
    pipelines("run")
    assert pipelines("destroy", "--env", "dev", "--confirm", "dev") == 0, pipelines.said
    assert pipelines.due() == dict.fromkeys(STAGES, "destroyed")
    pipelines.ran()
    assert pipelines("run") == 0
    assert pipelines.ran() == list(STAGES)


@pytest.mark.parametrize("before", ["0" * 40, "f" * 40])
def test_a_push_whose_before_is_not_here(pipelines: Pipelines, before: str) -> None:
    """A forced push, and a first one: the same answer with it and without it, and exit status 0."""
    pipelines("run")
    pipelines.repo.commit(script("apart", 2))
    for number in range(4):
        pipelines.repo.commit({"docs": str(number)})
    assert pipelines.due(CI_COMMIT_BEFORE_SHA=before) == pipelines.due() == {"apart": "changed"}
    assert pipelines("plan", "--offline", CI_COMMIT_BEFORE_SHA=before) == 0


def test_an_older_run_after_a_newer_one(pipelines: Pipelines) -> None:
    pipelines("run", CI_PIPELINE_IID="7")
    old = pipelines.repo.commit(script("one", 2))
    pipelines.repo.commit(script("one", 3))
    assert pipelines("run", CI_PIPELINE_IID="9") == 0
    newest = pipelines.record("one")
    pipelines.repo.git("checkout", "--quiet", old)
    pipelines.ran()
    assert pipelines("run", CI_PIPELINE_IID="8") == 5
    assert "older-pipeline" in pipelines.said
    assert (pipelines.ran(), pipelines.record("one")) == ([], newest)
    assert pipelines("run", "--allow-rollback", CI_PIPELINE_IID="8") == 0, pipelines.said
    assert pipelines.record("one")["commit"] == old


def test_an_older_run_that_a_newer_one_overtakes(pipelines: Pipelines) -> None:
    """Planned before the newer run wrote: the older one loses where it would write, and leaves the
    newer record.
    """
    pipelines("run", CI_PIPELINE_IID="7")
    pipelines.repo.commit(script("one", 2))
    pipelines.ran()
    outcome = pipelines.run(lambda: pipelines("run", CI_PIPELINE_IID="9"), CI_PIPELINE_IID="8")
    assert isinstance(outcome.error, ConflictError)
    assert outcome.error.exit_status == 6
    assert pipelines.ran() == ["one"], "that of the newer run alone"
    assert pipelines.record("one")["sequence"] == 9
    assert pipelines.record("one")["state"] == "deployed"


def test_two_runs_that_race(pipelines: Pipelines) -> None:
    statuses: list[int] = []
    outcome = pipelines.run(lambda: statuses.append(pipelines("run")))
    assert statuses == [0]
    assert outcome.error is not None
    assert (outcome.error.id, outcome.error.exit_status) == ("ledger-conflict", 6)
    assert pipelines.ran() == list(STAGES), "each stage once"


@pytest.mark.parametrize("body", [b"", b"{", b'{"schema": 2}', b"null", b"\xff"])
def test_a_record_that_is_damaged(pipelines: Pipelines, body: bytes) -> None:
    pipelines("run")
    pipelines.ran()
    pipelines.repo.commit(script("apart", 2))
    pipelines.aws.bucket(BUCKET).put("ledger/shop/dev/two.json", body)
    for command in ("plan", "run", "status"):
        assert pipelines(command) == 4
        assert "ledger-damaged" in pipelines.said
    assert pipelines.ran() == [], "nothing is skipped, because nothing has started"


def test_a_record_that_may_not_be_read(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403, which moto never answers; tests/integration/test_ledger.py gets it from a server."""
    pipelines("run")
    pipelines.ran()
    pipelines.repo.commit(script("apart", 2))
    get = Bucket.get

    def refused(self: Bucket, key: str) -> StoredObject | None:
        if key.endswith("/two.json"):
            raise AwsError("s3:GetObject", "AccessDenied", "Access Denied", 403)
        return get(self, key)

    monkeypatch.setattr(Bucket, "get", refused)
    for command in ("plan", "run", "status"):
        assert pipelines(command) == 4
        assert "ledger-unreadable" in pipelines.said
    assert pipelines.ran() == []


def test_deployed_in_dev_and_not_in_live(pipelines: Pipelines) -> None:
    pipelines("run")
    assert pipelines.due("--env", "dev") == {"default": "nothing-due"}
    assert pipelines.due("--env", "live") == dict.fromkeys(STAGES, "never-deployed")
    pipelines.ran()
    assert pipelines("run", "--env", "live") == 0, pipelines.said
    assert pipelines.ran() == list(STAGES)
    assert pipelines.record("one", "live")["fingerprint"] == pipelines.record("one")["fingerprint"]


def test_live_takes_only_what_dev_runs(pipelines: Pipelines) -> None:
    assert pipelines("run", "--env", "live") == 5
    assert "not-in-earlier-environment" in pipelines.said
    pipelines("run")
    pipelines.repo.commit(script("apart", 2))
    pipelines.ran()
    assert pipelines("run", "--env", "live") == 5
    pipelines.repo.commit({"apart/run": "exit 1"})
    assert pipelines("run") == 4
    assert pipelines("run", "--env", "live") == 5, "dev tried it, and does not run it"
    assert pipelines.ran() == []


def test_a_selection(pipelines: Pipelines) -> None:
    assert pipelines("run", "apart", "one") == 0
    assert pipelines.ran() == ["one", "apart"], "in the order of the file"
    assert pipelines.due() == {"two": "never-deployed"}
    assert pipelines("run", "one") == 0
    assert pipelines.ran() == []
    assert pipelines("run", "--force", "one", "one") == 0
    assert pipelines.ran() == ["one"]


def test_a_stage_alone_whose_need_is_due(pipelines: Pipelines) -> None:
    assert pipelines("run", "two") == 5
    assert "stage two needs one, which is due and was not selected" in pipelines.said
    assert "needed-stage-due" in pipelines.said
    assert pipelines.ran() == [], "nothing was started"
    assert pipelines("run", "one", "two") == 0
    assert pipelines.ran() == ["one", "two"]


def test_a_forced_stage_and_what_is_behind_it(pipelines: Pipelines) -> None:
    """What needs it looks whether its inputs changed; they have not, so that it stays."""
    pipelines("run")
    pipelines.ran()
    assert pipelines.due("--force", "one") == {"one": "forced", "two": "upstream"}
    assert pipelines("run", "--force", "one") == 0
    assert pipelines.ran() == ["one"]
    assert pipelines("run", "--force", "default") == 0
    assert pipelines.ran() == ["default"]
