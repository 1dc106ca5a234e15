"""Which certificates are trusted: the configured ones, else the system's, else certifi's."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from cipipe.errors import UsageError

if TYPE_CHECKING:
    import ssl


@functools.cache
def trust(ca_bundle: str | None) -> "ssl.SSLContext":
    """A TLS context that trusts the certificates in a PEM file, or the
    default ones.

    Cached, because reading the system's certificates takes some 20 ms.
    Raises UsageError when the file cannot be read.
    """
    import ssl

    if ca_bundle is None:
        system = ssl.get_default_verify_paths()
        has_folder = bool(system.capath and any(Path(system.capath).iterdir()))
        if not system.cafile and not has_folder:
            # A slim container image without the ca-certificates package.
            import certifi

            ca_bundle = certifi.where()

    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        # A file without a certificate raises ssl.SSLError, which is an
        # OSError.
        raise no_certificates(ca_bundle or "", error.strerror or str(error)) from None


def no_certificates(path: str, why: str) -> UsageError:
    """The error for a CA bundle that cannot be used."""
    return UsageError(
        "usage",
        f"the trusted certificates cannot be read from {path}: {why}",
        hint="Set AWS_CA_BUNDLE to a file of certificates in PEM form.",
        where="AWS_CA_BUNDLE",
    )
