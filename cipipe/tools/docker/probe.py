"""Runs a command in an image to get a file from it: without privileges, and with nothing of the
job's that is not asked for.
"""

import codecs
import collections
import contextlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cipipe.interrupt import Interrupt
from cipipe.tools.docker import leftovers

# Bytes of a result.
_MOST = 256_000_000

# Lines that are kept of output that was shown.
_KEPT = 100

Lines = Callable[[Iterator[str]], Iterable[str]]
"""Shows a command's output, which comes in pieces, and returns its lines."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    image: str
    argv: Sequence[str]
    # Visible in `docker inspect` until the container is removed.
    environment: Mapping[str, str] = {}
    # Absolute paths of files that the container starts with.
    files: Mapping[str, bytes] = {}
    # The absolute path of the file to return.
    result: str | None = None
    # Docker's name of it.
    network: str = "none"
    # Seconds.
    timeout: int = 300
    # Seconds between SIGTERM and SIGKILL when it is stopped; 0: only SIGKILL.
    grace: int = 0


class ProbeResult(msgspec.Struct, frozen=True):
    """What came of it."""

    status: int
    # The end of it, if it was shown.
    printed: str
    # None: the command did not write it.
    file: bytes | None
    timed_out: bool = False


def probe(
    client: Any,
    wanted: Probe,
    interrupt: Interrupt,
    *,
    missing: type[Exception],
    lines: Lines | None = None,
) -> ProbeResult:
    """Run it to its end. `client` is the SDK's, and `missing` its error for
    a file that is not there. `lines` shows what it prints while it runs.

    Raises the SDK's errors.
    """
    leftovers.remove_expired(client)
    container = client.containers.create(
        wanted.image,
        list(wanted.argv),
        environment=dict(wanted.environment),
        network_mode=wanted.network,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=1024,
        use_config_proxy=False,
        log_config={"type": "json-file"},
        labels=leftovers.label(wanted.timeout),
    )
    expired = threading.Event()

    def stop() -> None:
        # It may have ended by itself, or the daemon is gone.
        with contextlib.suppress(Exception):
            if wanted.grace:
                container.stop(timeout=wanted.grace)
            else:
                container.kill()

    def expire() -> None:
        expired.set()
        stop()

    timer = threading.Timer(wanted.timeout, expire)
    timer.daemon = True
    try:
        if wanted.files:
            container.put_archive("/", _packed(wanted.files))
        printed: str | None = None
        with interrupt.stopping(stop):
            timer.start()
            container.start()
            interrupt.check()
            if lines is not None:
                printed = "\n".join(collections.deque(lines(_printed(container)), maxlen=_KEPT))
            status = int(container.wait()["StatusCode"])
        interrupt.check()
        if printed is None:
            printed = container.logs().decode(errors="replace")
        found = _read(container, wanted.result, missing) if wanted.result else None
        return ProbeResult(status, printed, found, expired.is_set())
    finally:
        timer.cancel()
        with contextlib.suppress(Exception):
            container.remove(force=True, v=True)


def _printed(container: Any) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in container.logs(stream=True, follow=True):
        yield decoder.decode(chunk)


def _packed(files: Mapping[str, bytes]) -> bytes:
    """A tar with the files, readable for every user."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, body in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size = len(body)
            info.mode = 0o644
            archive.addfile(info, io.BytesIO(body))
    return made.getvalue()


def _read(container: Any, path: str, missing: type[Exception]) -> bytes | None:
    try:
        pieces, _ = container.get_archive(path)
    except missing:
        return None
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > _MOST:
            return None
    with tarfile.open(fileobj=io.BytesIO(bytes(body))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None and member.isreg() else None
        return file.read() if file is not None else None
