"""A log that cannot be written any more: the deployment goes on, and its exit status says how it
went.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from cipipe.model import Output, State
from support.shop import CONFIG, KEYS, Shop

PROVIDERS = {
    "github": {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main", "GITHUB_EVENT_NAME": "push"},
    "gitlab": {"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "main", "CI_PIPELINE_SOURCE": "push"},
    "local": {},
}
LOST = {
    "full": "2>/dev/full",
    "closed": "2>&-",
    "gone": "2>&1 >/dev/null | true",
    "both full": ">/dev/full 2>&1",
    "cut": "2>&1 | head -n 1",
}
TALKING = """
[stages.talk]
kind = "command"
paths = ["talk"]
run = [["sh", "talk"]]
"""

pytestmark = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a device that is always full"
)


@pytest.fixture
def shop(tmp_path: Path, moto_server: str) -> Shop:
    made = Shop(tmp_path / "shop", moto_server, CONFIG + TALKING)
    made.commit(
        {"talk": "for n in $(seq 2000); do echo $n and a line that fills what a pipe holds; done\n"}
    )
    made.apply(
        dags_bucket=Output(value="dags-bucket"),
        cluster=Output(value="prod"),
        token=Output(value={"password": "correct-horse", "more": "battery-staple"}, sensitive=True),
    )
    return made


def status(shop: Shop, provider: str, lost: str, *arguments: str) -> int:
    """The exit status of cipipe, whose standard error goes where nobody reads it."""
    line = f'"$0" -m cipipe {" ".join(arguments)} {lost}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable],
        cwd=shop.repo.root,
        env={**shop.env, **KEYS, **PROVIDERS[provider]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )
    return done.returncode


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_deployment_goes_on(shop: Shop, provider: str, lost: str) -> None:
    assert status(shop, provider, LOST[lost], "run", "dags", "talk", "-v") == 0
    assert {stage: shop.record(stage).state for stage in ("dags", "talk")} == {
        "dags": State.DEPLOYED,
        "talk": State.DEPLOYED,
    }
    assert b'"prod"' in shop.bodies()["dags/a.py"]


@pytest.mark.parametrize("lost", LOST)
def test_a_failure_is_one_all_the_same(shop: Shop, lost: str) -> None:
    shop.commit({"talk": "seq 2000; exit 3\n"})
    assert status(shop, "github", LOST[lost], "run", "talk") == 4
    assert shop.record("talk").state is State.FAILED
