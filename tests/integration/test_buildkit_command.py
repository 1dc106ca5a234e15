"""Which builder builds what, and what BuildKit's command is given: with a `docker` in PATH that
tells it.
"""

import json
import re
from pathlib import Path

import pytest

from cipipe.errors import StageError
from cipipe.stages.image.dockerfile import needs_buildkit
from cipipe.tools.docker import buildkit
from cipipe.tools.process import Watch

SAID = """\
import json, os, sys
if sys.argv[1] == "version":
    print({version!r})
elif sys.argv[1:] == ["buildx", "version"]:
    sys.exit({buildx})
else:
    print({prints!r})
    json.dump([sys.argv[1:], dict(os.environ)], open({record!r}, "w"))
    sys.exit({status})
"""


def command(
    folder: Path, version: str, *, buildx: bool = True, prints: str = "", status: int = 0
) -> Path:
    """A `docker` in a folder, which writes down how a build is called."""
    folder.mkdir(parents=True)
    file = folder / "docker"
    record = str(folder / "called.json")
    text = SAID.format(
        version=version, buildx=int(not buildx), prints=prints, record=record, status=status
    )
    file.write_text(f"#!/usr/bin/env python3\n{text}")
    file.chmod(0o755)
    return folder


def searched(*folders: Path) -> dict[str, str]:
    return {
        "PATH": ":".join([*map(str, folders), "/usr/bin", "/bin"]),
        "DOCKER_HOST": "tcp://docker.test:2376",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nCOPY a /x\nRUN echo --mount --link", None),
        ("# syntax=docker/dockerfile:1\nFROM x\nRUN a", None),
        ("FROM x\nRUN --mount=type=cache,target=/c \\\n  a", (2, "RUN --mount")),
        ("FROM x\n\nCOPY --from=b --link a /x", (3, "COPY --link")),
        ("FROM x\nADD --chmod=1 a /x", (2, "ADD --chmod")),
        ("FROM x\nCOPY --chown=1 --from=b a /x", None),
        ("FROM x\nRUN <<EOF\nRUN --mount=x a\nEOF", (2, "RUN with a here-document")),
        ("FROM x\nCOPY <<EOF /x\nEOF", (2, "COPY with a here-document")),
        ("FROM x\n# RUN --mount=x a\nCMD --mount=x", None),
    ],
)
def test_what_needs_buildkit(text: str, expected: tuple[int, str] | None) -> None:
    assert needs_buildkit(text.encode()) == expected


def test_the_first_command_that_has_buildkit(tmp_path: Path) -> None:
    old = command(tmp_path / "old", "20.10.24")
    without = command(tmp_path / "without", "28.2.2", buildx=False)
    plugin = command(tmp_path / "plugin", "28.2.2")
    ancient = command(tmp_path / "ancient", "17.05.0-ce")
    assert buildkit.command(searched(without, ancient, old, plugin)) == (
        str(old / "docker"),
        "build",
    )
    assert buildkit.command(searched(plugin, old)) == (
        str(plugin / "docker"),
        "buildx",
        "build",
        "--load",
    )
    assert buildkit.command({**searched(), "PATH": f"{without}:{tmp_path}:"}) is None


def build(folder: Path, tmp_path: Path, **build_args: str) -> list[str]:
    lines: list[str] = []
    env = {**searched(folder), "NO_PROXY": "example.org"}
    wanted = buildkit.Build(
        dockerfile="docker/Dockerfile",
        tag="r.test/app:1",
        build_args=build_args,
        labels={"a": "b c"},
        platform="linux/arm64",
        network="host",
        created=1_700_000_000,
    )
    buildkit.build(
        (str(folder / "docker"), "build"),
        tmp_path,
        wanted,
        env=env,
        line=lines.append,
        watch=Watch(),
    )
    return lines


def test_how_it_is_called(tmp_path: Path) -> None:
    folder = command(tmp_path / "bin", "20.10.24", prints="#1 done")
    assert build(folder, tmp_path, TOKEN="hidden-value", DOCKER_HOST="elsewhere") == ["#1 done"]
    argv, env = json.loads((folder / "called.json").read_text())
    assert argv == [
        "build",
        "--progress",
        "plain",
        "--tag",
        "r.test/app:1",
        "--file",
        f"{tmp_path}/docker/Dockerfile",
        "--label=a=b c",
        "--build-arg=TOKEN",
        "--build-arg=DOCKER_HOST=elsewhere",
        "--platform=linux/arm64",
        "--network=host",
        str(tmp_path),
    ]
    assert "hidden-value" not in " ".join(argv)
    wanted = {
        "TOKEN": "hidden-value",
        "DOCKER_BUILDKIT": "1",
        "DOCKER_HOST": "tcp://docker.test:2376",
        "NO_PROXY": "example.org,docker.test",
        "no_proxy": "docker.test",
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    assert {name: env.get(name) for name in wanted} == wanted


NOT_PULLED = """\
#3 resolve image config for docker.io/docker/dockerfile:1
#3 sha256:ac072d521901222eeef550f52282877f196e16b0247844be9ceb1ccc1eac391d
------
 > resolve image config for docker.io/docker/dockerfile:1:
------
failed to solve with frontend dockerfile.v0: failed to do request: no such host"""
TOO_OLD = (
    "#2 DONE 0.1s\nfailed to solve with frontend dockerfile.v0: "
    "dockerfile parse error line 2: Unknown flag: link"
)
FAILED = """\
#6 [stage-0 3/3] RUN make all
#6 0.596 cc main.c
#6 ERROR: executor failed running [/bin/sh -c make all]: exit code: 2
------
 > [stage-0 3/3] RUN make all:
------
executor failed running [/bin/sh -c make all]: exit code: 2"""


@pytest.mark.parametrize(
    ("prints", "message", "hint"),
    [
        (NOT_PULLED, "no such host", "`# syntax=` names cannot be pulled"),
        (TOO_OLD, "Unknown flag: link", "# syntax=docker/dockerfile:1"),
        (FAILED, r"make all\]: exit code: 2\n(.*\n)*#6 0.596 cc main.c\n", "builder's own"),
    ],
)
def test_why_a_build_failed(tmp_path: Path, prints: str, message: str, hint: str) -> None:
    folder = command(tmp_path / "bin", "20.10.24", prints=prints, status=1)
    with pytest.raises(StageError) as caught:
        build(folder, tmp_path)
    assert caught.value.id == "docker-build-failed"
    assert re.search(message, caught.value.message)
    assert hint in (caught.value.hint or "")
    assert "sha256:" not in caught.value.message
