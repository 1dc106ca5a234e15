"""Terraform from HashiCorp's releases, or from a mirror of them, in the
version that cipipe is tested with. A file counts only with the checksum here.
"""

import hashlib
import io
import platform
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cipipe.errors import StageError, UsageError
from cipipe.tools import http
from cipipe.tools.terraform import commands

VERSION = "1.11.4"
MIRROR = "https://releases.hashicorp.com"
MIRROR_VARIABLE = "TERRAFORM_MIRROR"

# SHA-256 of each platform's archive, as the release's SHA256SUMS says.
CHECKSUMS: Mapping[str, str] = {
    "darwin_amd64": "a56d5002b9f7647291faccc3dd1a70350e60fb61e4c45037629508b8fdc2575b",
    "darwin_arm64": "867e0808fa971217043e25b7a792b10720c79b1546f8a68479b74f138be73e18",
    "linux_amd64": "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc",
    "linux_arm64": "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633",
}

# Seconds to wait for each piece of the archive.
_TIMEOUT = 60.0
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Release(msgspec.Struct, frozen=True):
    """A version of Terraform: the SHA-256 of its archives by their platform."""

    version: str = VERSION
    checksums: Mapping[str, str] = msgspec.field(default_factory=lambda: CHECKSUMS)


def install(folder: Path, env: Mapping[str, str], release: Release | None = None) -> Path:
    """Install Terraform as `folder/terraform`, whole or not at all, and return that path.

    Nothing is downloaded if that version is there already. Raises StageError if this platform has
    no release, if the download fails, or if what was downloaded has another checksum.
    `TERRAFORM_MIRROR` in `env` names another server with the paths of releases.hashicorp.com.
    """
    release = release or Release()
    wanted = folder / "terraform"
    if wanted.exists() and _is(wanted, release.version, env):
        return wanted
    program = _program(release, env.get(MIRROR_VARIABLE) or MIRROR)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / ".terraform.new"
        made.write_bytes(program)
        made.chmod(0o755)
        return made.replace(wanted)
    except OSError as error:
        raise StageError(
            "terraform-not-installed",
            f"Terraform cannot be written to {folder}: {error.strerror}",
            hint="Pass a folder that you may write to.",
            where=str(folder),
        ) from error


def _is(program: Path, version: str, env: Mapping[str, str]) -> bool:
    """Whether this is Terraform in that version; False for what cannot be started."""
    try:
        return commands.version(env, str(program.absolute())) == version
    except (StageError, UsageError):
        return False


def _program(release: Release, mirror: str) -> bytes:
    system, machine = platform.system().lower(), platform.machine().lower()
    name = f"{system}_{_MACHINES.get(machine, machine)}"
    if name not in release.checksums:
        raise StageError(
            "terraform-not-installed",
            f"Terraform {release.version} has no known release for {name}",
            hint="Install Terraform yourself: https://developer.hashicorp.com/terraform/install",
        )

    file = f"terraform_{release.version}_{name}.zip"
    url = f"{mirror.rstrip('/')}/terraform/{release.version}/{file}"
    body = _downloaded(url)
    found = hashlib.sha256(body).hexdigest()
    if found != release.checksums[name]:
        raise StageError(
            "terraform-not-installed",
            f"the download has the SHA-256 {found}, not {release.checksums[name]}",
            hint="Find out what the server delivers instead, such as a proxy's page.",
            where=url,
        )
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return archive.read("terraform")


def _downloaded(url: str) -> bytes:
    answer = http.request("GET", url, timeout=_TIMEOUT)
    if answer.status != 200:
        raise StageError(
            "terraform-not-installed",
            f"the server answered {answer.status}",
            hint=f"The variable {MIRROR_VARIABLE} can name a server that has it.",
            where=url,
        )
    return answer.body
