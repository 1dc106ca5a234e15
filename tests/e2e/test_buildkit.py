"""Dockerfiles that need BuildKit, built by the real `docker` command with a real daemon."""

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipipe import tree_files
from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.model import Mode
from cipipe.patterns import Patterns
from cipipe.redact import Redactor
from cipipe.sandbox.images import dockerd
from cipipe.stages import image
from cipipe.stages.context import StageResult
from cipipe.stages.settings import Stage
from cipipe.tools.docker import buildkit
from cipipe.tools.docker.client import Docker
from cipipe.tools.git.client import Repository
from support.contexts import stage_context
from support.tools import require

REPOSITORY = "cipipe-test-base"
BASE = f"{REPOSITORY}:1"
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon of our own, with an image that has a shell and nothing else."""
    program = dockerd.program(os.environ)
    require(program or "dockerd", "building with BuildKit")
    if program is None:
        pytest.skip("only root can start a Docker daemon")
    if buildkit.command(os.environ) is None:
        require("docker-with-buildkit", "building with BuildKit")
    folder = tmp_path_factory.mktemp("docker")
    started = dockerd.Dockerd.start(program, os.environ, folder=folder, data=None)
    try:
        started.wait()
        import docker

        client = docker.APIClient(base_url=started.host, version="1.41")
        client.import_image_from_data(_shell(), repository=REPOSITORY, tag="1")
        client.close()
        yield started.host
    finally:
        started.stop()


def _shell() -> bytes:
    """A root file system with /bin/sh and the libraries that it needs."""
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", dereference=True) as tar:
        for file in ["/bin/sh", *re.findall(r"(?:=> |\t)(/\S+)", listed)]:
            tar.add(file)
    return made.getvalue()


class Builds:
    def __init__(self, root: Path, host: str) -> None:
        self.root = root
        self.lines: list[str] = []
        self.env = {**os.environ, "DOCKER_HOST": host, "HOME": str(root)}
        self.redactor = Redactor()
        self.daemon = Docker(self.env, self.redactor, self.lines.append, Interrupt())
        (root / "scratch").mkdir()

    def built(self, files: dict[str, str], **settings: Any) -> str:
        """Commit the files below app/, run the stage's build step, and give the image's name."""
        for name, text in files.items():
            (self.root / "app" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / "app" / name).write_text(text)
        for argv in (
            ["init", "-q"],
            ["add", "-A", "app"],
            ["commit", "-q", "--allow-empty", "-m", "x"],
        ):
            author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
            subprocess.run(["git", *author, *argv], cwd=self.root, check=True)
        repository = Repository(self.root, os.environ)
        commit, tree = repository.objects(["HEAD^{commit}", "HEAD^{tree}"])
        assert commit is not None
        assert tree is not None
        stage = Stage(
            "app",
            "image",
            image.Settings(context="app", repository="r.test/app", **settings),
            ("app/**",),
        )
        context = stage_context(
            project="shop",
            stage=stage,
            repository=repository,
            commit=commit.oid,
            commit_time=1_700_000_000,
            entries=tree_files.files(repository, tree.oid, Patterns(stage.paths)),
            fingerprint="0123456789" * 6 + "abcd",
            child_env=self.env,
            redactor=self.redactor,
            line=self.lines.append,
            scratch=self.root / "scratch",
        )
        self.lines.clear()
        image.steps(stage, Mode.VERIFY, tag="")[0].run(context, StageResult())
        assert list((self.root / "scratch").iterdir()) == []
        return f"r.test/app:{context.fingerprint[:20]}"


@pytest.fixture
def builds(tmp_path: Path, host: str) -> Builds:
    return Builds(tmp_path, host)


def test_what_only_buildkit_knows(builds: Builds) -> None:
    dockerfile = f"""\
FROM {BASE}
ARG TOKEN
COPY --chmod=750 . /app/
RUN --mount=type=bind,source=extra.txt,target=/mounted --mount=type=cache,target=/cache \\
    read LINE < /mounted && test "$LINE" = extra && test "$TOKEN" = {SECRET}
"""
    builds.redactor.register(SECRET)
    name = builds.built(
        {
            "Dockerfile": dockerfile,
            "Dockerfile.dockerignore": "Dockerfile*\n**/private\n",
            ".dockerignore": "*\n",
            "run.sh": "echo hello\n",
            "extra.txt": "extra\n",
            "a/b/private/key": "key",
            "a/b/kept.txt": "",
        },
        build_args={"TOKEN": SECRET},
    )
    listed = "cd /app && echo * .[a-z]* a/* && test -x run.sh && ! test -e a/b/private"
    builds.daemon.run(name, ["/bin/sh", "-c", listed])
    assert builds.lines[-1].split() == ["a", "extra.txt", "run.sh", ".dockerignore", "a/b"]
    assert not any(SECRET in line for line in builds.lines)
    labels = builds.daemon._client.images.get(name).labels
    assert labels["org.opencontainers.image.title"] == "shop"
    assert labels["io.cipipe.fingerprint"].startswith("0123456789")


@pytest.mark.parametrize(
    "copy", ["COPY . /app/", "COPY --chmod=750 . /app/"], ids=["classic", "buildkit"]
)
@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ({".dockerignore": "Dockerfile\n**/*.key\n"}, {".dockerignore", "a/x.txt"}),
        ({"Dockerfile.dockerignore": "Dockerfile*\n**/*.key\n"}, {"a/x.txt"}),
        (
            {"Dockerfile.dockerignore": "*.dockerignore\n", ".dockerignore": "*"},
            {"Dockerfile", "a/x.txt", "a/b.key"},
        ),
        ({"Dockerfile.dockerignore": "*\n!a/b.key\n", ".dockerignore": "a"}, {"a/b.key"}),
    ],
)
def test_both_builders_leave_out_the_same_files(
    builds: Builds, copy: str, ignore: dict[str, str], kept: set[str]
) -> None:
    dockerfile = f"FROM {BASE}\n{copy}\n"
    name = builds.built({"Dockerfile": dockerfile, "a/x.txt": "", "a/b.key": "", **ignore})
    builds.daemon.run(
        name, ["/bin/sh", "-c", "cd /app; for f in * .d* */*; do test -f $f && echo $f; done; true"]
    )
    printed = set(builds.lines) & {
        "Dockerfile",
        "Dockerfile.dockerignore",
        ".dockerignore",
        "a/x.txt",
        "a/b.key",
    }
    assert printed == kept


def test_an_instruction_that_fails(builds: Builds) -> None:
    dockerfile = (
        f"FROM {BASE}\nRUN --mount=type=cache,target=/c echo before && echo oops >&2 && exit 3\n"
    )
    with pytest.raises(StageError) as caught:
        builds.built({"Dockerfile": dockerfile})
    error = caught.value
    assert error.id == "docker-build-failed"
    assert "exit 3" in error.message.splitlines()[0]
    assert re.search(r"\boops$", error.message, re.MULTILINE)


def test_an_error_names_the_instructions_line(builds: Builds) -> None:
    dockerfile = f"FROM {BASE}\n\n# why\nRUN echo before \\\n    && exit 7\n"
    for path in (builds.env["PATH"], "/nowhere"):
        builds.env["PATH"] = path
        with pytest.raises(StageError) as caught:
            builds.built({"Dockerfile": dockerfile, "again": path})
        error = caught.value
        assert (error.id, error.where) == ("docker-build-failed", "app/Dockerfile:4")
        assert "7" in error.message
        assert "before" in error.message.splitlines()


@pytest.mark.parametrize("path", [None, "/nowhere"], ids=["buildkit", "classic"])
def test_the_build_stage_that_is_the_target(builds: Builds, path: str | None) -> None:
    builds.env["PATH"] = path or builds.env["PATH"]
    dockerfile = f"FROM {BASE} AS wanted\nCOPY a /wanted\nFROM {BASE}\nCOPY a /other\n"
    name = builds.built({"Dockerfile": dockerfile, "a": ""}, target="wanted")
    builds.daemon.run(name, ["/bin/sh", "-c", "test -e /wanted && ! test -e /other"])


def test_the_platform_of_the_image(builds: Builds) -> None:
    name = builds.built(
        {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": ""}, platform="linux/arm64"
    )
    assert builds.daemon._client.images.get(name).attrs["Architecture"] == "arm64"


def test_a_frontend_that_cannot_be_pulled(builds: Builds) -> None:
    frontend = "# syntax=registry.invalid/docker/dockerfile:1\n# escape=`\n"
    copy = "COPY --link --chmod=600 a `\n  /a"
    files = {"Dockerfile": f"{frontend}FROM {BASE}\n{copy}\nCOPY . /app/\n", "a": ""}
    name = builds.built({**files, "Dockerfile.dockerignore": "a/c\n", ".dockerignore": "*\n"})
    assert any("frontend that is part of the builder" in line for line in builds.lines)
    # The context has the Dockerfile of the commit.
    builds.daemon.run(name, ["/bin/sh", "-c", "test -e /a && read A < /app/Dockerfile && echo $A"])
    assert builds.lines[-1] == frontend.splitlines()[0]

    with pytest.raises(StageError) as caught:
        builds.built({"Dockerfile": f"{frontend}FROM {BASE}\nCOPY --later a /a\n"})
    assert "`# syntax=` names cannot be pulled" in (caught.value.hint or "")


def test_no_command_that_has_buildkit(builds: Builds) -> None:
    builds.env["PATH"] = "/nowhere"
    with pytest.raises(StageError) as caught:
        builds.built({"Dockerfile": f"FROM {BASE}\n\nCOPY --link a /a\n", "a": ""})
    assert (caught.value.id, caught.value.where) == ("docker-buildkit-missing", "app/Dockerfile:3")
    assert "COPY --link" in caught.value.message
    builds.built({"Dockerfile": "FROM scratch\nCOPY a /a\n"})
