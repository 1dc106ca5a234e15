"""Certificates for servers on this machine, and for their clients."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(folder: Path, *hosts: str) -> Path:
    """A key and a self-signed certificate for 127.0.0.1 and these host names."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    *(x509.DNSName(host) for host in hosts),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file = folder / "both.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


class Authority:
    """A CA that issues certificates for a Docker daemon on 127.0.0.1 and its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(folder.name)
        self._made = self._signed(self._key, self._name, ca=True)
        (folder / "ca.pem").write_bytes(_pem(self._made))

    def server(self, host: str = "127.0.0.1", *, valid_hours: float = 1) -> Path:
        """A file with a key and a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self.folder / f"server-{host}.pem"
        file.write_bytes(
            _key(key)
            + _pem(self._signed(key, _named("daemon"), host=host, valid_hours=valid_hours))
        )
        return file

    def client(self, name: str = "client", *, valid_hours: float = 1) -> Path:
        """A folder for `DOCKER_CERT_PATH`."""
        key = ec.generate_private_key(ec.SECP256R1())
        folder = self.folder / name
        folder.mkdir()
        (folder / "ca.pem").write_bytes(_pem(self._made))
        (folder / "cert.pem").write_bytes(
            _pem(self._signed(key, _named(name), valid_hours=valid_hours))
        )
        (folder / "key.pem").write_bytes(_key(key))
        return folder

    def _signed(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: x509.Name,
        *,
        ca: bool = False,
        host: str | None = None,
        valid_hours: float = 1,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=2))
            .not_valid_after(now + dt.timedelta(hours=valid_hours))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if host is not None:
            names = [x509.IPAddress(ipaddress.ip_address(host))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
