"""Install Terraform into a folder, if its download has the checksum in `terraform.sha256`.

    python3 scripts/install_terraform.py FOLDER

The download comes from HashiCorp, or from the server that TERRAFORM_MIRROR names, which has the
same paths: `TERRAFORM_MIRROR/terraform/VERSION/terraform_VERSION_PLATFORM.zip`. Nothing but the
standard library is needed.
"""

import argparse
import hashlib
import io
import os
import platform
import sys
import urllib.request
import zipfile
from pathlib import Path

MIRROR = "https://releases.hashicorp.com"
MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def wanted(sums: str) -> tuple[str, str]:
    """The file for this machine, and its SHA-256 in hex. Exits where there is none."""
    machine = platform.machine().lower()
    ending = f"_{platform.system().lower()}_{MACHINES.get(machine, machine)}.zip"
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        if name.endswith(ending):
            return name, digest
    sys.exit(f"no Terraform is known for {platform.system()} on {machine}")


def downloaded(name: str, digest: str) -> bytes:
    """The file's bytes. Exits where it cannot be fetched or has another checksum."""
    version = name.split("_")[1]
    mirror = os.environ.get("TERRAFORM_MIRROR") or MIRROR
    url = f"{mirror.rstrip('/')}/terraform/{version}/{name}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  (its checksum is known)
            body = bytes(answer.read())
    except (OSError, ValueError) as error:
        sys.exit(f"cannot fetch {url}: {error}; TERRAFORM_MIRROR may name another server")
    found = hashlib.sha256(body).hexdigest()
    if found != digest:
        sys.exit(f"{url} has the SHA-256 {found} and not {digest}: it was not installed")
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sums", type=Path, default=Path(__file__).with_name("terraform.sha256"))
    options = parser.parse_args()

    name, digest = wanted(options.sums.read_text())
    body = downloaded(name, digest)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        program = archive.read("terraform")

    # Whole or not at all, also when this is killed.
    options.folder.mkdir(parents=True, exist_ok=True)
    made = options.folder / ".terraform.new"
    made.write_bytes(program)
    made.chmod(0o755)
    made.replace(options.folder / "terraform")


if __name__ == "__main__":
    main()
