"""Start a sandbox, find a running one, use it, stop it."""

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

import msgspec

from cipipe import DISTRIBUTION, ci
from cipipe.errors import StageError, UsageError
from cipipe.sandbox import state
from cipipe.sandbox.images import dockerd
from cipipe.tools import http, process
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint

# Seconds. A first start generates keys, imports moto, and may pull the
# registry's image.
_START = 120.0

# Seconds. Docker may have to stop containers first.
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
        """An administrator of any account. One sandbox has all of them; the access key chooses."""
        return Credentials(state.admin_key(account_id), self.state.account.secret_access_key)

    def child_env(self) -> dict[str, str]:
        """The variables that point tools at the sandbox instead of AWS, without credentials."""
        env = {
            "AWS_ENDPOINT_URL": self.state.aws_url,
            "AWS_ENDPOINT_URL_STS": self.state.aws_url,
            # Without this, tools that find no credentials wait for a
            # metadata service.
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_VAR_sandbox": "true",
            "CIPIPE_SANDBOX_STATES": self.state.states_url,
        }
        if self.state.docker_host:
            env["DOCKER_HOST"] = self.state.docker_host
        return env

    def mint(
        self,
        *,
        project: str,
        ref: str,
        ref_type: str,
        audience: str,
        flavour: str = "gitlab",
        environment: str | None = None,
        **more: Any,
    ) -> str:
        """An ID token as the provider would issue it.

        `more` are the other fields of `tokens.TokenRequest`.
        """
        wanted = {
            "project": project,
            "ref": ref,
            "ref_type": ref_type,
            "audience": audience,
            "flavour": flavour,
            "environment": environment,
            **more,
        }
        return str(http.post_json(f"{self.state.issuer_url}/_cipipe/token", wanted)["value"])

    def github_job(self, *, project: str, ref: str, ref_type: str, **more: Any) -> tuple[str, str]:
        """The values of ACTIONS_ID_TOKEN_REQUEST_URL and …_TOKEN in such a GitHub job."""
        wanted = {
            "project": project,
            "ref": ref,
            "ref_type": ref_type,
            # The job itself asks for an audience when it requests the
            # token.
            "audience": "",
            "flavour": "github",
            **more,
        }
        answer = http.post_json(f"{self.state.issuer_url}/_cipipe/github-job", wanted)
        return str(answer["request_url"]), str(answer["request_token"])

    def exchanges(self) -> list[dict[str, Any]]:
        """The token exchanges that succeeded, oldest first.

        Keys: issuer, sub, aud, jti, role, kid, verified, time.
        """
        answer = http.get_json(f"{self.state.aws_url}/_cipipe/exchanges")
        found: list[dict[str, Any]] = answer["exchanges"]
        return found

    def permissions(self) -> list[dict[str, Any]]:
        """The permissions that roles needed, if the sandbox enforces IAM; each once.

        Keys: role, action, resource, context, tags_known, refused (why, or null).
        """
        return list(http.get_json(f"{self.state.aws_url}/_cipipe/permissions")["permissions"])

    def secret_hashes(self) -> list[str]:
        """SHA-256 of every secret key that STS issued here, to search logs for leaked keys."""
        return list(http.get_json(f"{self.state.aws_url}/_cipipe/secret-hashes")["sha256"])

    def limit_sessions(self, seconds: int | None) -> None:
        """Cut every later session to this length; None removes the limit."""
        http.post_json(f"{self.state.aws_url}/_cipipe/longest-session", {"seconds": seconds})


def find(directory: Path) -> Sandbox | None:
    """The sandbox that runs in a folder; None if none answers.

    Removes what a sandbox that was killed left behind.
    """
    found = state.read(directory)
    if found is None:
        return None
    if _runs(found.pid) and _is(found):
        return Sandbox(found)

    # Another process may have started a new sandbox here since the file was
    # read.
    if not _runs(found.pid) and state.read(directory) == found:
        (directory / state.NAME).unlink(missing_ok=True)
        dockerd.remove_run(found.docker_host)
    return None


def up(
    options: state.SandboxOptions, *, env: Mapping[str, str], say: Callable[[str], None]
) -> Sandbox:
    """Start a sandbox, or use the one that already runs in the folder.

    Raises StageError `sandbox-not-started`, UsageError
    `sandbox-not-installed`.
    """
    sandbox, service = _up(options, env, say)
    if service:
        service.release()
    return sandbox


@contextlib.contextmanager
def attached(
    options: state.SandboxOptions, *, env: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Sandbox]:
    """A sandbox for a `with` block. One that was already running keeps running afterwards."""
    sandbox, service = _up(msgspec.structs.replace(options, attached=True), env, say)
    try:
        yield sandbox
    finally:
        if service:
            say("sandbox: stopping")
            service.stop(timeout=_STOP)


def down(directory: Path) -> bool:
    """Stop the sandbox in a folder and wait until it is gone; False if none was running."""
    sandbox = find(directory)
    if sandbox is None:
        return False

    pid = sandbox.state.pid
    for number, patience in ((signal.SIGTERM, _STOP), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _runs(pid):
            break

    # Cleans up if the supervisor had to be killed.
    find(directory)
    return True


def _up(
    options: state.SandboxOptions, env: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Sandbox, process.Service | None]:
    """The sandbox, and its supervisor if this call started it."""
    if importlib.util.find_spec("moto") is None:
        raise UsageError(
            "sandbox-not-installed",
            "the sandbox is not installed",
            hint=f"Install it: pip install '{DISTRIBUTION}[sandbox]'",
        )

    directory = options.directory.resolve()
    options = msgspec.structs.replace(options, directory=directory)
    state.close(directory)

    with _lock_file(directory) as lock:
        # Two commands that start a sandbox at once: the second one waits,
        # and uses the first's.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if running := find(directory):
            say(f"sandbox: using the one that runs since {running.state.started_at}")
            return running, None

        say("sandbox: starting")
        service = _start(options, env)
        try:
            sandbox = _ready(directory, service)
        except BaseException:
            service.stop(timeout=_STOP)
            raise

    images = sandbox.state.registry or "no registry"
    say(f"sandbox: AWS at {sandbox.state.aws_url}, images at {images}")
    return sandbox, service


def _start(options: state.SandboxOptions, env: Mapping[str, str]) -> process.Service:
    directory = options.directory
    (directory / state.NAME).unlink(missing_ok=True)
    log = directory / "supervisor.log"

    # Created here, so that it is private before the child writes to it.
    state.create(log).close()

    # -P: a module in the current folder must not replace one of ours.
    argv = [sys.executable, "-P", "-m", "cipipe.sandbox", state.encode(options)]
    return process.start(
        argv,
        env=ci.without_secrets(env),
        log=log,
        lifetime=process.Lifetime(attached=options.attached),
    )


def _lock_file(directory: Path) -> IO[bytes]:
    return os.fdopen(os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def _ready(directory: Path, service: process.Service) -> Sandbox:
    deadline = time.monotonic() + _START
    while service.returncode is None and time.monotonic() < deadline:
        found = state.read(directory)
        if found is not None and found.pid == service.pid:
            return Sandbox(found)
        time.sleep(0.02)

    raise StageError(
        "sandbox-not-started",
        f"the sandbox did not start:\n{service.tail()}",
        hint="These are the last lines of its log.",
        where=str(service.log),
    )


def _is(found: state.SandboxState) -> bool:
    """Whether the process that answers at the recorded address is the recorded sandbox."""
    try:
        answer = http.get_json(f"{found.aws_url}/_cipipe/health", timeout=3)
        return bool(answer["sandbox"] == found.identity)
    except (http.HttpError, KeyError, TypeError):
        return False


def _runs(pid: int) -> bool:
    # A child that has exited keeps its pid until it is waited for.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)

    # So does a child of another process: a zombie does not run.
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
