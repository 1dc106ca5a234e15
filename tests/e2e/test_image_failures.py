"""What can go wrong with an image, on a real daemon with TLS and a real registry: each failure is
its own error, leaves nothing under the content's tag, and the next run succeeds.
"""

import contextlib
import io
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.docker.client import Docker
from support.certificates import Authority
from support.clone import Outcome
from support.fault_project import error_id
from support.image_project import BASE, DOCKERFILE, ImageProject
from support.registry_door import RegistryDoor, registry_door
from support.tls_daemon import TlsDaemon
from support.tools import require

LOGIN = """
login = { username_variable = "REGISTRY_USER", password_variable = "REGISTRY_PASSWORD" }
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a Docker daemon")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDaemon]:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    made = TlsDaemon(require("dockerd", "building images"), tmp_path_factory.mktemp("dockerd"))
    made.start()
    made.import_base(BASE)
    yield made
    made.stop()


class Project(ImageProject):
    """An image whose registry is behind a door."""

    door: RegistryDoor

    def dockerfile(self, more: str = "") -> None:
        """A commit that makes the image due, with more instructions than usual."""
        self.count += 1
        (self.folder / "app/run.sh").write_text(f"echo {self.count}\n")
        self.write("app/Dockerfile", DOCKERFILE + more)

    def failed(self, *, pushing: bool = False, **env: str) -> str:
        """The id of the error that a run fails with."""
        return self.check_failure(self.run_in("dev", **env), pushing=pushing)

    def check_failure(self, outcome: Outcome, status: int = 4, *, pushing: bool = False) -> str:
        """The id of the error. Nothing has the content's tag, the stage is due, and the ledger
        knows of the attempt.

        Before the push nothing has been written, and the record stays as it was: what is deployed
        still is, and other stages and environments go on with it. A push that fails makes it
        `failed`.
        """
        assert outcome.status == status, outcome.text
        error = "interrupted" if status == 130 else error_id(outcome)
        done = self.cipipe("plan", "--sandbox", "--env", "dev", "--format", "json")
        planned = next(s for s in done.document["stages"] if s["name"] == "image")
        assert planned["status"] == "due"
        assert planned["last_failure"]["error"] == error
        assert planned["last_failure"]["commit"] == self.git("rev-parse", "HEAD")
        assert self.record()["state"] == ("failed" if pushing else "deployed")
        is_current = self.record()["fingerprint"] == planned["fingerprint"]
        assert is_current == pushing
        assert self.pushed(planned["fingerprint"]) is None
        return error

    def last_failure(self) -> str | None:
        """The id of the error that the last attempt failed with, as `cipipe status` has it."""
        done = self.cipipe("status", "--sandbox", "--env", "dev", "--format", "json")
        (environment,) = done.document["environments"]
        (stage,) = environment["stages"]
        found = stage["last_failure"]
        return str(found["error"]) if found else None

    def finish(self) -> None:
        """Run again, without what was wrong."""
        done = self.run_in("dev")
        assert done.status == 0, done.text
        assert self.record()["state"] == "deployed"
        assert self.last_failure() is None
        assert self.pushed(self.record()["fingerprint"]) == self.record()["data"]["digest"]

    def pushed(self, fingerprint: str) -> str | None:
        """The digest of the content's tag in the registry."""
        tag = fingerprint[:20]
        request = urllib.request.Request(
            f"http://{self.door.registry}/v2/shop-dev/manifests/{tag}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return str(answer.headers["Docker-Content-Digest"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def disturbed(self, words: str, disturb: Callable[[int], None]) -> Outcome:
        """Run, and call `disturb` with the process's id when a line of progress has the words."""
        child = self.start("run", "--sandbox", "--env", "dev")
        assert child.stderr is not None
        seen = []
        for line in child.stderr:
            seen.append(line)
            if words in line:
                disturb(child.pid)
                break
        else:
            pytest.fail(f"the run ended without {words!r}:\n{''.join(seen)}")
        out, err = child.communicate(timeout=120)
        return Outcome(child.returncode, out, "".join(seen) + err)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, daemon: TlsDaemon) -> Iterator[Project]:
    require("docker-registry", "pushing images")
    folder = tmp_path_factory.mktemp("failures")
    # What a company's jobs often have: its own CA, and a proxy, here one
    # that nothing answers at.
    bundle = Authority(folder / "company").folder / "ca.pem"
    made = Project.create(
        folder / "shop",
        **daemon.env,
        REQUESTS_CA_BUNDLE=str(bundle),
        CURL_CA_BUNDLE=str(bundle),
        HTTPS_PROXY="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",
        REGISTRY_USER="somebody",
        REGISTRY_PASSWORD="open-sesame",
    )
    with registry_door(made.registry) as door:
        made.door = door
        made.registry = door.host
        made.configure(LOGIN)
        made.finish()
        yield made
        made.cipipe("sandbox", "down")


def test_build_smoke_and_push_by_tls(project: Project, daemon: TlsDaemon) -> None:
    project.dockerfile()
    project.finish()
    again = project.run_in("dev", "--force", "image")
    assert "nothing to build" in again.err
    assert "RUN echo installing" not in again.err
    with contextlib.closing(daemon.client()) as client:
        assert client.containers.list(all=True) == []


def test_a_daemon_that_starts_late(project: Project, daemon: TlsDaemon) -> None:
    project.dockerfile()
    daemon.kill()
    done = project.disturbed("waiting for the Docker daemon", lambda _: daemon.start(wait=False))
    assert done.status == 0, done.text


def test_wrong_certificates(project: Project, tmp_path: Path) -> None:
    project.dockerfile()
    other = Authority(tmp_path / "other").client()
    assert project.failed(DOCKER_CERT_PATH=str(other)) == "docker-tls-untrusted"
    shutil.copy(project.env["DOCKER_CERT_PATH"] + "/ca.pem", other)
    assert project.failed(DOCKER_CERT_PATH=str(other)) == "docker-tls-client-refused"
    (other / "key.pem").unlink()
    assert project.failed(DOCKER_CERT_PATH=str(other)) == "docker-tls-settings"
    assert project.failed(DOCKER_CERT_PATH="", DOCKER_TLS_VERIFY="") == "docker-tls-needed"
    project.finish()


def test_no_daemon(project: Project, tmp_path: Path) -> None:
    project.dockerfile()
    project.configure(LOGIN + "daemon_timeout = 1\n")
    assert project.failed(DOCKER_HOST=f"unix://{tmp_path}/docker.sock") == "docker-unreachable"
    project.configure(LOGIN)
    project.finish()


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_an_instruction_fails(project: Project, tmp_path: Path, builder: str) -> None:
    project.dockerfile("RUN echo almost; exit 7\n")
    done = project.run_in("dev", **_builder(builder, tmp_path))
    assert project.check_failure(done) == "docker-build-failed"
    assert "app/Dockerfile:5" in done.text
    assert "almost" in json.loads(done.out)["error"]["message"]
    assert project.last_failure() == "docker-build-failed"
    project.dockerfile()
    project.finish()


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_full_disk(project: Project, tmp_path: Path, builder: str, small: TlsDaemon) -> None:
    project.dockerfile()
    (project.folder / "app/large").write_bytes(random.Random(1).randbytes(40_000_000))
    project.write("app/x", "")
    done = project.run_in("dev", **small.env, **_builder(builder, tmp_path))
    assert project.check_failure(done) == "docker-no-space"
    if builder == "buildkit":
        project.finish()
        digest = project.record()["data"]["digest"]
        reference = f"{project.registry}/shop-dev@{digest}"
        with pytest.raises(StageError) as caught:
            Docker(small.env, Redactor(), lambda _: None, Interrupt()).pull(
                reference, username="somebody", password="open-sesame"
            )
        assert caught.value.id == "docker-no-space"
    (project.folder / "app/large").unlink()
    project.dockerfile()
    project.finish()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[TlsDaemon]:
    """A daemon whose disk has 40 MB."""
    data = tmp_path / "small"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(data)], check=True)
    (tmp_path / "dockerd").mkdir()
    made = TlsDaemon(require("dockerd", "a full disk"), tmp_path / "dockerd", data)
    try:
        made.start()
        made.import_base(BASE)
        yield made
    finally:
        made.stop()
        subprocess.run(["umount", "--lazy", str(data)], check=False)


def test_the_smoke_test_fails(project: Project, daemon: TlsDaemon) -> None:
    project.dockerfile('RUN echo "echo the reason; exit 3" > /app/run.sh\n')
    smoke = ["/bin/sh", "-c", ". /app/run.sh"]
    config = project.folder / "cipipe.toml"
    text = config.read_text()
    usual = '["/bin/sh", "-c", "test -f /app/run.sh"]'
    assert usual in text
    project.write("cipipe.toml", text.replace(usual, json.dumps(smoke)))
    done = project.run_in("dev")
    assert project.check_failure(done) == "docker-smoke-failed"
    assert json.loads(done.out)["error"]["message"].endswith("\nthe reason")

    project.write("cipipe.toml", text.replace(usual, '["/bin/sleep", "99"]\nsmoke_timeout = 1'))
    assert project.failed() == "docker-smoke-timeout"
    with contextlib.closing(daemon.client()) as client:
        assert client.containers.list(all=True) == []
    project.write("cipipe.toml", text)
    project.finish()


def smoking(project: Project, argv: list[str], settings: str = "") -> Outcome:
    """The run of a commit with this smoke test."""
    project.dockerfile()
    project.configure(LOGIN + settings)
    config = project.folder / "cipipe.toml"
    text = config.read_text()
    usual = '["/bin/sh", "-c", "test -f /app/run.sh"]'
    assert usual in text
    project.write("cipipe.toml", text.replace(usual, json.dumps(argv)))
    try:
        done = project.run_in("dev")
        assert project.check_failure(done) == "docker-smoke-failed"
        return done
    finally:
        project.configure(LOGIN)


def test_a_smoke_test_runs_out_of_memory(project: Project, daemon: TlsDaemon) -> None:
    doubling = "x=aaaaaaaa; while :; do x=$x$x; done"
    done = smoking(project, ["/bin/sh", "-c", doubling], "smoke_memory = 32\n")
    error = json.loads(done.out)["error"]
    assert (
        "exited with status 137: it ran out of memory, of which it may use 32 MiB"
        in (error["message"])
    )
    assert "smoke_memory" in error["hint"]
    with contextlib.closing(daemon.client()) as client:
        assert client.containers.list(all=True) == []
    project.finish()


def test_a_smoke_test_runs_out_of_processes(project: Project, daemon: TlsDaemon) -> None:
    forks = "i=0; while [ $i -lt 1200 ]; do /bin/sleep 60 & i=$((i + 1)); done; wait"
    done = smoking(project, ["/bin/sh", "-c", forks])
    message = json.loads(done.out)["error"]["message"]
    assert "exited with status 2: it may have 1024 processes at most" in message
    assert "Cannot fork" in message
    with contextlib.closing(daemon.client()) as client:
        assert client.containers.list(all=True) == []
    project.finish()


@pytest.mark.parametrize(
    "body",
    [
        # The header of an ELF file for ARM, or for x86-64 on ARM.
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        + (2).to_bytes(2, "little")
        + (62 if platform.machine() == "aarch64" else 183).to_bytes(2, "little")
        + b"\0" * 44,
        b"echo no interpreter\n",
    ],
    ids=["other processor", "no #!"],
)
def test_a_smoke_test_is_no_program_of_this_machine(project: Project, body: bytes) -> None:
    foreign = project.folder / "app/foreign"
    foreign.write_bytes(body)
    foreign.chmod(0o755)
    try:
        done = smoking(project, ["/app/foreign"])
    finally:
        foreign.unlink()
    error = json.loads(done.out)["error"]
    assert "it is a program for another processor than the daemon's" in error["message"]
    assert "`platform`" in error["hint"]
    project.configure(LOGIN)
    project.finish()


def test_the_registry_refuses(project: Project) -> None:
    project.dockerfile()
    with project.door.set_to("refuse"):
        assert project.failed(pushing=True) == "docker-push-refused"
    project.finish()


def test_the_push_is_cut_off(project: Project) -> None:
    project.dockerfile()
    with project.door.set_to("cut"):
        assert project.failed(pushing=True) == "docker-push-failed"
    assert project.door.cut >= 2  # Docker tried again
    project.finish()


def test_the_daemon_dies(project: Project, daemon: TlsDaemon) -> None:
    def kill(_: int) -> None:
        daemon.kill()

    project.dockerfile("RUN echo begun; sleep 60\n")
    done = project.disturbed("  begun", kill)
    assert project.check_failure(done) == "docker-daemon-lost"
    daemon.start()

    project.dockerfile()
    with project.door.set_to("hold"):

        def kill_while_pushing() -> None:
            if project.door.holding.wait(60):
                daemon.kill()

        waiting = threading.Thread(target=kill_while_pushing)
        waiting.start()
        assert project.failed(pushing=True) == "docker-daemon-lost"
        waiting.join()
    daemon.start()
    project.finish()


def test_interrupted(project: Project, daemon: TlsDaemon) -> None:
    def interrupt(process: int) -> None:
        os.kill(process, signal.SIGINT)

    project.dockerfile("RUN echo begun; sleep 60\n")
    project.check_failure(project.disturbed("  begun", interrupt), 130)

    project.dockerfile()
    config = project.folder / "cipipe.toml"
    text = config.read_text()
    command = '["/bin/sh", "-c", "echo hello; sleep 60"]'
    project.write("cipipe.toml", text.replace('["/bin/sh", "-c", "test -f /app/run.sh"]', command))
    project.check_failure(project.disturbed("  hello", interrupt), 130)
    with contextlib.closing(daemon.client()) as client:
        assert client.containers.list(all=True) == []

    project.write("cipipe.toml", text)
    with project.door.set_to("hold"):
        project.check_failure(project.disturbed("Pushing", interrupt), 130, pushing=True)
    project.finish()


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_hostile_names(project: Project, daemon: TlsDaemon, tmp_path: Path, builder: str) -> None:
    names = [
        b"-rf",
        b"--progress=plain",
        b"a\nb",
        b"a;touch pwned",
        b"$(touch pwned)",
        b"`touch pwned`",
        b"\"quoted' name",
        b"back\\slash",
        b"\xff\xfe-not-utf8",
        b"\x1b[31mred",
        "ü中🎉".encode(),
        b"l" * 255,
        b"spaced  name ",
    ]
    folder = project.folder / "app/names"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(name + builder.encode())
    project.dockerfile()
    done = project.run_in("dev", **_builder(builder, tmp_path))
    assert done.status == 0, done.text
    assert "\x1b" not in done.text

    image = f"{project.registry}/shop-dev:{project.record()['data']['tag']}"
    with contextlib.closing(daemon.client()) as client:
        container = client.containers.create(image, ["/bin/sh"])
        try:
            body = b"".join(container.export())
        finally:
            container.remove()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = {os.fsencode(member.name): member for member in tar}
        assert [name for name in found if name.endswith(b"pwned")] == [
            name for name in found if name.endswith(b"touch pwned")
        ]
        for name in names:
            file = tar.extractfile(found[b"app/names/" + name])
            assert file is not None
            assert file.read() == name + builder.encode()
    shutil.rmtree(folder)
    project.dockerfile()


def _builder(name: str, folder: Path) -> dict[str, str]:
    """A PATH with `docker`, or without it, and so with the classic builder."""
    if name == "buildkit":
        return {}
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/git").symlink_to(require("git", "reading the commit"))
    return {"PATH": str(folder / "bin")}
