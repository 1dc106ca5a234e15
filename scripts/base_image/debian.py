"""A small Debian with this machine's certificates, as a tar file for `docker import`.

debootstrap takes the packages from the mirror that this machine's apt uses.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from common import STATE, Unavailable, replace, say, search_path

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, kw_only=True)
class Debian:
    """A release of Debian, and what it has beyond the essential packages."""

    suite: str
    packages: tuple[str, ...]

    @property
    def tarball(self) -> Path:
        return STATE / f"base-image-{self.suite}.tar"


DEBIAN_12 = Debian(suite="bookworm", packages=("python3", "python3-venv", "ca-certificates"))
DEBIAN_13 = Debian(suite="trixie", packages=("ca-certificates",))


def recipe_digest(debian: Debian) -> str:
    """A digest of everything the image depends on: it changes when an image has to be rebuilt."""
    parts = [Path(__file__).read_bytes(), repr(debian).encode(), _pip_configuration().encode()]
    if _ca_bundle().exists():
        parts.append(_ca_bundle().read_bytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def ensure_tarball(debian: Debian, name: str) -> None:
    """Have the root file system in the tar file; `name` is the image's, for messages."""
    recipe = recipe_digest(debian)
    built_from = debian.tarball.with_suffix(".recipe")
    if debian.tarball.exists() and built_from.exists() and built_from.read_text() == recipe:
        return
    built_from.unlink(missing_ok=True)
    _bootstrap(debian, name)
    replace(built_from, recipe)


def _bootstrap(debian: Debian, name: str) -> None:
    debootstrap = shutil.which("debootstrap", path=search_path())
    if debootstrap is None or os.geteuid() != 0:
        raise Unavailable(
            "pull it, name another in BASE_IMAGE, "
            "or run as root on Debian with debootstrap installed"
        )

    mirror = _mirror()
    say(f"building {name} with debootstrap from {mirror or 'its default mirror'}")
    work = Path(tempfile.mkdtemp(prefix="base-image-", dir=STATE))
    try:
        rootfs = work / "rootfs"
        _run_debootstrap(debootstrap, debian, rootfs, mirror)
        _finish(rootfs)

        part = debian.tarball.with_suffix(".part")
        subprocess.run(
            ["tar", "--numeric-owner", "--one-file-system", "-C", rootfs, "-cf", part, "."],
            check=True,
        )
        part.replace(debian.tarball)
    finally:
        # Should a mount be left over in there, its contents are not ours to delete.
        subprocess.run(["rm", "-rf", "--one-file-system", work], check=False)


def _run_debootstrap(debootstrap: str, debian: Debian, rootfs: Path, mirror: str | None) -> None:
    command = [
        *_own_mounts(),
        debootstrap,
        "--variant=minbase",
        f"--include={','.join(debian.packages)}",
        debian.suite,
        str(rootfs),
    ]
    if mirror:
        command.append(mirror)

    log = STATE / "debootstrap.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **_apt_proxy(), "PATH": search_path(), "LC_ALL": "C"},
            umask=0o022,
            check=False,
        )
    if done.returncode:
        raise Unavailable(f"debootstrap failed; see .cipipe/{log.name}")


def _finish(rootfs: Path) -> None:
    """Remove what belongs to this machine, and add the settings that pip needs."""
    for leftover in ["etc/resolv.conf", "etc/hostname"]:
        (rootfs / leftover).unlink(missing_ok=True)
    for folder in ["var/cache/apt/archives", "var/lib/apt/lists"]:
        for file in (rootfs / folder).iterdir():
            if file.is_file():
                file.unlink()

    if _ca_bundle().exists():
        shutil.copyfile(_ca_bundle(), rootfs / CA_BUNDLE.lstrip("/"))
    (rootfs / "etc/pip.conf").write_text(_pip_configuration())


def _own_mounts() -> list[str]:
    """debootstrap mounts /proc. In a separate mount namespace, the mount disappears with it."""
    unshare = ["unshare", "--mount"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*unshare, "true"], check=False, capture_output=True)
    return unshare if tried.returncode == 0 else []


def _mirror() -> str | None:
    """The mirror that apt uses, if this is Debian; every mirror has every suite."""
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        return None

    command = ["apt-get", "indextargets", "--format", "$(COMPONENT) $(RELEASE) $(REPO_URI)"]
    listed = subprocess.run(
        [*command, "Created-By: Packages"], check=False, capture_output=True, text=True
    )
    for line in listed.stdout.splitlines():
        component, release, uri = line.split(maxsplit=2)
        # Not the security or the backports suite, and not a third party's repository.
        of_debian = urlsplit(uri).path.rstrip("/").endswith("debian")
        if component == "main" and release.isalpha() and of_debian:
            return uri.rstrip("/")
    return None


def _apt_proxy() -> dict[str, str]:
    """apt's proxy, if it has one: debootstrap reads it from the environment only."""
    command = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
    if shutil.which(command[0]) is None:
        return {}
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.match(r"proxy='(http.+)'", shown.stdout)
    return {"http_proxy": found[1]} if found else {}


def _ca_bundle() -> Path:
    return Path(os.environ.get("SSL_CERT_FILE") or CA_BUNDLE)


def _pip_configuration() -> str:
    """pip's settings on this machine that also work in an image: index addresses, trusted hosts."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    settings: dict[str, list[str]] = {}
    # Environment variables come last, because pip prefers them to files.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        values = value.strip("'").replace("\\n", " ").split()
        if name in {"index-url", "extra-index-url"}:
            settings[name] = [url for url in values if _works_anywhere(url)]
        elif name == "trusted-host":
            settings[name] = values

    lines = [f"{name} = {' '.join(values)}\n" for name, values in settings.items() if values]
    return "[global]\n" + "".join(lines)


def _works_anywhere(url: str) -> bool:
    """A file:// address would not exist in the image, and a password must not end up in it."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and not parts.username
