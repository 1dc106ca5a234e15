"""`cipipe iac install`, from a server on loopback."""

import hashlib
import http.server
import io
import platform
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cipipe.errors import CipipeError, StageError
from cipipe.tools.terraform.setup import installing
from cipipe.tools.terraform.setup.installing import Release

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MACHINE = MACHINES.get(platform.machine(), platform.machine())
PLATFORM = f"{platform.system().lower()}_{MACHINE}"
FILE = f"terraform/9.9.9/terraform_9.9.9_{PLATFORM}.zip"
PROGRAM = b"#!/bin/sh\necho Terraform v9.9.9\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Mirror:
    """A server with one release."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self.file.parent.mkdir(parents=True)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("terraform", PROGRAM)
        self.file.write_bytes(archive.getvalue())
        digest = hashlib.sha256(archive.getvalue()).hexdigest()
        self.release = Release("9.9.9", {PLATFORM: digest})
        self.url = ""

    def install(self, folder: Path) -> Path:
        return installing.install(folder, {"TERRAFORM_MIRROR": self.url}, self.release)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    made = Mirror(tmp_path / "served")
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_port}/"
        yield made
        server.shutdown()


def test_it_installs_what_has_the_checksum(tmp_path: Path, mirror: Mirror) -> None:
    assert mirror.install(tmp_path / "bin") == tmp_path / "bin/terraform"
    shown = subprocess.run([tmp_path / "bin/terraform"], capture_output=True, check=True)
    assert shown.stdout == b"Terraform v9.9.9\n"
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["terraform"]


def test_what_is_there_already_is_kept(tmp_path: Path, mirror: Mirror) -> None:
    program = mirror.install(tmp_path / "bin")
    program.write_text('#!/bin/sh\necho \'{"terraform_version": "9.9.9"}\'\n')
    mirror.file.unlink()
    assert mirror.install(tmp_path / "bin") == program

    for other in (
        '#!/bin/sh\necho \'{"terraform_version": "9.9.8"}\'\n',
        "#!/bin/sh\nexit 1\n",
        "",
    ):
        program.write_text(other)
        with pytest.raises(StageError, match="answered 404"):
            mirror.install(tmp_path / "bin")


def test_another_checksum(tmp_path: Path, mirror: Mirror) -> None:
    mirror.file.write_bytes(mirror.file.read_bytes() + b"\0")
    with pytest.raises(StageError, match="the download has the SHA-256") as raised:
        mirror.install(tmp_path / "bin")
    assert raised.value.id == "terraform-not-installed"
    assert not (tmp_path / "bin").exists()


def test_no_such_file_and_no_server(tmp_path: Path, mirror: Mirror) -> None:
    mirror.file.unlink()
    with pytest.raises(StageError, match="the server answered 404") as raised:
        mirror.install(tmp_path / "bin")
    assert "TERRAFORM_MIRROR" in str(raised.value.hint)
    mirror.url = "http://127.0.0.1:9"
    with pytest.raises(CipipeError) as unreachable:
        mirror.install(tmp_path / "bin")
    assert unreachable.value.id == "http-failed"
    assert not (tmp_path / "bin").exists()


def test_a_platform_without_a_release(tmp_path: Path, mirror: Mirror) -> None:
    mirror.release = Release("9.9.9", {"plan9_mips": "0" * 64})
    with pytest.raises(StageError, match=f"no known release for {PLATFORM}"):
        mirror.install(tmp_path / "bin")


def test_a_folder_that_cannot_be_written(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "bin").write_text("a file")
    with pytest.raises(StageError, match="cannot be written to"):
        mirror.install(tmp_path / "bin")


def test_the_checksums() -> None:
    platforms = {"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"}
    assert set(installing.CHECKSUMS) == platforms
    assert {len(bytes.fromhex(digest)) for digest in installing.CHECKSUMS.values()} == {32}
