"""What `cipipe plan` costs, next to the git commands that anything of the kind has to run. See
README.md here.

Every command is run once per round, one after the other, so that whatever else the machine does
affects all of them alike; what is shown is the median over the rounds, and the most memory that a
command or a child of it had.
"""

import argparse
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from repositories import (
    BUCKET,
    COMMITS,
    ENV,
    FILES_PER_STAGE,
    PER_FILE,
    RECORDED,
    REGION,
    STAGES,
    git,
    with_files,
    with_stages,
)

FEW, MANY = 10, 1000

MAKE_BUCKET = """
import boto3, sys
bucket, region = sys.argv[1:]
place = {"LocationConstraint": region}
boto3.client("s3", region_name=region).create_bucket(
    Bucket=bucket, CreateBucketConfiguration=place
)
"""


class Cost(NamedTuple):
    """Median wall time in milliseconds, and peak memory in MiB."""

    time: float
    memory: float


class Command(NamedTuple):
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = ENV


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cipipe",
        default=str(Path(sys.executable).with_name("cipipe")),
        help="a path or command line",
    )
    parser.add_argument("--sizes", default="500,50000,200000", help="files in each repository")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="500 and 50,000 files, 5 runs")
    parser.add_argument(
        "--paths-filter", type=Path, metavar="FILE", help="dist/index.js of dorny/paths-filter"
    )
    parser.add_argument("--no-ledger", action="store_true", help="leave out what needs moto")
    parser.add_argument(
        "--work",
        type=Path,
        help="keep the repositories in this folder, and use those that are there",
    )
    given = parser.parse_args()
    sizes = [500, 50_000] if given.quick else [int(size) for size in given.sizes.split(",")]
    runs = 5 if given.quick else given.runs
    cipipe = shlex.split(given.cipipe)
    print(versions(cipipe), f"medians of {runs} runs", sep="\n")
    with tempfile.TemporaryDirectory(prefix="cipipe-benchmark-") as scratch:
        work = (given.work or Path(scratch)).absolute()
        found: dict[int, dict[str, Cost]] = {}
        for size in sizes:
            repository = with_files(work, size)
            found[size] = measured(local(cipipe, repository, given.paths_filter), runs)
            show(f"{size:,} files, {COMMITS} commits", found[size])
        stages = measured(many_stages(cipipe, work), runs)
        show(f"stages of {FILES_PER_STAGE} files", stages)
        ledger: dict[str, Cost] = {}
        if not given.no_ledger:
            size = 50_000 if 50_000 in sizes else sizes[-1]
            with endpoint(Path(scratch)) as url:
                commands = against_ledger(cipipe, with_files(work, size), Path(scratch), url)
                ledger = measured(commands, runs)
            show(f"{size:,} files, against a recorded ledger", ledger)
    goals(found, stages, ledger)


def local(cipipe: Sequence[str], root: Path, paths_filter: Path | None) -> dict[str, Command]:
    """What needs git only."""
    plan = [*cipipe, "plan", "--offline", "--format", "json", "--base"]
    per_file = ["--config", PER_FILE]
    commands = {
        "python -c pass": Command([sys.executable, "-c", "pass"], root),
        "cipipe --version": Command([*cipipe, "--version"], root),
        "git rev-parse HEAD": Command(["git", "rev-parse", "HEAD"], root),
        "git ls-tree -r -z HEAD": Command(["git", "ls-tree", "-r", "-z", "HEAD"], root),
        "git diff HEAD~1": Command(
            ["git", "diff", "--no-renames", "--name-only", "-z", "HEAD~1", "HEAD"], root
        ),
        "git diff HEAD~199": Command(
            ["git", "diff", "--no-renames", "--name-only", "-z", "HEAD~199", "HEAD"], root
        ),
        "plan, folders, 1 back": Command([*plan, "HEAD~1"], root),
        "plan, folders, 199 back": Command([*plan, "HEAD~199"], root),
        "plan, files, 1 back": Command([*plan, "HEAD~1", *per_file], root),
        "plan, files, 199 back": Command([*plan, "HEAD~199", *per_file], root),
    }
    if paths_filter is not None:
        commands["paths-filter, 1 back"] = filtered(paths_filter, root, "HEAD~1")
        commands["paths-filter, 199 back"] = filtered(paths_filter, root, "HEAD~199")
    return commands


def many_stages(cipipe: Sequence[str], work: Path) -> dict[str, Command]:
    """Plans of few and of many stages: one of them due, or all."""
    few, many = with_stages(work, FEW), with_stages(work, MANY)
    plan = [*cipipe, "plan", "--offline", "--format", "json", "--base"]
    return {
        "cipipe --version": Command([*cipipe, "--version"], few),
        f"plan, {FEW} stages, 1 due": Command([*plan, "HEAD~1"], few),
        f"plan, {MANY:,} stages, 1 due": Command([*plan, "HEAD~1"], many),
        f"plan, {FEW} stages, all due": Command([*plan, "HEAD~2"], few),
        f"plan, {MANY:,} stages, all due": Command([*plan, "HEAD~2"], many),
    }


def filtered(script: Path, root: Path, base: str) -> Command:
    """dorny/paths-filter as the runner starts it for a push; the commit is here, so that it has
    nothing to fetch.
    """
    event = root / ".git" / "event.json"
    event.write_text('{"repository": {"default_branch": "main"}}')
    env = {
        **ENV,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REPOSITORY": "group/benchmark",
        "INPUT_BASE": git(root, "rev-parse", base),
        "INPUT_FILTERS": "\n".join(f"{folder}: ['{folder}/**']" for folder in STAGES),
        "INPUT_LIST-FILES": "none",
        "INPUT_INITIAL-FETCH-DEPTH": "100",
        "INPUT_PREDICATE-QUANTIFIER": "some",
    }
    return Command(["node", str(script.absolute())], root, env)


def against_ledger(
    cipipe: Sequence[str], root: Path, scratch: Path, url: str
) -> dict[str, Command]:
    """The same plan in a full clone and in one of depth 1, against what a run of `HEAD~1`
    recorded.
    """
    env = {
        **ENV,
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    subprocess.run([sys.executable, "-c", MAKE_BUCKET, BUCKET, REGION], env=env, check=True)
    full, shallow = scratch / "full", scratch / "shallow"
    git(scratch, "clone", "--quiet", root.as_uri(), str(full))
    git(full, "switch", "--quiet", "--force-create", "main", "HEAD~1")
    subprocess.run(
        [*cipipe, "run", "--quiet", "--config", RECORDED],
        cwd=full,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    git(full, "switch", "--quiet", "--force-create", "main", "origin/main")
    git(scratch, "clone", "--quiet", "--depth=1", root.as_uri(), str(shallow))
    plan = [*cipipe, "plan", "--format", "json", "--config", RECORDED]
    return {
        "plan, ledger, full clone": Command(plan, full, env),
        "plan, ledger, depth 1": Command(plan, shallow, env),
    }


@contextmanager
def endpoint(scratch: Path) -> Iterator[str]:
    """A moto server of its own, in a process of its own so that its memory does not count."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (scratch / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env=ENV,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def measured(commands: Mapping[str, Command], runs: int) -> dict[str, Cost]:
    """Each command once per round; a round before the first fills the page cache and writes the
    bytecode.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            cost = once(command)
            if number > 0:
                costs[name].append(cost)
    return {
        name: Cost(
            sorted(cost.time for cost in some)[len(some) // 2], max(cost.memory for cost in some)
        )
        for name, some in costs.items()
    }


def once(command: Command) -> Cost:
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(
            command.argv, cwd=command.cwd, env=command.env, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(child.pid, 0)
        taken = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            sys.exit(
                f"{shlex.join(command.argv)} failed:\n{errors.read().decode(errors='replace')}"
            )
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(taken * 1000, usage.ru_maxrss * unit / 2**20)


def show(title: str, costs: Mapping[str, Cost]) -> None:
    listing = costs.get("git ls-tree -r -z HEAD")
    version = costs.get("cipipe --version")
    relative = f"{'× ls-tree':>12}{'(t − --version) × ls-tree':>28}" if listing else ""
    print(f"\n{title}\n{'':28}{'ms':>9}{'MiB':>8}{relative}")
    for name, cost in costs.items():
        ratios = ""
        if listing and version:
            ratios = f"{cost.time / listing.time:>12.2f}"
            if name.startswith("plan"):
                ratios += f"{(cost.time - version.time) / listing.time:>28.2f}"
        print(f"{name:<28}{cost.time:>9.1f}{cost.memory:>8.1f}{ratios}")


def goals(
    found: Mapping[int, Mapping[str, Cost]],
    stages: Mapping[str, Cost],
    ledger: Mapping[str, Cost],
) -> None:
    print("\ngoals")
    middle = found.get(50_000)
    if middle:
        for_files(middle)
    if 500 in found and 200_000 in found:
        name = "plan, folders, 1 back"
        growth = found[200_000][name].time / found[500][name].time
        goal("folders: 200,000 files ÷ 500 files", growth, 1.2)
    for_stages(stages)
    if ledger:
        value = ledger["plan, ledger, depth 1"].time / ledger["plan, ledger, full clone"].time
        goal("ledger: depth 1 ÷ full clone", value, 1.1)


def for_files(costs: Mapping[str, Cost]) -> None:
    def own(name: str) -> float:
        return costs[name].time - costs["cipipe --version"].time

    listing = costs["git ls-tree -r -z HEAD"].time
    goal("files: (plan − --version) ÷ ls-tree", own("plan, files, 1 back") / listing, 3)
    limit = 3 * costs["git rev-parse HEAD"].time + 5
    goal("folders: plan − --version", own("plan, folders, 1 back"), limit, " ms")
    for kind in ("folders", "files"):
        near = costs[f"plan, {kind}, 1 back"].time
        far = costs[f"plan, {kind}, 199 back"].time
        goal(f"{kind}: 199 commits ÷ 1 commit", far / near, 1.1)
    most = max(cost.memory for name, cost in costs.items() if name.startswith("plan"))
    goal("peak memory", most, 40, " MiB")


def for_stages(costs: Mapping[str, Cost]) -> None:
    """Limits for the time over `--version`, which is the same whatever the number of stages."""
    for due in ("1 due", "all due"):
        few, many = (
            costs[f"plan, {number:,} stages, {due}"].time - costs["cipipe --version"].time
            for number in (FEW, MANY)
        )
        goal(f"stages, {due}: {MANY:,} ÷ {FEW}", many / few, 12)
        goal(f"stages, {due}: plan − --version, {MANY:,} stages", many, 600, " ms")


def goal(text: str, value: float, limit: float, unit: str = "") -> None:
    verdict = "met" if value <= limit else "missed"
    print(f"  {verdict:<7} {text}: {value:.2f}{unit}, at most {limit:.2f}{unit}")


def versions(cipipe: Sequence[str]) -> str:
    def first(*argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=ENV)
        return done.stdout.splitlines()[0]

    found = [
        first(*cipipe, "--version"),
        f"Python {platform.python_version()}",
        first("git", "--version"),
    ]
    if shutil.which("node"):
        found.append(f"node {first('node', '--version')}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
