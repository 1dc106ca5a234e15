"""SIGKILL at any moment of a deployment, and again: nothing is half new, nothing of others is lost.

The moments are requests: the server kills the process before or after it has handled the one that
was drawn. `CIPIPE_TEST_SEED` draws others.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey, s3_backends

from cipipe.model import Output, State
from support import servers
from support.shop import ACCOUNT, BUCKET, OUTPUTS, Shop

FILES = 40
MOMENTS = 50
SEED = int(os.environ.get("CIPIPE_TEST_SEED", "1"))
FOREIGN = {"dags/theirs.py": b"theirs", "dags/d0.py.bak": b"theirs", "other": b"theirs"}
NEVER = (-1, True)
DAG = """\
from airflow import DAG
ONE = ''  # cipipe: cluster
# {0}
TWO = ''  # cipipe: cluster
NAME = {0}
"""

# Everything is imported once; each command is a process of its own, forked from here.
FORK_SERVER = """
import json, os, sys
import boto3, botocore.config
from cipipe.cli import main
import cipipe.cli.dags.bucket
import cipipe.stages.dags.bucket.objects
import cipipe.stages.dags.checks.airflow_imports
import cipipe.stages.dags.checks.containers
import cipipe.stages.dags.checks.static
import cipipe.stages.dags.render
boto3.Session("a", "b", region_name="eu-central-1").client("s3")
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        os._exit(main(order["argv"]))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class KillingServer:
    """A front of the S3 server that counts requests, and kills a process at one of them."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._victim: Callable[[], None] = lambda: None
        self._at: tuple[int, bool] | None = None
        self.count = self._busy = 0

    def arm(self, kill: Callable[[], None], at: tuple[int, bool] | None) -> None:
        """Kill at the request of that number from now on; with None, kill nobody."""
        self._victim = kill
        self._at = at
        if at is not None:
            self.count = 0

    def idle(self) -> None:
        """Wait until the requests of a dead process have been handled."""
        calm = 0
        while calm < 3:
            time.sleep(0.005)
            calm = calm + 1 if not self._busy else 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            number = self.count
            self.count += 1
            self._busy += 1
        try:
            if self._at == (number, True):
                self._victim()
            return cast("Iterable[bytes]", self._app(environ, start_response))
        finally:
            if self._at == (number, False):
                self._victim()
            with self._lock:
                self._busy -= 1


class ForkServer:
    """Processes that run `cipipe`."""

    def __init__(self, shop: Shop, front: KillingServer, output: Path) -> None:
        self._shop = shop
        self._front = front
        self._output = output
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORK_SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**shop.env, "PYTHONPATH": path},
        )
        assert self._line() == "ready"

    def run(self, *argv: str, at: tuple[int, bool] | None = None) -> int:
        """The exit status, negative after a signal. `at`: kill it at that request, before it is
        handled (True) or after.
        """
        started = threading.Event()
        child = 0

        def kill() -> None:
            started.wait()
            os.kill(child, signal.SIGKILL)

        self._front.arm(kill, at or NEVER)
        order = {
            "argv": argv,
            "env": self._shop.env,
            "cwd": str(self._shop.repo.root),
            "output": str(self._output),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        child = int(self._line())
        started.set()
        status = int(self._line())
        self._front.arm(kill, None)
        self._front.idle()
        return status

    def output(self) -> str:
        return self._output.read_text()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def front() -> KillingServer:
    return KillingServer()


@pytest.fixture
def shop(tmp_path: Path, front: KillingServer) -> Iterator[Shop]:
    with servers.wsgi(front) as url:
        made = Shop(tmp_path / "shop", url)
        made.repo.commit({"dags/a.py": None, "dags/helper.py": None})
        for key, body in FOREIGN.items():
            made.aws.bucket(BUCKET).put(key, body)
        yield made


@pytest.fixture
def forks(shop: Shop, front: KillingServer, tmp_path: Path) -> Iterator[ForkServer]:
    made = ForkServer(shop, front, tmp_path / "output")
    yield made
    assert made.process.stdin is not None
    assert made.process.stdout is not None
    made.process.stdin.close()
    made.process.wait()
    made.process.stdout.close()


def in_bucket() -> dict[str, tuple[bytes, str]]:
    """Contents and version of every object, from the server's memory; drops older versions."""
    keys = s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys
    found = {}
    for name in list(keys):
        newest = max(keys.getlist(name), key=lambda version: version.last_modified)
        keys.setlist(name, [newest])
        if isinstance(newest, FakeKey):
            found[name] = (newest.value, newest.version_id)
    return found


def generation(shop: Shop, number: int) -> dict[str, bytes]:
    """Commit new files with new outputs; returns what the bucket should have afterwards.

    In each generation, one file is added and one is removed.
    """
    files: dict[str, str | bytes | None] = {
        f"dags/d{index}.py": DAG.format(number) for index in range(FILES - 5)
    }
    files |= {f"dags/lib/h{index}.sql": f"-- {number}" for index in range(4)}
    files[f"dags/only{number}.py"] = DAG.format(number)
    gone = {f"dags/only{number - 1}.py": None} if number else {}
    shop.commit(files | gone)
    shop.apply(**{**OUTPUTS, "cluster": Output(value=f"v{number}")})
    return {name: str(body).replace("''", f'"v{number}"').encode() for name, body in files.items()}


def check_nothing_is_half_new(shop: Shop, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    bodies = {key: body for key, (body, _) in in_bucket().items()}
    for key, body in bodies.items():
        if key not in FOREIGN:
            assert body in (old.get(key), new.get(key)), key
    assert {key: bodies.get(key) for key in FOREIGN} == FOREIGN
    assert set(bodies) - set(FOREIGN) <= set(shop.record().data["manifest"]), (
        "a key that nobody would ever delete"
    )


def check_all_is_there(shop: Shop, new: dict[str, bytes]) -> None:
    there = in_bucket()
    assert {key: body for key, (body, _) in there.items()} == {**FOREIGN, **new}
    record = shop.record()
    assert (record.state, record.commit) == (State.DEPLOYED, shop.head)
    assert record.data["manifest"] == {
        key: {"sha256": hashlib.sha256(body).hexdigest(), "version": there[key][1]}
        for key, body in new.items()
    }


def test_killed_at_any_moment_and_run_again(
    shop: Shop, front: KillingServer, forks: ForkServer
) -> None:
    draw = random.Random(SEED)
    old = generation(shop, 0)
    assert forks.run("dags", "deploy") == 0, forks.output()
    counted = front.count
    check_all_is_there(shop, old)
    assert counted > FILES
    killed = 0
    for number in range(1, MOMENTS + 1):
        new = generation(shop, number)
        at = (draw.randrange(counted), draw.random() < 0.5)
        status = forks.run("dags", "deploy", at=at)
        killed += status == -signal.SIGKILL
        assert status in {0, -signal.SIGKILL}, (SEED, at, forks.output())
        check_nothing_is_half_new(shop, old, new)
        command = ("run", "dags") if draw.random() < 0.5 else ("dags", "deploy")
        assert forks.run(*command) == 0, (SEED, at, forks.output())
        check_all_is_there(shop, new)
        old = new
    assert killed > MOMENTS * 0.8
