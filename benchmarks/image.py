"""What the image costs, next to `docker build` and `docker push`. See README.md here.

Real Docker, a real registry and the AWS services of a sandbox. Each build starts on a daemon
without images, apart from the base image, and without layers. "Tag exists" is a job of GitLab's
after a revert: with a token, without `--sandbox`, and nothing to build.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

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
# Jobs of each kind in each round that find their image.
JOBS = 3


class World:
    """A repository with the dbt project, its sandbox, and Docker."""

    def __init__(self, folder: Path, cipipe: Path, base: str) -> None:
        self.folder = folder
        self.program = str(cipipe)
        self.base = base
        # An image of jobs has its modules compiled, so the first run may
        # compile them here.
        dropped = ("GIT_", "AWS_", "CI_", "GITHUB_", "CIPIPE_", "DOCKER_", "PYTHONDONTWRITE")
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
        self.show_model(self.count)

    def show_model(self, number: int) -> None:
        """Commit the model of one of the changes."""
        (self.folder / MODEL).write_text(f"select {number} as number\n")
        self.commit()

    def cipipe(self, *arguments: str) -> str:
        return _run([self.program, *arguments], self.folder, self.env)

    def deploy(self, *arguments: str) -> None:
        self.cipipe("run", "--sandbox", "--env", "dev", "--format", "json", *arguments)

    def job(self) -> Mapping[str, str]:
        """The environment of a job of GitLab's, with an ID token."""
        arguments = ("sandbox", "token", "--provider", "gitlab", "--format", "json")
        token = json.loads(self.cipipe(*arguments))["environment"]
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        shown = {name: value for name, value in self.sandbox.items() if name not in keys}
        return {
            **shown,
            **token,
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": "push",
            "CI_COMMIT_REF_NAME": "main",
            "CI_PIPELINE_IID": str(self.count),
        }

    def found(self, env: Mapping[str, str]) -> None:
        """Deploy as a job whose image is in the registry."""
        _run([self.program, "run", "image", "--env", "dev"], self.folder, env)

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


class Recorder(ThreadingHTTPServer):
    """In front of AWS for one job: keeps its requests, which are answered as usual."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Recording)
        self.aws = urlsplit(url).netloc
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def again(self) -> None:
        """Send all requests again, one after the other, over one connection."""
        connection = HTTPConnection(self.aws)
        for method, path, body, headers in self.requests:
            connection.request(method, path, body, headers)
            connection.getresponse().read()
        connection.close()


class _Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # The signature covers the host: it stays that of this server.
        request = (self.command, self.path, body, dict(self.headers))
        self.server.requests.append(request)
        connection = HTTPConnection(self.server.aws)
        connection.request(*request)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = _forward  # noqa: N815

    def log_message(self, *_: object) -> None: ...


def _recorded(world: World) -> Recorder:
    """The requests to AWS of a job that finds its image."""
    recorder = Recorder(world.sandbox["AWS_ENDPOINT_URL"])
    endpoints = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"), recorder.url)
    world.found({**world.job(), **endpoints})
    return recorder


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
        if number == 0:
            # There is no other image yet.
            continue
        world.show_model(world.count - 1)
        recorder = _recorded(world)
        for _ in range(JOBS):
            # The record says that the other image is deployed: these jobs
            # write all that one writes after a build.
            for shown in (world.count, world.count - 1):
                world.show_model(shown)
                job = world.job()
                note("tag exists", _seconds(partial(world.found, job)))
            note("its requests to AWS", _seconds(recorder.again))
            note("cipipe --version", _seconds(lambda: world.cipipe("--version")))
            note("registry round trip", _round_trip(world.registry))
        recorder.shutdown()
        print(f"requests to AWS: {len(recorder.requests)}", file=sys.stderr)
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
    rest = median["tag exists"] - median["its requests to AWS"] - least
    print(f"{'tag exists, the rest':24}{rest:9.3f}")


if __name__ == "__main__":
    main()
