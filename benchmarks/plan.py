"""What `cipipe plan` costs, next to the git commands that anything of the kind has to run. See
README.md here.

Every command is run once per round, one after the other, so that whatever else the machine does
hits all of them alike; what is shown is the median over the rounds, and the most memory that a
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ACCOUNT, REGION, BUCKET = "123456789012", "eu-central-1", "ledger"
COMMITS = 201
FOLDERS = ("terraform", "dbt", "dags", "docs")
PER_FILE, RECORDED = "per-file.toml", "recorded.toml"
HEAD = f"""\
[project]
name = "benchmark"
default_environment = "dev"
[ledger]
bucket = "{BUCKET}"
[environments.dev]
account_id = "{ACCOUNT}"
region = "{REGION}"
role_arn = "arn:aws:iam::{ACCOUNT}:role/deploy"
deploy_from = {{ branches = ["main"] }}
"""
STAGES = {
    "terraform": 'kind = "terraform"\nroot = "terraform"\nbackend = { bucket = "state", key = "{project}.tfstate" }',
    "dbt": 'kind = "image"\ncontext = "dbt"\nrepository = { output = "url" }\nneeds = ["terraform"]',
    "dags": 'kind = "dags"\nsource = "dags"\nbucket = { output = "bucket" }\nneeds = ["terraform", "dbt"]',
}
COMMAND = 'kind = "command"\nrun = [["true"]]'
MAKE_BUCKET = """
import boto3, sys
place = {"LocationConstraint": sys.argv[2]}
boto3.client("s3", region_name=sys.argv[2]).create_bucket(Bucket=sys.argv[1], CreateBucketConfiguration=place)
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
}


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
            repository = made(work, size)
            found[size] = measured(local(cipipe, repository, given.paths_filter), runs)
            show(f"{size:,} files, {COMMITS} commits", found[size])
        ledger: dict[str, Cost] = {}
        if not given.no_ledger:
            size = 50_000 if 50_000 in sizes else sizes[-1]
            with endpoint(Path(scratch)) as url:
                commands = against_ledger(cipipe, made(work, size), Path(scratch), url)
                ledger = measured(commands, runs)
            show(f"{size:,} files, against a recorded ledger", ledger)
    goals(found, ledger)


def made(work: Path, files: int) -> Path:
    """A repository of that many files and 201 commits, each but the first changing one file. Made
    once per folder.
    """
    root = work / f"{files}-files"
    if not root.exists():
        root.mkdir(parents=True)
        git(root, "init", "--quiet", "--initial-branch=main")
        feeder = subprocess.Popen(
            ["git", "fast-import", "--quiet", "--done"],
            cwd=root,
            env=ENV,
            stdin=subprocess.PIPE,
            bufsize=1 << 20,
        )
        assert feeder.stdin is not None
        for line in history(files):
            feeder.stdin.write(line)
        feeder.stdin.close()
        if feeder.wait() != 0:
            sys.exit("git fast-import failed")
        git(root, "repack", "-adq")
        git(root, "reset", "--quiet", "--hard")
    return root


def path_of(number: int) -> str:
    """Four folders at the top, below them 100 files to a folder, every twentieth file a page of
    documentation.
    """
    top, rest = FOLDERS[number % 4], number // 4
    suffix = "md" if rest % 20 == 0 else "sql"
    return f"{top}/area_{rest // 2000:03}/group_{rest // 100:05}/model_{rest:06}.{suffix}"


def configuration(taken: str = "", *, command: bool = False) -> str:
    """Three stages, each of a whole folder, or of its files without what `taken` takes away."""
    stages = (
        f'[stages.{name}]\npaths = ["{name}/**"{taken.format(name)}]\n{COMMAND if command else settings}\n'
        for name, settings in STAGES.items()
    )
    return HEAD + "".join(stages)


def history(files: int) -> Iterator[bytes]:
    def blob(path: str, text: str) -> bytes:
        return b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(text), text.encode())

    for number in range(COMMITS):
        yield b"commit refs/heads/main\ncommitter x <x@example.org> %d +0000\ndata 1\nx\n" % (
            1_700_000_000 + number
        )
        if number == 0:
            yield blob("cipipe.toml", configuration())
            yield blob(PER_FILE, configuration(', "!{}/**/*.md"'))
            yield blob(RECORDED, configuration(command=True))
            for file in range(files):
                yield blob(path_of(file), f"select {file}")
        else:
            place = (
                number // 10 * (files // 20) + number % 10 * 4
            )  # ten commits on one group of files, then another
            yield blob(path_of(place % files), f"select -{number}")
    yield b"done\n"


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
    """The same plan in a full clone and in one of depth 1, against what a run of `HEAD~1` recorded."""
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
    listing, version = costs.get("git ls-tree -r -z HEAD"), costs.get("cipipe --version")
    print(
        f"\n{title}\n{'':26}{'ms':>9}{'MiB':>8}{'× ls-tree':>12}{'(t − --version) × ls-tree':>28}"
    )
    for name, cost in costs.items():
        ratios = ""
        if listing and version:
            ratios = f"{cost.time / listing.time:>12.2f}"
            if name.startswith("plan"):
                ratios += f"{(cost.time - version.time) / listing.time:>28.2f}"
        print(f"{name:<26}{cost.time:>9.1f}{cost.memory:>8.1f}{ratios}")


def goals(found: Mapping[int, Mapping[str, Cost]], ledger: Mapping[str, Cost]) -> None:
    print("\ngoals")

    def goal(text: str, value: float, limit: float, unit: str = "") -> None:
        verdict = "met" if value <= limit else "missed"
        print(f"  {verdict:<7} {text}: {value:.2f}{unit}, at most {limit:.2f}{unit}")

    middle = found.get(50_000)
    if middle:
        own: Callable[[str], float] = lambda name: (
            middle[name].time - middle["cipipe --version"].time
        )
        listing = middle["git ls-tree -r -z HEAD"].time
        goal("files: (plan − --version) ÷ ls-tree", own("plan, files, 1 back") / listing, 3)
        limit = 3 * middle["git rev-parse HEAD"].time + 5
        goal("folders: plan − --version", own("plan, folders, 1 back"), limit, " ms")
        for kind in ("folders", "files"):
            near, far = middle[f"plan, {kind}, 1 back"].time, middle[f"plan, {kind}, 199 back"].time
            goal(f"{kind}: 199 commits ÷ 1 commit", far / near, 1.1)
        goal(
            "peak memory",
            max(c.memory for n, c in middle.items() if n.startswith("plan")),
            40,
            " MiB",
        )
    if 500 in found and 200_000 in found:
        name = "plan, folders, 1 back"
        goal(
            "folders: 200,000 files ÷ 500 files",
            found[200_000][name].time / found[500][name].time,
            1.2,
        )
    if ledger:
        value = ledger["plan, ledger, depth 1"].time / ledger["plan, ledger, full clone"].time
        goal("ledger: depth 1 ÷ full clone", value, 1.1)


def versions(cipipe: Sequence[str]) -> str:
    def first(*argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=ENV)
        return done.stdout.splitlines()[0]

    node = f", node {first('node', '--version')}" if shutil.which("node") else ""
    return f"{first(*cipipe, '--version')}, Python {platform.python_version()}, {first('git', '--version')}{node}"


def git(cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=ENV, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
