"""What the image costs, next to `docker build` and `docker push`. See README.md here.

Real Docker, a real registry and the AWS services of a sandbox. Each build starts on a daemon
without images, apart from the base image, and without layers.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[1]
ACCOUNT, REGION = "111111111111", "eu-central-1"
MODEL = "dbt/models/benchmark.sql"
CONFIG = """\
[project]
name = "benchmark"
default_environment = "dev"
[oidc.gitlab]
audience = "https://gitlab.com"
token_variable = "AWS_ID_TOKEN"
project = "group/benchmark"
[environments.dev]
account_id = "{account}"
region = "{region}"
role_arn = "arn:aws:iam::{account}:role/benchmark-deploy"
deploy_from = {{ branches = ["main"] }}
[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = "{repository}"
network = "host"
build_args = {{ BASE_IMAGE = "{base}" }}
"""
GOALS = {"first build": 1.15, "changed model": 0.35, "tag exists": 1.2}


class World:
    """A repository with the dbt project, its sandbox, and Docker."""

    def __init__(self, folder: Path, cipipe: Path, base: str) -> None:
        self.folder = folder
        self.program = str(cipipe)
        self.base = base
        dropped = ("GIT_", "AWS_", "CI_", "GITHUB_", "CIPIPE_", "DOCKER_")
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(dropped)
        }
        self.count = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        (folder / ".gitignore").write_text(".cipipe/\n")
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "dbt"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        for name in filter(None, tracked.decode().split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    def start(self) -> None:
        self.configure("registry.test/benchmark")
        self.cipipe("sandbox", "up", "--env", "dev")
        shown = json.loads(self.cipipe("sandbox", "env", "--format", "json"))["environment"]
        self.sandbox: Mapping[str, str] = {**self.env, **shown}
        self.ecr = boto3.client(
            "ecr",
            region_name=REGION,
            endpoint_url=shown["AWS_ENDPOINT_URL"],
            aws_access_key_id=shown["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=shown["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=shown.get("AWS_SESSION_TOKEN"),
        )
        self.ecr.create_repository(repositoryName="plain")
        made = self.ecr.create_repository(repositoryName="benchmark")["repository"]
        self.configure(str(made["repositoryUri"]))
        self.registry = str(made["repositoryUri"]).partition("/")[0]
        archive = ROOT / ".cipipe/base-image-bookworm.tar"
        if self.docker("images", "-q", self.base) == "":
            self.docker("import", str(archive), self.base)

    def configure(self, repository: str) -> None:
        text = CONFIG.format(account=ACCOUNT, region=REGION, repository=repository, base=self.base)
        (self.folder / "cipipe.toml").write_text(text)
        self.commit()

    def git(self, *arguments: str) -> None:
        author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *author, *arguments], cwd=self.folder, check=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def change_model(self) -> None:
        self.count += 1
        (self.folder / MODEL).write_text(f"select {self.count} as number\n")
        self.commit()

    def cipipe(self, *arguments: str) -> str:
        return _run([self.program, *arguments], self.folder, self.env)

    def deploy(self, *arguments: str) -> None:
        self.cipipe("run", "--sandbox", "--env", "dev", "--format", "json", *arguments)

    def docker(self, *arguments: str) -> str:
        env = {**self.sandbox, "DOCKER_BUILDKIT": "1"}
        return _run(["/usr/bin/docker", *arguments], self.folder, env).strip()

    def plain(self) -> None:
        name = f"{self.registry}/plain:{self.count}"
        arguments = ["--network", "host", "--build-arg", f"BASE_IMAGE={self.base}"]
        self.docker("build", "-q", "-t", name, *arguments, "dbt")
        self.docker("push", "-q", name)

    def empty_daemon(self) -> None:
        """Remove all images but the base, and all layers that builds have left."""
        kept = self.docker("images", "-q", "--no-trunc", self.base)
        found = set(self.docker("images", "-a", "-q", "--no-trunc").split()) - {kept}
        if found:
            self.docker("rmi", "-f", *sorted(found))
        self.docker("builder", "prune", "-a", "-f")


def _run(argv: list[str], folder: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        argv, cwd=folder, env=dict(env), check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _round_trip(registry: str) -> float:
    def ask() -> None:
        with urllib.request.urlopen(f"http://{registry}/v2/", timeout=10) as answer:
            answer.read()

    return _seconds(ask)


def measure(world: World, rounds: int) -> dict[str, list[float]]:
    """Seconds of each work, for each round."""
    taken: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        taken.setdefault(name, []).append(seconds)
        print(f"{name}: {seconds:.2f} s", file=sys.stderr)

    for number in range(rounds):
        world.change_model()
        world.empty_daemon()
        note("docker build + push", _seconds(world.plain))
        world.empty_daemon()
        # Only the first round has no deployed image.
        name = "first build" if number == 0 else "changed model"
        note(name, _seconds(world.deploy))
        exists = _seconds(lambda: world.deploy("--force", "image"))
        note("tag exists", exists)
        note("cipipe --version", _seconds(lambda: world.cipipe("--version")))
        note("registry round trip", _round_trip(world.registry))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="at least 2")
    parser.add_argument("--base", default=os.environ.get("BASE_IMAGE", "cipipe-base:bookworm"))
    parser.add_argument(
        "--cipipe", type=Path, default=Path(sys.executable).with_name("cipipe"), metavar="PROGRAM"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cipipe-benchmark-") as made:
        world = World(Path(made) / "project", options.cipipe, options.base)
        try:
            world.start()
            taken = measure(world, max(2, options.rounds))
        finally:
            world.cipipe("sandbox", "down")

    median = {name: statistics.median(values) for name, values in taken.items()}
    plain = median["docker build + push"]
    least = median["cipipe --version"] + median["registry round trip"]
    print(f"{'':24}{'seconds':>9}{'ratio':>8}{'goal':>8}")
    for name, seconds in median.items():
        ratio = seconds / (least if name == "tag exists" else plain)
        shown = f"{ratio:8.2f}{GOALS[name]:8.2f}" if name in GOALS else ""
        print(f"{name:24}{seconds:9.3f}{shown}")


if __name__ == "__main__":
    main()
