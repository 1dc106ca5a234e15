"""A machine without Docker: said before anything starts, the image skipped for that reason, the
rest done.
"""

import json
import socket
from pathlib import Path

import pytest

from support.clone import Clone, clone_of_this_repository
from support.tools import require


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    require("terraform", "the infrastructure")
    made = clone_of_this_repository(tmp_path_factory.mktemp("bare") / "repository")
    made.env["CIPIPE_SANDBOX_DOCKER"] = "off"
    return made


def test_the_image_is_skipped_and_never_called_done(bare: Clone) -> None:
    done = bare.run()
    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "done",
        "image": "skipped",
        "dags": "done",
        "default": "unchanged",
    }
    skipped = next(stage for stage in done.document["stages"] if stage["name"] == "image")
    assert "docker" in skipped["detail"]
    lines = done.err.splitlines()
    said = next(number for number, line in enumerate(lines) if "docker is not available" in line)
    assert said < next(number for number, line in enumerate(lines) if "terraform init" in line)
    assert any("dags runs although image was skipped" in line for line in lines)


def test_what_the_run_started_stopped_with_it(bare: Clone) -> None:
    assert not (bare.folder / ".cipipe/sandbox/sandbox.json").exists()
    assert _processes_of(bare) == []


def test_a_kept_sandbox_stops_with_down(bare: Clone) -> None:
    assert bare.cipipe("sandbox", "env").status == 2
    up = bare.cipipe("sandbox", "up", "--format", "json")
    assert up.status == 0, up.text
    url = json.loads(up.out)["environment"]["AWS_ENDPOINT_URL"]
    host, _, port = url.removeprefix("http://").partition(":")
    socket.create_connection((host, int(port))).close()
    assert _processes_of(bare) != []
    assert bare.cipipe("sandbox", "env").status == 0
    assert bare.cipipe("sandbox", "down").status == 0
    assert _processes_of(bare) == []  # its port may be another test's by now
    assert bare.cipipe("sandbox", "down").out == "no sandbox was running\n"


def _processes_of(bare: Clone) -> list[Path]:
    """The processes that name the sandbox's folder in their arguments."""
    folder = str(bare.folder / ".cipipe/sandbox").encode()
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
