"""Stages side by side, as a process: what does not need each other runs at the same time, and
Ctrl-C ends all of it.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from support.configurations import head
from support.environment import shell_environment
from support.git import ENV, Repo

ACCOUNT, REGION = "123456789012", "eu-central-1"
BUCKET = f"cipipe-{ACCOUNT}-{REGION}"
CIPIPE = [sys.executable, "-c", "from cipipe.__main__ import entry; entry()"]

CONFIG = (
    head(ACCOUNT)
    + """\
deploy_from = { branches = ["main"] }
"""
    + "".join(
        f"""
[stages.{name}]
kind = "command"
paths = ["{name}"]
run = [["sh", "{name}"]]
needs = {needs}
"""
        for name, needs in {
            "finance": "[]",
            "sales": "[]",
            "reports": '["finance", "sales"]',
        }.items()
    )
)

MEETS = """\
touch .git/{me}
for second in $(seq {patience}); do
  [ -e .git/{other} ] && echo "met {other}" && exit 0
  sleep 0.1
done
exit 3
"""
"""Succeeds only if the other one runs at the same time."""

STUBBORN = """\
trap 'echo "{me} cleans up"; sleep 0.3; echo "{me} is clean" ; kill $!; exit 1' TERM
touch .git/{me}
sleep 60 & wait
"""


@dataclass
class Shop:
    repo: Repo
    aws: Aws
    env: dict[str, str]

    def has(self, **scripts: str) -> None:
        self.repo.commit({"cipipe.toml": CONFIG, "reports": "echo reports", **scripts})

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CIPIPE, "run", "--format", "json", *arguments],
            cwd=self.repo.root,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def began(self, *names: str) -> bool:
        return all((self.repo.root / ".git" / name).exists() for name in names)

    def state(self, stage: str) -> str | None:
        stored = self.aws.bucket(BUCKET).get(f"ledger/shop/dev/{stage}.json")
        return str(json.loads(stored.body)["state"]) if stored else None


@pytest.fixture
def shop(endpoint: str, tmp_path: Path) -> Shop:
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    aws = Aws(Endpoint(REGION, endpoint), Credentials("testing", "testing"))
    aws.call(
        "s3",
        "create_bucket",
        Bucket=BUCKET,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    clean = shell_environment(ENV)
    job = {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_BRANCH": "main",
    }
    return Shop(
        Repo(tmp_path / "repo"),
        aws,
        clean | keys | job | {"AWS_ENDPOINT_URL": endpoint, "NO_COLOR": "1"},
    )


def results(answer: str) -> dict[str, str]:
    document: dict[str, Any] = json.loads(answer)
    return {stage["name"]: stage["result"] for stage in document["stages"]}


def wait_until(done: Callable[[], bool]) -> None:
    last = time.monotonic() + 30
    while not done():
        assert time.monotonic() < last
        time.sleep(0.02)


def meeting(patience: int) -> dict[str, str]:
    return {
        "finance": MEETS.format(me="finance", other="sales", patience=patience),
        "sales": MEETS.format(me="sales", other="finance", patience=patience),
    }


def test_stages_that_do_not_need_each_other_run_at_the_same_time(shop: Shop) -> None:
    shop.has(**meeting(300))
    answer, said = shop.run().communicate()
    assert results(answer) == {"finance": "done", "sales": "done", "reports": "done"}, said
    lines = [line for line in said.splitlines() if "met" in line]
    assert sorted(lines) == ["finance │   met sales", "sales │   met finance"], (
        "each line says whose it is"
    )
    assert "section_start" in said, "reports is alone, and folded"
    assert said.count("section_start") == said.count("section_end") == 1


def test_one_job_is_one_stage_at_a_time(shop: Shop) -> None:
    shop.has(**meeting(3))
    running = shop.run("--jobs", "1")
    answer, said = running.communicate()
    # The first waits in vain; the second finds what the first has left.
    assert results(answer) == {"finance": "failed", "sales": "done", "reports": "not-run"}, said
    assert running.returncode == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_all_of_them_cleanly(shop: Shop, number: signal.Signals) -> None:
    shop.has(finance=STUBBORN.format(me="finance"), sales=STUBBORN.format(me="sales"))
    running = shop.run()
    wait_until(lambda: shop.began("finance", "sales"))
    running.send_signal(number)
    running.send_signal(number)
    answer, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert results(answer) == {"finance": "failed", "sales": "failed", "reports": "not-run"}
    for name in ("finance", "sales"):
        assert f"{name} │   {name} is clean" in said, "it was signalled once, and waited for"
        assert shop.state(name) == "failed"
    assert shop.state("reports") is None
    assert "interrupted during stages finance and sales" in said.replace(
        "sales and finance", "finance and sales"
    )
    assert json.loads(answer)["error"]["id"] == "interrupted"
    assert "Traceback" not in said
