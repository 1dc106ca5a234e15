"""The base images of a Dockerfile, and which of them have moved since a build."""

from typing import Any

import msgspec
import pytest

from cipipe.errors import StageError
from cipipe.stages import image
from cipipe.stages.image import bases
from cipipe.stages.image.bases import digests, full_name, moved
from cipipe.stages.image.dockerfile import base_images
from cipipe.stages.settings import Stage
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.docker.client import ImageOnDaemon
from cipipe.tools.docker.progress import BuildProgress
from support.contexts import stage_context

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
PYTHON = "docker.io/library/python:3.12"

DOCKERFILE = b"""\
ARG VERSION=3.12
ARG OTHER
FROM --platform=linux/amd64 python:${VERSION} AS Builder
ARG VERSION=unused
FROM builder AS tested
FROM scratch
FROM $OTHER
FROM r.test:5000/team/base
FROM debian@sha256:0
COPY --from=alpine:3 /x /x
"""


def test_the_images_that_a_dockerfile_builds_on() -> None:
    found = ["python:3.12", "r.test:5000/team/base"]
    assert list(base_images(DOCKERFILE, {})) == found
    given = {"VERSION": "3.13", "OTHER": "ubuntu"}
    assert list(base_images(DOCKERFILE, given)) == ["python:3.13", "ubuntu", found[1]]
    # A value that is not known is no image.
    assert list(base_images(DOCKERFILE, {"VERSION": None})) == [found[1]]


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", PYTHON),
        ("team/base:1", "docker.io/team/base:1"),
        ("localhost/base", "localhost/base:latest"),
        ("r.test:5000/base", "r.test:5000/base:latest"),
        ("ghcr.io/team/base:1", "ghcr.io/team/base:1"),
    ],
)
def test_the_full_name_of_an_image(written: str, full: str) -> None:
    assert full_name(written) == full


def test_the_digests_that_buildkit_names() -> None:
    progress = BuildProgress(lambda _: None)
    for line in (
        f"#4 [linux/amd64 builder 1/4] FROM {PYTHON}@{ONE}",
        f"#4 resolve {PYTHON}@{ONE} 0.0s done",
        "#5 [stage-1 1/2] FROM docker.io/library/local:1",
        f"#6 [stage-1 2/2] RUN echo FROM x@{TWO}",
    ):
        progress.read(line)
    assert progress.bases == {PYTHON: ONE}


class Daemon:
    """It has some images."""

    def __init__(self, **images: tuple[str, ...]) -> None:
        self.images = images

    def described(self, name: str) -> ImageOnDaemon:
        short = name.rpartition("/")[2].partition(":")[0]
        if short not in self.images:
            raise StageError("docker-unreachable", f"no such image: {name}")
        return ImageOnDaemon("sha256:0", 1, {}, self.images[short])


class AnyRegistry:
    """A registry where one tag is known; `other` ones refuse."""

    def __init__(self, known: str | None) -> None:
        self.known = known

    def digest(self, tag: str) -> str | None:
        if tag == "broken":
            raise StageError("registry-refused", "the registry answered 500")
        return self.known


def context() -> Any:
    settings = image.Settings(context="app", repository="r.test/app")
    return stage_context(stage=Stage("image", "image", settings), line=lambda _: None)


def test_what_a_build_knows_of_its_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon: Any = Daemon(local=(), pulled=(f"elsewhere@{ONE}", f"pulled@{TWO}"))
    monkeypatch.setattr(bases, "_registry", lambda *_: AnyRegistry(ONE))
    wanted = ["python:3.12", "local", "pulled", "absent"]
    assert digests(context(), daemon, wanted, {PYTHON: ONE}) == {
        PYTHON: ONE,
        "docker.io/library/pulled:latest": TWO,
    }
    # Nobody could compare with an image that only this daemon has.
    monkeypatch.setattr(bases, "_registry", lambda *_: AnyRegistry(None))
    assert digests(context(), daemon, wanted, {PYTHON: ONE}) == {PYTHON: ONE}


def test_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def registry(_: Any, repository: str) -> AnyRegistry:
        asked.append(repository)
        return AnyRegistry(None if repository.endswith("gone") else TWO)

    monkeypatch.setattr(bases, "_registry", registry)
    recorded = {"r.test/a:1": ONE, "r.test/b:1": TWO, "r.test/c:broken": ONE, "r.test/gone:1": ONE}
    found = dict(moved(context(), recorded))
    assert asked == ["r.test/a", "r.test/b", "r.test/c", "r.test/gone"]
    assert found.pop("r.test/a:1") == TWO
    assert found.pop("r.test/gone:1") is None
    assert getattr(found.pop("r.test/c:broken"), "id", None) == "registry-refused"
    assert found == {}


def test_where_a_base_image_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stage has a login, with that; elsewhere as anybody."""
    with_login: Any = object()
    monkeypatch.setattr(bases, "registry_of", lambda *_: with_login)
    aws = Aws(Endpoint("eu-central-1"), None)
    given = msgspec.structs.replace(context(), aws=aws)
    ecr = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/base"
    assert bases._registry(given, ecr) is with_login
    assert bases._registry(given, "r.test/base") is with_login
    hub = bases._registry(given, "docker.io/library/python")
    assert (hub.url, hub.name) == ("https://registry-1.docker.io", "library/python")
    assert (hub.username, hub.password) == ("", "")
