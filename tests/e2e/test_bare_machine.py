"""`make demo` on a machine that has Python, git and make, and nothing else: a Debian 13 in a
container, whose first process does nothing.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.clone import clone_of_this_repository
from support.job_image import debian_with, docker
from support.terraform_mirror import terraform_mirror
from support.tls_daemon import TlsDaemon
from support.tools import require

IMAGE = "cipipe-bare:test"

# How this machine reaches the registries of Python's and Debian's packages.
REACH = re.compile(r"(https?|no|all)_proxy|PIP_(EXTRA_)?INDEX_URL|PIP_TRUSTED_HOST", re.IGNORECASE)


@dataclass(frozen=True)
class Machine:
    daemon: TlsDaemon
    container: str
    # For every command.
    env: Mapping[str, str]

    def run(self, script: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """A shell script, with both streams of its output in stdout."""
        env = (word for name, value in self.env.items() for word in ("--env", f"{name}={value}"))
        shell = ("sh", "-ec", f"exec 2>&1; {script}")
        return docker(self.daemon.env, "exec", "--user", user, *env, self.container, *shell)

    def must(self, script: str, user: str = "root") -> str:
        done = self.run(script, user)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> list[str]:
        lines = docker(
            self.daemon.env, "top", self.container, "-eo", "pid,comm"
        ).stdout.splitlines()
        return [line.split()[1] for line in lines[1:]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDaemon]:
    """A daemon with the image of such a machine. Stopping it stops its containers."""
    folder = tmp_path_factory.mktemp("machines")
    daemon = TlsDaemon(require("dockerd", "a bare machine"), folder)
    daemon.start()
    try:
        debian_with(daemon.env, IMAGE, "git", "make", "python3")
        yield daemon
    finally:
        containers = docker(daemon.env, "ps", "--all", "--quiet").stdout.split()
        docker(daemon.env, "rm", "--force", "--volumes", "none", *containers)
        daemon.stop()
        shutil.rmtree(folder / "data")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A repository to clone, and the variables with which Terraform is found."""
    terraform = require("terraform", "a server to download it from")
    folder = tmp_path_factory.mktemp("source")
    clone = clone_of_this_repository(folder / "repository")
    with terraform_mirror(terraform, folder / "served") as mirror:
        mirror.use_in(clone.folder)
        clone.git("commit", "--quiet", "--all", "-m", "Trust the archive of this test")
        reach = {name: value for name, value in os.environ.items() if REACH.fullmatch(name)}
        yield clone.folder, {**reach, "TERRAFORM_MIRROR": mirror.url}


@pytest.fixture
def machine(
    daemon: TlsDaemon, source: tuple[Path, dict[str, str]], request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """It is on this machine's network. Docker's images do not fit on a container's own file system,
    so the home folders are a volume.
    """
    name = re.sub(r"\W", "-", request.node.name)
    argv = ["run", "--detach", "--privileged", "--network", "host", "--name", name]
    argv += ["--volume", "/home", "--volume", f"{source[0]}:/source:ro"]
    # Providers that lie on this machine's disk already.
    plugins = Path.home() / ".terraform.d/plugins"
    if plugins.exists():
        for home in ("/root", "/home/laptop"):
            argv += ["--volume", f"{plugins.resolve()}:{home}/.terraform.d/plugins:ro"]
    started = docker(daemon.env, *argv, IMAGE, "sleep", "infinity")
    assert started.returncode == 0, started.stderr

    made = Machine(daemon, name, source[1])
    made.must("git config --system safe.directory '*'")
    yield made
    docker(daemon.env, "rm", "--force", "--volumes", name)


def results(output: str) -> dict[str, str]:
    """Stage → result, from the table at the end."""
    table = output[output.index("\nstage ") :].strip().splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in table}


def before(output: str, said: str, then: str) -> bool:
    return output.index(said) < output.index(then)


def test_as_root_everything_is_installed_and_deployed(machine: Machine) -> None:
    shown = machine.must("git clone --quiet /source /home/shop; cd /home/shop; make demo")
    expected = {"iac": "done", "image": "done", "dags": "done", "default": "unchanged"}
    assert results(shown) == expected, shown
    assert "missing:" not in shown
    assert before(shown, "==> installing with apt: docker.io docker-registry", "starting a sandbox")
    assert machine.must("ls /home/shop/.cipipe/bin") == "terraform\n"
    assert machine.processes() == ["sleep"]


def test_a_user_without_privileges(machine: Machine) -> None:
    """Nothing is installed for the whole machine. What is missing is said before a run."""
    machine.must("useradd --create-home laptop; chown laptop /home/laptop")
    machine.must("git clone --quiet /source ~/shop", "laptop")

    # Nothing can be installed.
    done = machine.run("cd ~/shop; make demo", "laptop")
    assert done.returncode != 0
    assert "install the package python3-venv" in done.stdout, done.stdout
    assert machine.run("ls ~/shop/.venv", "laptop").returncode != 0

    # No Terraform: no sandbox.
    machine.must("apt-get update -qq; apt-get install -y -qq python3-venv")
    done = machine.run("cd ~/shop; TERRAFORM_MIRROR=http://127.0.0.1:9 make demo", "laptop")
    assert done.returncode != 0
    assert "==> missing: terraform, for the infrastructure" in done.stdout, done.stdout
    assert "error: terraform is not installed" in done.stdout
    assert "starting a sandbox" not in done.stdout

    # No Docker: no image.
    shown = machine.must("cd ~/shop; make demo", "laptop")
    expected = {"iac": "done", "image": "skipped", "dags": "done", "default": "unchanged"}
    assert results(shown) == expected, shown
    start = "starting a sandbox"
    assert before(shown, "==> missing: a Docker daemon, to build images", start)
    assert before(shown, "==> missing: an image registry", start)
    assert before(shown, "docker is not available on this machine", start)
    assert re.search(r"^image +skipped .*docker", shown, re.MULTILINE)
    assert machine.processes() == ["sleep"]
