"""What deploying DAGs costs, next to `aws s3 sync` and to libcst. See README.md here.

The commands run in turn against one local endpoint, which counts requests. The table shows medians
over the rounds.
"""

import argparse
import contextlib
import json
import os
import resource
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ACCOUNT, REGION = "123456789012", "eu-central-1"
DAG = '''\
"""DAG {0}: made for the benchmark."""
from airflow import DAG
from airflow.operators.empty import EmptyOperator

with DAG(dag_id="dag_{0}", schedule=None, tags=["benchmark"]) as dag:
    first = EmptyOperator(task_id="first")
    second = EmptyOperator(task_id="second")
    first >> second
'''
CONFIG = """\
[project]
name = "benchmark"
default_environment = "dev"
[ledger]
bucket = "{bucket}"
[environments.dev]
account_id = "{account}"
region = "{region}"
role_arn = "arn:aws:iam::{account}:role/deploy"
deploy_from = {{ branches = ["main"] }}
[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = "{bucket}"
"""
ENV = {
    **{
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "AWS_", "CI_", "GITHUB_"))
    },
    "PYTHONDONTWRITEBYTECODE": "",  # an installed package has its bytecode
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "HOME": "/nonexistent",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    **{
        f"GIT_{who}_{what}": "x@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}

# moto's S3 and STS, with a page that returns the number of requests of each method since the last
# time. Without moto's dispatcher, which lists its own folder at each request to find the service:
# that takes a third of a request.
SERVER = """
import json, sys, threading
from collections import Counter
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
s3, sts = create_backend_app("s3"), create_backend_app("sts")
count, lock = Counter(), threading.Lock()
def counting(environ, start_response):
    with lock:
        if environ["PATH_INFO"] == "/counted":
            body = json.dumps(count).encode()
            count.clear()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [body]
        count[environ["REQUEST_METHOD"]] += 1
    app = sts if "/sts/" in environ.get("HTTP_AUTHORIZATION", "") else s3
    return app(environ, start_response)
class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_request(self, *_): pass
port = int(sys.argv[1])
make_server("127.0.0.1", port, counting, threaded=True, request_handler=Quiet).serve_forever()
"""
MAKE_BUCKET = """
import boto3, sys
s3 = boto3.client("s3", region_name=sys.argv[1])
for name in sys.argv[2:]:
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": sys.argv[1]})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
"""

# One value in a file of 2,000 lines, patched by each in a process of its own. The import does not
# count.
PATCHING = {
    "cipipe": """
from cipipe.model import Output
from cipipe.stages.dags.markers.patch import patch
outputs = {"cluster": Output(value="prod")}
def work(source):
    return patch(source, "x.py", outputs).body
""",
    "tokenize": """
import io, tokenize
def work(source):
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        pass
    return source.replace(b'"local"', b'"prod"')
""",
    "libcst": """
import libcst
class Change(libcst.CSTTransformer):
    def leave_Assign(self, old, new):
        target = old.targets[0].target
        if isinstance(target, libcst.Name) and target.value == "CLUSTER":
            return new.with_changes(value=libcst.SimpleString('"prod"'))
        return new
def work(source):
    return libcst.parse_module(source).visit(Change()).bytes
""",
}
TIMING = """
import sys, time
source = open(sys.argv[1], "rb").read()
taken = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    made = work(source)
    taken.append(time.perf_counter() - start)
assert made == source.replace(b'"local"', b'"prod"')
print(sorted(taken)[len(taken) // 2] * 1000)
"""


class Cost(NamedTuple):
    """What one command cost."""

    # Wall time, in milliseconds.
    time: float
    # Processor time of the command itself, in milliseconds.
    own: float
    # By method.
    requests: Mapping[str, int]


class Bench:
    """A repository with DAG files, and an endpoint to deploy them to."""

    def __init__(
        self, root: Path, url: str, *, cipipe: Sequence[str], aws: str, files: int
    ) -> None:
        self.root = root
        self.url = url
        self.cipipe = cipipe
        self.aws = aws
        (root / "dags").mkdir(parents=True)
        (root / ".gitignore").write_text(".cipipe/\n")
        for number in range(files):
            (root / f"dags/dag_{number:04}.py").write_text(DAG.format(number))
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> None:
        subprocess.run(
            ["git", *arguments], cwd=self.root, env=ENV, check=True, stdout=subprocess.DEVNULL
        )

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")

    def make(self, *buckets: str) -> None:
        env = {**ENV, "AWS_ENDPOINT_URL": self.url}
        subprocess.run([sys.executable, "-c", MAKE_BUCKET, REGION, *buckets], env=env, check=True)

    def deploy(self, bucket: str, root: Path | None = None) -> Cost:
        """Deploy, with a ledger in the bucket itself: objects in a bucket that another ledger
        knows would not be touched.
        """
        config = self.root.with_name(f"{bucket}.toml")
        config.write_text(CONFIG.format(bucket=bucket, account=ACCOUNT, region=REGION))
        return self.timed(
            [*self.cipipe, "dags", "deploy", "--quiet", "--config", str(config)], root
        )

    def sync(self, bucket: str, root: Path | None = None) -> Cost:
        return self.timed(
            [self.aws, "s3", "sync", "--delete", "--quiet", "dags", f"s3://{bucket}/dags"], root
        )

    def timed(self, argv: Sequence[str], root: Path | None) -> Cost:
        counted(self.url)
        env = {**ENV, "AWS_ENDPOINT_URL": self.url}
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            argv, cwd=root or self.root, env=env, capture_output=True, check=False
        )
        elapsed = (time.perf_counter() - start) * 1000
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
        if done.returncode:
            sys.exit(f"{shlex.join(argv)} failed:\n{done.stderr.decode(errors='replace')}")
        return Cost(elapsed, own, counted(self.url))


def counted(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/counted") as answer:
        return dict(json.load(answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(sys.executable).with_name("cipipe")
    parser.add_argument("--cipipe", default=str(beside), help="a path or command line")
    parser.add_argument(
        "--tools", type=Path, metavar="DIR", help="a venv with awscli and libcst; else one is made"
    )
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    cipipe = shlex.split(given.cipipe)
    with (
        tempfile.TemporaryDirectory(prefix="cipipe-benchmark-") as scratch,
        endpoint(Path(scratch)) as url,
    ):
        tools = given.tools.absolute() if given.tools else made_tools(Path(scratch) / "tools")
        print(
            versions(cipipe, tools),
            f"{given.files:,} files, medians of {given.runs} runs",
            sep="\n",
        )
        bench = Bench(
            Path(scratch) / "repository",
            url,
            cipipe=cipipe,
            aws=str(tools / "bin/aws"),
            files=given.files,
        )
        found = deployments(bench, given.runs)
        patching = patched(Path(scratch), tools, given.runs)
    show(found, patching)
    goals(found, patching)


def deployments(bench: Bench, runs: int) -> dict[str, tuple[Cost, Cost]]:
    """cipipe and sync, each into buckets of its own, in turn."""
    found: dict[str, list[tuple[Cost, Cost]]] = {}

    def note(name: str, pair: tuple[Cost, Cost]) -> None:
        found.setdefault(name, []).append(pair)

    for number in range(runs + 1):
        ours, theirs = f"ours-{number}", f"theirs-{number}"
        bench.make(ours, theirs)
        pair = (bench.deploy(ours), bench.sync(theirs))
        # The first round fills the page cache and writes the bytecode.
        if number:
            note("first deployment", pair)
    for _ in range(runs):
        note("nothing changed", (bench.deploy(ours), bench.sync(theirs)))
    for number in range(runs):
        clone = bench.root.with_name(f"clone-{number}")
        bench.git("clone", "--quiet", str(bench.root), str(clone))
        note("fresh clone", (bench.deploy(ours, clone), bench.sync(theirs, clone)))
        shutil.rmtree(clone)
    bench.sync(theirs)
    for number in range(runs):
        with (bench.root / "dags/dag_0007.py").open("a") as file:
            file.write(f"# {number}\n")
        bench.commit()
        note("one file changed", (bench.deploy(ours), bench.sync(theirs)))
    return {
        name: (median([a for a, _ in pairs]), median([b for _, b in pairs]))
        for name, pairs in found.items()
    }


def median(some: list[Cost]) -> Cost:
    return Cost(
        time=statistics.median(cost.time for cost in some),
        own=statistics.median(cost.own for cost in some),
        requests=some[-1].requests,
    )


def patched(scratch: Path, tools: Path, runs: int) -> dict[str, float]:
    """Milliseconds to put one value into a file of 2,000 lines."""
    body = 'from airflow import DAG\n\nCLUSTER = "local"  # cipipe: cluster\n\n\n' + "".join(
        f'def task_{number}(value: int = {number}) -> dict[str, int]:\n    """Task {number}."""\n'
        f'    names = [f"name_{{value}}_{{index}}" for index in range({number})]\n'
        f'    return {{name: len(name) * value for name in names if name != "x"}}  # {number}\n\n\n'
        for number in range(333)
    )
    file = scratch / "large.py"
    file.write_text("\n".join(body.splitlines()[:2000]) + "\n")
    pythons = {"libcst": str(tools / "bin/python")}
    times: dict[str, list[float]] = {name: [] for name in PATCHING}
    for _ in range(runs):
        for name, script in PATCHING.items():
            argv = [pythons.get(name, sys.executable), "-c", script + TIMING, str(file), "5"]
            done = subprocess.run(
                argv,
                env=ENV | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
                capture_output=True,
                check=True,
            )
            times[name].append(float(done.stdout))
    return {name: statistics.median(some) for name, some in times.items()}


@contextlib.contextmanager
def endpoint(scratch: Path) -> Iterator[str]:
    """The endpoint, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (scratch / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)], env=ENV, stdout=log, stderr=log
        )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                counted(url)
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def made_tools(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", "awscli", "libcst"], check=True)
    return folder


def versions(cipipe: Sequence[str], tools: Path) -> str:
    def first(*argv: str) -> str:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=True,
            env=ENV | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )
        return done.stdout.strip().splitlines()[-1]

    ask = "import importlib.metadata as m; print('libcst', m.version('libcst'))"
    commands = (
        (*cipipe, "--version"),
        (str(tools / "bin/aws"), "--version"),
        (str(tools / "bin/python"), "-c", ask),
    )
    return ", ".join(first(*command) for command in commands)


def show(found: Mapping[str, tuple[Cost, Cost]], patching: Mapping[str, float]) -> None:
    def row(title: str, cost: Cost, base: Cost) -> str:
        requests = ", ".join(f"{count} {method}" for method, count in sorted(cost.requests.items()))
        ratio = cost.time / base.time
        return f"{title:<20}{cost.time:>9.0f}{ratio:>9.2f}{cost.own:>9.0f}   {requests}"

    print(f"\n{'':20}{'ms':>9}{'÷ sync':>9}{'own ms':>9}   requests")
    for name, (ours, theirs) in found.items():
        print(row(name, ours, theirs))
        print(row("  aws s3 sync", theirs, theirs))
    print(f"\none value in a file of 2,000 lines\n{'':20}{'ms':>9}")
    for name, taken in patching.items():
        print(f"{name:<20}{taken:>9.1f}")


def goals(found: Mapping[str, tuple[Cost, Cost]], patching: Mapping[str, float]) -> None:
    print("\ngoals")

    def goal(text: str, value: float, limit: float) -> None:
        print(
            f"  {'met' if value <= limit else 'missed':<7} {text}: {value:.2f}, at most {limit:.2f}"
        )

    def ratio(name: str) -> float:
        ours, theirs = found[name]
        return ours.time / theirs.time

    goal("nothing changed ÷ sync", ratio("nothing changed"), 0.6)
    goal("nothing changed: requests", sum(found["nothing changed"][0].requests.values()), 5)
    goal("fresh clone: objects written", found["fresh clone"][0].requests.get("PUT", 0), 0)
    # Besides the object: the probe for conditional writes (2), and the record as `deploying` and
    # as `deployed`.
    goal(
        "one file changed: objects written besides probe and record",
        found["one file changed"][0].requests["PUT"] - 4,
        1,
    )
    goal("first deployment ÷ sync", ratio("first deployment"), 0.7)
    goal("patching ÷ libcst", patching["cipipe"] / patching["libcst"], 0.25)
    goal("patching ÷ tokenize", patching["cipipe"] / patching["tokenize"], 2)


if __name__ == "__main__":
    main()
