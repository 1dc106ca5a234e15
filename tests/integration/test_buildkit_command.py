"""Which builder builds what, and what BuildKit's command is given: with a `docker` in PATH that
tells it.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.stages.image.dockerfile import needs_buildkit
from cipipe.tools.docker import buildkit
from cipipe.tools.docker.progress import StepName
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


def build(
    folder: Path,
    tmp_path: Path,
    *arguments: str,
    build_args: dict[str, str] | None = None,
    **more: Any,
) -> list[str]:
    lines: list[str] = []
    env = {**searched(folder), "NO_PROXY": "example.org"}
    wanted = buildkit.Build(
        dockerfile="docker/Dockerfile",
        tag="r.test/app:1",
        build_args=build_args or {},
        labels={"a": "b c"},
        platform="linux/arm64",
        network="host",
        created=1_700_000_000,
        **more,
    )
    buildkit.build(
        (str(folder / "docker"), *(arguments or ("build",))),
        tmp_path,
        wanted,
        env=env,
        line=lines.append,
        watch=Watch(),
    )
    return lines


def test_how_it_is_called(tmp_path: Path) -> None:
    folder = command(tmp_path / "bin", "20.10.24", prints="#1 [1/1] FROM x\n#1 DONE 0.1s")
    build_args = {"TOKEN": "hidden-value", "DOCKER_HOST": "elsewhere"}
    assert build(folder, tmp_path, build_args=build_args) == ["FROM x (0.1 s)"]
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


def test_secrets_target_and_cache(tmp_path: Path) -> None:
    folder = command(tmp_path / "bin", "20.10.24")
    wanted: dict[str, Any] = {
        "target": "final",
        "secrets": {"pip": "first-hidden", "PATH": "second-hidden"},
        "cache_from": ("r.test/app@sha256:1", "r.test/cache:main"),
        "cache_to": "r.test/cache:main",
        "inline_cache": True,
    }
    build(folder, tmp_path, **wanted)
    argv, env = json.loads((folder / "called.json").read_text())
    assert argv[7:-1] == [
        "--label=a=b c",
        "--secret=id=pip,env=CIPIPE_BUILD_SECRET_0",
        "--secret=id=PATH,env=CIPIPE_BUILD_SECRET_1",
        "--target=final",
        "--platform=linux/arm64",
        "--network=host",
        "--cache-from=r.test/app@sha256:1",
        "--cache-from=r.test/cache:main",
        "--build-arg=BUILDKIT_INLINE_CACHE=1",
    ]
    assert (env["CIPIPE_BUILD_SECRET_0"], env["CIPIPE_BUILD_SECRET_1"]) == (
        "first-hidden",
        "second-hidden",
    )

    form = "image-manifest=true,oci-mediatypes=true,ignore-error=true"
    build(folder, tmp_path, "buildx", "build", "--load", **wanted)
    argv, _ = json.loads((folder / "called.json").read_text())
    assert [argument for argument in argv if argument.startswith("--cache")] == [
        "--cache-from=type=registry,ref=r.test/app@sha256:1",
        "--cache-from=type=registry,ref=r.test/cache:main",
        "--cache-to=type=inline",
        f"--cache-to=type=registry,ref=r.test/cache:main,mode=max,{form}",
    ]
    assert "hidden" not in " ".join(argv)


def test_a_daemon_that_cannot_write_a_cache(tmp_path: Path) -> None:
    folder = command(tmp_path / "bin", "28.2.2")
    file = folder / "docker"
    refusing = (
        'if any(a.startswith("--cache-to=type=registry") for a in sys.argv):\n'
        '    sys.exit("ERROR: Cache export is not supported for the docker driver.")\n'
    )
    file.write_text(
        file.read_text().replace("import json, os, sys\n", f"import json, os, sys\n{refusing}")
    )
    wanted: dict[str, Any] = {"cache_to": "r.test/cache:main", "inline_cache": True}
    lines = build(folder, tmp_path, "buildx", "build", "--load", **wanted)
    assert any(line.startswith("nothing is written to r.test/cache:main") for line in lines)
    argv, _ = json.loads((folder / "called.json").read_text())
    assert [argument for argument in argv if argument.startswith("--cache-to")] == [
        "--cache-to=type=inline"
    ]


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
        (FAILED, r"RUN make all: exited with status 2\ncc main.c\Z", "builder's own"),
        ("#5 1.2 write /x: no space left on device", "no space left", "docker system prune"),
    ],
)
def test_why_a_build_failed(tmp_path: Path, prints: str, message: str, hint: str) -> None:
    folder = command(tmp_path / "bin", "20.10.24", prints=prints, status=1)
    lines = {StepName("stage-0", 3): "app/Dockerfile:7"}
    with pytest.raises(StageError) as caught:
        build(folder, tmp_path, lines=lines)
    full = "no space left" in prints
    assert caught.value.id == ("docker-no-space" if full else "docker-build-failed")
    assert caught.value.where == ("app/Dockerfile:7" if prints is FAILED else None)
    assert re.search(message, caught.value.message)
    assert hint in (caught.value.hint or "")
    assert "sha256:" not in caught.value.message
