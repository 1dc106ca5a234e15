"""What in the Docker settings would stop a run: address, certificates, the daemon itself."""

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import StageError
from cipipe.pipeline.doctor.base import Doubtful, Machine, Skipped
from cipipe.tools.docker import buildkit
from cipipe.tools.docker.address import Address, NotYet, Tls, address
from cipipe.tools.docker.certificates import check_files, tls_context
from cipipe.tools.docker.client import Docker

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_TLS_VARIABLES = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_OF_TRUST = {"docker-tls-untrusted", "docker-tls-client-refused"}

# Docker's ports by convention.
_PLAIN_PORT = 2375
_TLS_PORT = 2376

# Bytes. An image with dbt needs about this much while it is built.
_LITTLE_SPACE = 2_000_000_000


def check_docker(machine: Machine, tools: frozenset[str] | None) -> str:
    """Check the Docker settings and the daemon; `tools` are those that the stages need."""
    if tools is not None and "docker" not in tools:
        raise Skipped("no stage needs it")
    target = machine.target
    settings = {**machine.env, **(target.child_env if target is not None else {})}
    found = address(settings)
    if found.tls is not None:
        _check_certificates(found.tls, settings)
    # A socket on this machine is no remote daemon.
    if machine.offline and not found.path:
        _doubt_port(found)
        raise Skipped(f"the daemon is at {found.url}, which --offline does not contact")

    docker = Docker(settings, machine.redactor, lambda _: None, machine.interrupt)
    try:
        version = docker.version()
    except StageError as error:
        if found.tls is None or error.id not in _OF_TRUST or not _is_from_another_set(found.tls):
            raise
        message = f"{error.message}; ca.pem did not issue cert.pem"
        raise StageError(error.id, message, hint=error.hint, where=error.where) from error

    _doubt_space(docker, found)
    builder = _builder(settings)
    unused = [name for name in _TLS_VARIABLES if settings.get(name)]
    if found.path and unused and target is None:
        verb = "have" if len(unused) > 1 else "has"
        raise Doubtful(
            f"{version} at {found.url}, where {' and '.join(unused)} {verb} no effect",
            f"set DOCKER_HOST=tcp://HOST:{_TLS_PORT} to use TLS, or unset them",
        )
    place = f" at {found.url}" if settings.get("DOCKER_HOST") else ""
    return f"{version}{place}, builds with {builder}"


def _builder(settings: Mapping[str, str]) -> str:
    """What an image stage builds with here."""
    command = buildkit.command(settings)
    if command is None:
        return "the classic builder: no docker command here has BuildKit"
    return "docker buildx" if "buildx" in command else "docker and its BuildKit"


def _doubt_space(docker: Docker, found: Address) -> None:
    """Raises Doubtful where the disk with the images is nearly full. Only
    known of a daemon on this machine.
    """
    root = docker.data_root() if found.path else None
    if root is None or not Path(root).is_dir():
        return
    free = shutil.disk_usage(root).free
    if free < _LITTLE_SPACE:
        raise Doubtful(
            f"the disk with Docker's data in {root} has {free // 1_000_000} MB left",
            "free space there, for example with `docker system prune --all`",
        )


def _check_certificates(tls: Tls, settings: Mapping[str, str]) -> None:
    """Raises StageError where TLS cannot work, whatever the daemon says."""
    try:
        check_files(tls, settings)
    except NotYet as reason:
        raise reason.error or StageError("docker-tls-settings", str(reason)) from reason
    tls_context(tls)

    now = datetime.now(UTC)
    for name in ("ca.pem", "cert.pem") if tls.verify else ("cert.pem",):
        for certificate in _certificates(tls.file(name)):
            starts = certificate.not_valid_before_utc
            expires = certificate.not_valid_after_utc
            if starts <= now <= expires:
                continue
            problem = f"is valid from {starts:%Y-%m-%d %H:%M}"
            if now > expires:
                problem = f"expired on {expires:%Y-%m-%d %H:%M}"
            raise StageError(
                "docker-tls-settings",
                f"{name} in {tls.folder} {problem} UTC",
                hint="Make new certificates for the daemon and its clients, and correct this "
                "machine's clock if it is wrong. docker:dind makes new ones when it starts with "
                "an empty /certs.",
                where=tls.file(name),
            )


def _is_from_another_set(tls: Tls) -> bool:
    """Whether no certificate in ca.pem issued cert.pem."""
    own = next(_certificates(tls.file("cert.pem")), None)
    if own is None:
        return False
    return not any(_issued(own, by) for by in _certificates(tls.file("ca.pem")))


def _issued(certificate: "Certificate", by: "Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _certificates(file: str) -> Iterator["Certificate"]:
    from cryptography import x509

    try:
        yield from x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (OSError, ValueError):
        # OpenSSL has accepted the file already; its dates stay unknown.
        return


def _doubt_port(found: Address) -> None:
    if found.tls is not None and found.port == _PLAIN_PORT:
        raise Doubtful(
            f"{found.url} is the port without TLS, but TLS is configured", f"use port {_TLS_PORT}"
        )
    if found.tls is None and found.port == _TLS_PORT:
        raise Doubtful(
            f"{found.url} is the port with TLS, but TLS is not configured",
            "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH",
        )
