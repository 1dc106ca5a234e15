"""The certificates for a Docker daemon with TLS: whether they are there, and load."""

import math
import ssl
from collections.abc import Mapping
from pathlib import Path

from cipipe.errors import StageError
from cipipe.tools.docker.address import NotYet, Tls

_FILES = ("ca.pem", "cert.pem", "key.pem")

# Seconds within which docker:dind writes the other files, once the first
# one is there.
_GRACE = 3.0


def check_files(tls: Tls, env: Mapping[str, str]) -> None:
    """Raise NotYet where files are missing: docker:dind writes them when it starts."""
    # Without verification, Docker does not need the CA.
    wanted = _FILES if tls.verify else _FILES[1:]
    names = [name for name in wanted if not Path(tls.file(name)).is_file()]
    if not names:
        return

    missing = " and ".join(names) if len(names) < 3 else "ca.pem, cert.pem and key.pem"
    be = "is" if len(names) == 1 else "are"
    named = bool(env.get("DOCKER_CERT_PATH"))
    where = str(tls.folder)
    if not named:
        where += ", where Docker looks if DOCKER_CERT_PATH is not set"
    error = StageError(
        "docker-tls-settings",
        f"Docker is configured to use TLS, and {missing} {be} not in {where}",
        hint="Set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem (with "
        "docker:dind, /certs/client, which the job and the service have to share); or unset "
        "DOCKER_TLS_VERIFY.",
        where=str(tls.folder),
    )

    if not named:
        # Nobody writes into ~/.docker while a job waits.
        patience = 0.0
    elif len(names) == len(wanted):
        patience = math.inf
    else:
        patience = _GRACE
    raise NotYet(error.message, error=error, patience=patience)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """The certificates, loaded. Raises StageError where they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    name = "ca.pem"
    try:
        if tls.verify:
            context.load_verify_locations(tls.file(name))
        name = "cert.pem"
        # Without a callback, OpenSSL would ask for a password at the
        # terminal.
        context.load_cert_chain(
            tls.file("cert.pem"), tls.file("key.pem"), password=_refuse_password
        )
    except (OSError, ValueError) as error:
        raise StageError(
            "docker-tls-settings",
            f"the certificates for Docker in {tls.folder} cannot be used: {_reason(name, error)}",
            hint="Use ca.pem, cert.pem and key.pem of one and the same set; the key must not have "
            "a password.",
            where=str(tls.folder),
        ) from error
    return context


def _reason(name: str, error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "key.pem is not the key of cert.pem"
    if isinstance(error, PermissionError):
        return "this user cannot read a file"
    if name == "cert.pem":
        return "cert.pem is not a certificate, or key.pem is not a key"
    return f"{name} is not a certificate"


def _refuse_password() -> str:
    message = "the key has a password"
    raise ValueError(message)
