"""Runs a command in an image to get a file from it: without network, privileges, and anything of
the job's.
"""

import contextlib
import io
import tarfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cipipe.interrupt import Interrupt

# Bytes of a result.
_MOST = 256_000_000


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    image: str
    argv: Sequence[str]
    environment: Mapping[str, str] = {}
    # Absolute paths of files that the container starts with.
    files: Mapping[str, bytes] = {}
    # The absolute path of the file to return.
    result: str | None = None
    # Seconds.
    timeout: int = 300


class ProbeResult(msgspec.Struct, frozen=True):
    """What came of it."""

    status: int
    printed: str
    # None: the command did not write it.
    file: bytes | None
    timed_out: bool = False


def probe(
    client: Any, wanted: Probe, interrupt: Interrupt, missing: type[Exception]
) -> ProbeResult:
    """Run it to its end. `client` is the SDK's, and `missing` its error for
    a file that is not there. Raises the SDK's errors.
    """
    container = client.containers.create(
        wanted.image,
        list(wanted.argv),
        environment=dict(wanted.environment),
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=1024,
        use_config_proxy=False,
        log_config={"type": "json-file"},
    )
    expired = threading.Event()

    def kill() -> None:
        # It may have ended by itself, or the daemon is gone.
        with contextlib.suppress(Exception):
            container.kill()

    def expire() -> None:
        expired.set()
        kill()

    timer = threading.Timer(wanted.timeout, expire)
    timer.daemon = True
    try:
        if wanted.files:
            container.put_archive("/", _packed(wanted.files))
        with interrupt.stopping(kill):
            timer.start()
            container.start()
            interrupt.check()
            status = int(container.wait()["StatusCode"])
        interrupt.check()
        printed = container.logs().decode(errors="replace")
        found = _read(container, wanted.result, missing) if wanted.result else None
        return ProbeResult(status, printed, found, expired.is_set())
    finally:
        timer.cancel()
        with contextlib.suppress(Exception):
            container.remove(force=True, v=True)


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
