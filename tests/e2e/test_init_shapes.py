"""`cipipe init` in repositories of many shapes, and then a run of what it wrote in a sandbox."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clone import Clone
from support.environment import shell_environment
from support.init_shapes import FLAGS, SHAPES
from support.tools import require


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that make all shapes share a sandbox: each is a project of its own there."""
    require("terraform", "the infrastructure")
    require("dockerd", "building images")
    require("docker-registry", "pushing images")
    folder = tmp_path_factory.mktemp("shapes")
    env = {**shell_environment(), "CIPIPE_SANDBOX_DIR": str(folder / "sandbox")}
    first = shape_in(folder / "first", "a bucket without Terraform", env)
    assert first.cipipe("init", "--yes", *FLAGS, "--dags-bucket", "first-dags").status == 0
    up = first.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    try:
        yield env
    finally:
        first.cipipe("sandbox", "down")


def shape_in(folder: Path, shape: str, env: dict[str, str]) -> Clone:
    folder.mkdir()
    made = Clone(folder, env)
    made.git("init", "--quiet", "--initial-branch", "main")
    slug = re.sub(r"\W+", "-", shape).lower()
    made.git("remote", "add", "origin", f"git@gitlab.com:data/{slug}.git")
    for name, text in SHAPES[shape][0].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "Before cipipe")
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_what_init_wrote_runs(shape: str, sandbox: dict[str, str], tmp_path: Path) -> None:
    _, flags, stages = SHAPES[shape]
    repo = shape_in(tmp_path / "shop", shape, sandbox)
    for arguments in (("init", "--yes", *flags), ("check",)):
        done = repo.cipipe(*arguments)
        assert done.status == 0, done.text
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "-m", "Deploy with cipipe")

    environment = "prod" if "prod" in flags else "dev"
    run = ("run", "--sandbox", "--env", environment, "--yes", "--format", "json")
    first = repo.cipipe(*run)
    assert first.status == 0, first.text
    assert first.results() == dict.fromkeys(stages, "done")
    second = repo.cipipe(*run)
    assert second.results() == dict.fromkeys(stages, "unchanged"), second.text
