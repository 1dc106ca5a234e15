"""Runs a command in an image, as a test of it: without network, privileges, and anything of the
job's.

The container is removed in every case. If the daemon is gone by then, the
next test on it removes what is left.
"""

import codecs
import collections
import contextlib
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import msgspec

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.redact import Redactor
from cipipe.tools.docker import leftovers

# Lines of output that an error quotes, from the end.
_SHOWN = 15

# Characters of one line that are shown.
_LONGEST = 2000

# Bytes that the command may print. The daemon keeps them on its disk.
_MOST = 16_000_000

_PROCESSES = 1024

# What a shell and Python print when they may start no more.
_NO_PROCESS = re.compile(
    r"cannot fork|fork: retry|fork: resource temporarily|can't start new thread",
    re.IGNORECASE,
)

# Why a command did not start, in the words of the daemon or the kernel.
_CAUSES = (
    (
        re.compile(r"exec format error", re.IGNORECASE),
        "it is a program for another processor than the daemon's, or a script without `#!`",
        "Build the image for the daemon's platform (`platform`), or correct the script's `#!`.",
    ),
    (
        re.compile(r"executable file not found|no such file or directory", re.IGNORECASE),
        "the image does not have that command, or not the interpreter that it names",
        "Correct `smoke`, or install the command in the image; a path must be that in the image.",
    ),
    (
        re.compile(r"permission denied", re.IGNORECASE),
        "the image's user may not execute it",
        "Make the file executable in the image, for the image's user.",
    ),
)

_STATUSES = {
    125: ("Docker could not run it", "The lines above are the command's own."),
    126: (
        "the command cannot be executed",
        "Make it executable for the image's user, and check its platform.",
    ),
    127: (
        "the command was not found",
        "Install it in the image, or correct `smoke` or the entry point.",
    ),
    137: ("it was killed", "Somebody killed it, or the machine ran out of memory."),
    139: ("it crashed", "It accessed memory that is not its own."),
}


class Smoke(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    image: str
    argv: Sequence[str]
    # Seconds.
    timeout: int
    # MiB; None: all that the daemon has.
    memory: int | None = None


class _Output:
    """The end of what the command printed."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=_SHOWN)

    def __str__(self) -> str:
        return "".join(f"\n{text}" for text in self.lines)


class _Limits:
    """Kills the container, once, for a reason."""

    def __init__(self, kill: Callable[[], None], seconds: int) -> None:
        self.reason: str | None = None
        self._kill = kill
        self._timer = threading.Timer(seconds, self.exceeded, (f"it ran longer than {seconds} s",))
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def exceeded(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            self._kill()


def smoke(
    client: Any,
    wanted: Smoke,
    *,
    redactor: Redactor,
    line: Callable[[str], None],
    interrupt: Interrupt,
) -> None:
    """Run the command, and pass on what it prints. `client` is the SDK's.

    Raises StageError where it fails or does not finish, and the SDK's errors.
    """
    leftovers.remove_expired(client)
    _check_entrypoint(client, wanted)
    container = _created(client, wanted)
    output = _Output()

    def kill() -> None:
        # It may have ended by itself, or the daemon is gone.
        with contextlib.suppress(Exception):
            container.kill()

    try:
        with interrupt.stopping(kill), _Limits(kill, wanted.timeout) as limits:
            _started(container, wanted)
            # The interrupt's kill may have come before the start.
            interrupt.check()
            for text in redactor.lines(_printed(container, limits)):
                output.lines.append(text[:_LONGEST])
                line(text[:_LONGEST])
            status = container.wait()["StatusCode"]
        if limits.reason is not None:
            raise _stopped(wanted, limits.reason, output)
        if status != 0:
            container.reload()
            raise _failed(client, wanted, container.attrs, status=status, output=output)
    finally:
        # The daemon may be gone. Then the error from above is the one that
        # matters.
        with contextlib.suppress(Exception):
            container.remove(force=True, v=True)


def _created(client: Any, wanted: Smoke) -> Any:
    limit = {}
    if wanted.memory is not None:
        size = f"{wanted.memory}m"
        # Without this, it could use as much again of swap.
        limit = {"mem_limit": size, "memswap_limit": size}
    return client.containers.create(
        wanted.image,
        list(wanted.argv),
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=_PROCESSES,
        **limit,
        # A proxy in the configuration of Docker's client may have a
        # password in it.
        use_config_proxy=False,
        # The daemon's default may be one that cannot be read.
        log_config={"type": "json-file"},
        labels=leftovers.label(wanted.timeout),
    )


def _started(container: Any, wanted: Smoke) -> None:
    try:
        container.start()
    except Exception as error:
        # What the daemon answered; other errors of the SDK have none.
        reason = str(getattr(error, "explanation", None) or "")
        for pattern, cause, hint in _CAUSES:
            if pattern.search(reason):
                message = f"{_command(wanted)} could not be started: {cause}\n{reason}"
                raise StageError("docker-smoke-failed", message, hint=hint) from error
        raise


def _printed(container: Any, limits: _Limits) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    size = 0
    for chunk in container.logs(stream=True, follow=True):
        size += len(chunk)
        if size > _MOST:
            limits.exceeded(f"it printed more than {_MOST // 1_000_000} MB")
            return
        yield decoder.decode(chunk)


def _check_entrypoint(client: Any, wanted: Smoke) -> None:
    """Refuse an entry point that would succeed without the command.

    The shell form (`ENTRYPOINT program`) is `/bin/sh -c program`, which
    gets the command as arguments that nothing reads.
    """
    config = client.api.inspect_image(wanted.image).get("Config") or {}
    entrypoint = config.get("Entrypoint") or []
    if entrypoint[:2] != ["/bin/sh", "-c"] or len(entrypoint) != 3:
        return
    if re.search(r"\$(?:[@*0-9]|\{[@*0-9#])", entrypoint[2]):
        return
    raise StageError(
        "docker-smoke-failed",
        f"`{shlex.join(wanted.argv)}` would not run in {wanted.image}: its ENTRYPOINT, "
        f"`{entrypoint[2]}`, is in shell form, which ignores the command",
        hint='Write it as a list, ENTRYPOINT ["program", "argument"], of a program that runs the '
        "command that it is given.",
    )


def _stopped(wanted: Smoke, reason: str, output: _Output) -> StageError:
    return StageError(
        "docker-smoke-timeout" if "longer" in reason else "docker-smoke-failed",
        f"{_command(wanted)} was stopped: {reason}. The image was not pushed.{output}",
        hint="Find out what it waits for: it has no network. If it needs the time, raise "
        "`smoke_timeout`."
        if "longer" in reason
        else "Let it print less.",
    )


def _failed(
    client: Any, wanted: Smoke, attributes: Any, *, status: int, output: _Output
) -> StageError:
    message = f"{_command(wanted)} exited with status {status}"
    hint = "The lines above are the command's own. It runs without network."
    if attributes["State"].get("OOMKilled"):
        cause, hint = _out_of_memory(client, wanted)
        message += f": {cause}"
    elif _NO_PROCESS.search(str(output)):
        message += f": it may have {_PROCESSES} processes at most"
        hint = "Let it start fewer processes or threads. The lines above are the command's own."
    elif status == 1 and "exec format error" in str(output):
        _, cause, hint = _CAUSES[0]
        message += f": {cause}"
    elif status in _STATUSES:
        cause, hint = _STATUSES[status]
        message += f": {cause}"
    return StageError(
        "docker-smoke-failed", f"{message}. The image was not pushed.{output}", hint=hint
    )


def _out_of_memory(client: Any, wanted: Smoke) -> tuple[str, str]:
    """What the limit was, and what to do."""
    if wanted.memory is not None:
        return (
            f"it ran out of memory, of which it may use {wanted.memory} MiB",
            "Raise `smoke_memory`, or let the command use less.",
        )
    cause = "it ran out of memory"
    # Only for the message.
    with contextlib.suppress(Exception):
        cause += f": Docker's machine has {client.info()['MemTotal'] >> 20} MiB"
    return cause, "Give the Docker daemon more memory, or let the command use less."


def _command(wanted: Smoke) -> str:
    return f"`{shlex.join(wanted.argv)}` in {wanted.image}"
