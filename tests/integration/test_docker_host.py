"""Docker daemons behind TLS, without it, or missing: each failure is reported as what it is."""

import contextlib
import os
import shutil
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.pipeline.doctor.base import Doubtful, Machine, Skipped
from cipipe.pipeline.doctor.docker import check_docker
from cipipe.redact import Redactor
from cipipe.tools.docker.client import Docker
from support.certificates import Authority


class _Daemon(BaseHTTPRequestHandler):
    """What a daemon says about itself."""

    def do_GET(self) -> None:
        body = (
            b'{"Version": "99.1", "ApiVersion": "1.44"}'
            if self.path.endswith("/version")
            else b"OK"
        )
        self.send_response(200)
        self.send_header("Api-Version", "1.44")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that do not get on with it."""


@contextlib.contextmanager
def serving(
    certificate: Path | None = None, ca: Path | None = None, port: int = 0
) -> Iterator[int]:
    """A daemon on a port of 127.0.0.1; with a `certificate` it speaks TLS, with a `ca` it wants
    clients to have one.
    """
    server = _Server(("127.0.0.1", port), _Daemon, bind_and_activate=False)
    server.allow_reuse_address = True
    server.server_bind()
    server.server_activate()
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "own")


def secured(port: int, folder: Path | None, **more: str) -> dict[str, str]:
    named = {"DOCKER_CERT_PATH": str(folder)} if folder else {}
    return {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", **named, **more}


def daemon(env: Mapping[str, str], lines: list[str] | None = None) -> Docker:
    return Docker(env, Redactor(), (lines if lines is not None else []).append, Interrupt())


def refused(env: Mapping[str, str], *, within: float = 3) -> StageError:
    """The error of waiting for the daemon, which may not take long."""
    started = time.monotonic()
    with pytest.raises(StageError) as caught:
        daemon(env).wait(60)
    assert time.monotonic() - started < within + 2  # two more, for a machine that is busy
    assert caught.value.hint
    return caught.value


def test_certificates_and_proxies_of_other_requests_are_not_used(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Authority(tmp_path / "company").folder / "ca.pem"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(bundle))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(authority.server(), authority.folder / "ca.pem") as port:
        reached = daemon(secured(port, authority.client()))
        reached.wait(5)
        assert reached.version() == "99.1"
    with serving() as port:
        reached = daemon({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
        reached.wait(5)
        assert reached.version() == "99.1"


def test_a_daemon_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with serving(other.server()) as port:
        error = refused(secured(port, authority.client()))
        assert error.id == "docker-tls-untrusted"
        assert (
            daemon(secured(port, authority.folder / "client", DOCKER_TLS_VERIFY="")).version()
            == "99.1"
        )


def test_a_certificate_for_another_host_or_time(authority: Authority) -> None:
    folder = authority.client()
    with serving(authority.server("127.0.0.2")) as port:
        assert "127.0.0.1" in refused(secured(port, folder)).message
    with serving(authority.server(valid_hours=-1)) as port:
        error = refused(secured(port, folder))
    assert (error.id, "expired" in error.message) == ("docker-tls-untrusted", True)


def test_a_client_that_the_daemon_does_not_know(authority: Authority, tmp_path: Path) -> None:
    folder, stranger = authority.client(), Authority(tmp_path / "other").client()
    for file in ("cert.pem", "key.pem"):
        shutil.copy(stranger / file, folder / file)
    with serving(authority.server(), authority.folder / "ca.pem") as port:
        assert refused(secured(port, folder)).id == "docker-tls-client-refused"
        error = doctor(secured(port, folder), StageError)
        assert error.message.endswith("; ca.pem did not issue cert.pem")


def test_one_certificate_is_missing(authority: Authority) -> None:
    folder = authority.client()
    (folder / "key.pem").unlink()
    error = refused(secured(1, folder), within=4)
    assert error.id == "docker-tls-settings"
    assert f"key.pem is not in {folder}" in error.message
    (folder / "ca.pem").unlink()
    assert (
        f"ca.pem and key.pem are not in {folder}" in doctor(secured(1, folder), StageError).message
    )


def test_tls_without_a_folder(tmp_path: Path) -> None:
    error = refused(secured(1, None, HOME=str(tmp_path)))
    assert error.id == "docker-tls-settings"
    assert "DOCKER_CERT_PATH is not set" in error.message


def test_certificates_that_are_written_later(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    with serving(authority.server(), authority.folder / "ca.pem") as port:
        later = threading.Timer(1, shutil.copytree, (authority.client(), folder))
        later.start()
        daemon(secured(port, folder)).wait(20)
        later.join()


def test_a_daemon_that_starts_later(authority: Authority) -> None:
    with serving() as port:
        pass
    lines: list[str] = []
    with contextlib.ExitStack() as stack:
        later = threading.Timer(1.5, lambda: stack.enter_context(serving(port=port)))
        later.start()
        daemon({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"}, lines).wait(20)
        later.join()
    assert lines == [f"waiting for the Docker daemon at tcp://127.0.0.1:{port}: connection refused"]


def test_no_daemon_after_all(tmp_path: Path) -> None:
    with serving() as port:
        pass
    for host in (
        f"tcp://127.0.0.1:{port}",
        f"unix://{tmp_path}/docker.sock",
        "tcp://daemon.invalid:2375",
    ):
        with pytest.raises(StageError) as caught:
            daemon({"DOCKER_HOST": host}).wait(1)
        assert caught.value.id == "docker-unreachable"
        assert host in caught.value.message


def test_keys_that_do_not_belong_together(authority: Authority) -> None:
    folder = authority.client()
    shutil.copy(authority.client("another") / "key.pem", folder)
    assert "key.pem is not the key of cert.pem" in refused(secured(1, folder)).message
    (folder / "cert.pem").write_text("no certificate")
    assert refused(secured(1, folder)).id == "docker-tls-settings"


def test_plain_http_to_a_port_with_tls(authority: Authority) -> None:
    with serving(authority.server(), authority.folder / "ca.pem") as port:
        assert refused({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"}).id == "docker-tls-needed"


def test_tls_to_a_port_without_it(authority: Authority) -> None:
    with serving() as port:
        assert refused(secured(port, authority.client())).id == "docker-tls-not-spoken"


def test_a_socket_of_somebody_else(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / "run"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "docker.sock"))
        listening.listen()
        folder.chmod(0)
        with somebody_else():
            error = refused({"DOCKER_HOST": f"unix://{folder}/docker.sock"})
        folder.chmod(0o700)
    assert error.id == "docker-permission"


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Root may do everything, so it becomes nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "host", ["tcp://127.0.0.1:port", "tcp://127.0.0.1:99999", "tcp://[::1", "/var/run/docker.sock"]
)
def test_an_address_that_is_none(host: str) -> None:
    assert refused({"DOCKER_HOST": host}).id == "docker-host"


def doctor(env: Mapping[str, str], raised: Any = None, *, offline: bool = False) -> Any:
    def examined() -> str:
        tools = frozenset({"docker"})
        machine = Machine(env=env, redactor=Redactor(), interrupt=Interrupt(), offline=offline)
        return check_docker(machine, tools)

    if raised is None:
        return examined()
    with pytest.raises(raised) as caught:
        examined()
    return caught.value


def test_doctor_looks_at_the_settings(authority: Authority, tmp_path: Path) -> None:
    folder = authority.client()
    with serving(authority.server(), authority.folder / "ca.pem") as port:
        nowhere = secured(port, folder, PATH=str(tmp_path))
        assert doctor(nowhere).startswith(
            f"99.1 at tcp://127.0.0.1:{port}, builds with the classic"
        )
        assert (
            doctor(secured(port, authority.folder / "nothing"), StageError).id
            == "docker-tls-settings"
        )
        assert (
            doctor({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"}, StageError).id == "docker-tls-needed"
        )
        expired = authority.client("expired", valid_hours=-1)
        assert "cert.pem" in (error := doctor(secured(port, expired), StageError)).message
        assert (error.id, "expired on" in error.message) == ("docker-tls-settings", True)
    assert doctor(secured(port, folder), StageError).id == "docker-unreachable"
    assert (
        doctor(secured(1, None, HOME=str(tmp_path)), StageError, offline=True).id
        == "docker-tls-settings"
    )


def test_doctor_doubts_ports(authority: Authority) -> None:
    folder = authority.client()
    assert "without TLS" in str(doctor(secured(2375, folder), Doubtful, offline=True))
    assert "with TLS" in str(doctor({"DOCKER_HOST": "tcp://docker:2376"}, Doubtful, offline=True))
    assert "--offline does not contact" in str(doctor(secured(2376, folder), Skipped, offline=True))
