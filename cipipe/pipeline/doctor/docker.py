"""What of the Docker settings would stop a run: the daemon's address, the certificates, the daemon
itself.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import StageError
from cipipe.pipeline.doctor.base import Doubtful, Machine, Skipped
from cipipe.tools.docker import host as docker_host
from cipipe.tools.docker.client import Docker
from cipipe.tools.docker.host import Address, NotYet, Tls

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_TLS_VARIABLES = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_OF_TRUST = {"docker-tls-untrusted", "docker-tls-client-refused"}


def check_docker(machine: Machine, tools: frozenset[str] | None) -> str:
    """Check the Docker settings and the daemon; `tools` are those that the stages need."""
    if tools is not None and "docker" not in tools:
        raise Skipped("no stage needs it")
    target = machine.target
    settings = {**machine.env, **(target.child_env if target is not None else {})}
    found = docker_host.address(settings)
    if found.tls is not None:
        _check_certificates(found.tls, settings)
    if machine.offline and not found.path:
        _doubt_port(found)
        raise Skipped(f"the daemon is at {found.url}, and --offline asks nobody")

    try:
        version = Docker(settings, machine.redactor, lambda _: None, machine.interrupt).version()
    except StageError as error:
        if found.tls is None or error.id not in _OF_TRUST or not _is_from_another_set(found.tls):
            raise
        message = f"{error.message}; ca.pem did not issue cert.pem"
        raise StageError(error.id, message, hint=error.hint, where=error.where) from error
    unused = [name for name in _TLS_VARIABLES if settings.get(name)]
    if found.path and unused and target is None:
        raise Doubtful(
            f"{version} at {found.url}, where {' and '.join(unused)} {'have' if len(unused) > 1 else 'has'} no effect",
            "set DOCKER_HOST=tcp://HOST:2376 to use TLS, or unset them",
        )
    return version + (f" at {found.url}" if settings.get("DOCKER_HOST") else "")


def _check_certificates(tls: Tls, settings: Mapping[str, str]) -> None:
    """Raises StageError where TLS cannot work, whatever the daemon says."""
    try:
        docker_host.check_files(tls, settings)
    except NotYet as reason:
        raise reason.error or StageError("docker-tls-settings", str(reason)) from reason
    docker_host.tls_context(tls)
    now = datetime.now(UTC)
    for name in ("ca.pem", "cert.pem") if tls.verify else ("cert.pem",):
        for certificate in _certificates(tls.file(name)):
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if not begins <= now <= ends:
                told = (
                    f"expired on {ends:%Y-%m-%d %H:%M}"
                    if now > ends
                    else f"holds from {begins:%Y-%m-%d %H:%M}"
                )
                raise StageError(
                    "docker-tls-settings",
                    f"{name} in {tls.folder} {told} UTC",
                    hint="Make new certificates for the daemon and its clients, and correct this machine's clock if it "
                    "is wrong. docker:dind makes new ones when it starts with an empty /certs.",
                    where=tls.file(name),
                )


def _is_from_another_set(tls: Tls) -> bool:
    """Whether cert.pem is not the work of any certificate in ca.pem."""
    own = next(_certificates(tls.file("cert.pem")), None)
    return own is not None and not any(_issued(own, by) for by in _certificates(tls.file("ca.pem")))


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
        return  # what OpenSSL takes is enough; its dates are then unknown


def _doubt_port(found: Address) -> None:
    if found.tls is not None and found.port == 2375:
        raise Doubtful(
            f"{found.url} is the port without TLS, and TLS is asked for", "use port 2376"
        )
    if found.tls is None and found.port == 2376:
        raise Doubtful(
            f"{found.url} is the port with TLS, and TLS is not asked for",
            "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH",
        )
