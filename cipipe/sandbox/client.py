"""Bring a sandbox up, find it, use it, take it down."""

import contextlib
import fcntl
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cipipe import ci
from cipipe.errors import StageError, UsageError
from cipipe.sandbox import state
from cipipe.sandbox.images import dockerd
from cipipe.tools import http, process
from cipipe.tools.aws.clients import Credentials, Endpoint

_START = 60.0
_STOP = 45.0


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    state: state.SandboxState

    def endpoint(self, region: str) -> Endpoint:
        return Endpoint(region, self.state.aws_url)

    @property
    def admin(self) -> Credentials:
        """An administrator of the account that the sandbox was started for."""
        return self.admin_of(self.state.account.id)

    def admin_of(self, account_id: str) -> Credentials:
        """An administrator of any account: one sandbox holds all of them, told apart by access key
        and role.
        """
        return Credentials(state.admin_key(account_id), self.state.account.secret_access_key)

    def child_env(self) -> dict[str, str]:
        """What tools need in their environment to meet the sandbox instead of AWS; credentials are
        not part of it.
        """
        env = {
            "AWS_ENDPOINT_URL": self.state.aws_url,
            "AWS_ENDPOINT_URL_STS": self.state.aws_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_VAR_sandbox": "true",
        }
        return env | ({"DOCKER_HOST": self.state.docker_host} if self.state.docker_host else {})

    def mint(
        self,
        *,
        project: str,
        ref: str,
        ref_type: str,
        audience: str,
        flavour: str = "gitlab",
        **more: Any,
    ) -> str:
        """An ID token as the provider would issue it; `more` are the other fields of
        `tokens.TokenRequest`.
        """
        asked = {
            "project": project,
            "ref": ref,
            "ref_type": ref_type,
            "audience": audience,
            "flavour": flavour,
            **more,
        }
        return str(http.post_json(f"{self.state.issuer_url}/_cipipe/token", asked)["value"])

    def github_job(self, *, project: str, ref: str, ref_type: str, **more: Any) -> tuple[str, str]:
        """What a GitHub job with these claims finds in ACTIONS_ID_TOKEN_REQUEST_URL and …_TOKEN."""
        asked = {
            "project": project,
            "ref": ref,
            "ref_type": ref_type,
            "audience": "",
            "flavour": "github",
            **more,
        }
        answer = http.post_json(f"{self.state.issuer_url}/_cipipe/github-job", asked)
        return str(answer["request_url"]), str(answer["request_token"])

    def exchanges(self) -> list[dict[str, Any]]:
        """The token exchanges that the front accepted, oldest first: issuer, sub, aud, jti, role,
        kid, verified, time.
        """
        found: list[dict[str, Any]] = http.get_json(f"{self.state.aws_url}/_cipipe/exchanges")[
            "exchanges"
        ]
        return found

    def secret_hashes(self) -> list[str]:
        """SHA-256 of every secret key that STS gave out here, by which a test can look for them in
        a log.
        """
        return list(http.get_json(f"{self.state.aws_url}/_cipipe/secret-hashes")["sha256"])

    def limit_sessions(self, seconds: int | None) -> None:
        """From now on no session lasts longer than this, whatever is asked for; None lifts the
        limit.
        """
        http.post_json(f"{self.state.aws_url}/_cipipe/longest-session", {"seconds": seconds})


def find(directory: Path) -> Sandbox | None:
    """The sandbox that runs in a folder; None where none answers. Clears what a killed one left."""
    found = state.read(directory)
    if found is None:
        return None
    if _runs(found.pid) and _is(found):
        return Sandbox(found)
    if not _runs(found.pid) and state.read(directory) == found:
        (directory / state.NAME).unlink(missing_ok=True)
        dockerd.remove_run(found.docker_host)
    return None


def up(
    directory: Path,
    *,
    account_id: str,
    env: Mapping[str, str],
    detached: bool,
    docker_data: Path | None,
    say: Callable[[str], None],
    region: str = "eu-central-1",
    docker: bool = True,
) -> Sandbox:
    """Bring a sandbox up in a folder, or take the one that runs there; one that is attached ends
    with this process.

    `docker_data` keeps a private daemon's images; `docker=False` leaves Docker out. `say` is told
    what happens. Raises StageError `sandbox-not-started`.
    """
    options = state.SandboxOptions(
        directory.resolve(), account_id, region, not detached, docker, docker_data
    )
    sandbox, service = _up(options, env, say)
    if service:
        service.release()
    return sandbox


@contextlib.contextmanager
def attached(
    directory: Path,
    *,
    account_id: str,
    env: Mapping[str, str],
    docker_data: Path | None,
    say: Callable[[str], None],
    region: str = "eu-central-1",
    docker: bool = True,
) -> Iterator[Sandbox]:
    """A sandbox for the length of a `with`: the one that runs in the folder, else one that is taken
    down at the end.
    """
    sandbox, service = _up(
        state.SandboxOptions(directory.resolve(), account_id, region, True, docker, docker_data),
        env,
        say,
    )
    try:
        yield sandbox
    finally:
        if service:
            say("sandbox: ending")
            service.stop(timeout=_STOP)


def down(directory: Path) -> bool:
    """End the sandbox that runs in a folder and wait until it is gone; False where there was none."""
    sandbox = find(directory)
    if sandbox is None:
        return False
    pid = sandbox.state.pid
    for number, patience in ((signal.SIGTERM, _STOP), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        ends = time.monotonic() + patience
        while _runs(pid) and time.monotonic() < ends:
            time.sleep(0.02)
        if not _runs(pid):
            break
    find(directory)
    return True


def _up(
    options: state.SandboxOptions, env: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Sandbox, process.Service | None]:
    if importlib.util.find_spec("moto") is None:
        raise UsageError(
            "sandbox-not-installed",
            "the sandbox is not installed",
            hint="pip install 'cipipe[sandbox]' brings it.",
        )
    directory = options.directory
    state.close(directory)
    with _lock_file(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if running := find(directory):
            say(f"sandbox: the one that runs since {running.state.started_at} is used")
            return running, None
        say("sandbox: starting")
        (directory / state.NAME).unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "cipipe.sandbox", state.encode(options)]
        log = directory / "supervisor.log"
        state.create(log).close()
        service = process.start(
            argv, env=ci.without_secrets(env), log=log, attached=options.attached
        )
        try:
            sandbox = _ready(directory, service)
        except BaseException:
            service.stop(timeout=_STOP)
            raise
    say(
        f"sandbox: AWS at {sandbox.state.aws_url}, images at {sandbox.state.registry or 'no registry'}"
    )
    return sandbox, service


def _lock_file(directory: Path) -> IO[bytes]:
    return os.fdopen(os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def _ready(directory: Path, service: process.Service) -> Sandbox:
    ends = time.monotonic() + _START
    while service.returncode is None and time.monotonic() < ends:
        found = state.read(directory)
        if found is not None and found.pid == service.pid:
            return Sandbox(found)
        time.sleep(0.02)
    raise StageError(
        "sandbox-not-started",
        f"the sandbox did not start:\n{service.tail()}",
        hint="The lines above are its log's last ones.",
        where=str(service.log),
    )


def _is(found: state.SandboxState) -> bool:
    try:
        return bool(
            http.get_json(f"{found.aws_url}/_cipipe/health", timeout=3)["sandbox"] == found.identity
        )
    except (http.HttpError, KeyError, TypeError):
        return False


def _runs(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child that has ended still has its pid until somebody asks
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
