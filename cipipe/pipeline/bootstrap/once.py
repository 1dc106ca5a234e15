"""The bootstrap of a sandbox's account, which is repeated only when something in it has changed."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe.pipeline.bootstrap.account import bootstrap
from cipipe.pipeline.bootstrap.root import chosen
from cipipe.pipeline.session import Session, Silent

if TYPE_CHECKING:
    from cipipe.config import Config


def bootstrap_once(
    session: Session, *, marker: Path, started_at: str, enforced: bool = False
) -> None:
    """Bootstrap the environment's account, unless `marker` says that this
    bootstrap was done.

    `started_at` identifies the sandbox: a new one has an empty account.
    `enforced`: the sandbox enforces permissions.
    """
    if session.target is None or "terraform" in session.target.missing:
        return
    root = chosen(session.project, session.detail)
    config = session.project.config
    digest = bootstrap_digest(config, root, started_at=started_at, enforced=enforced)
    if marker.is_file() and marker.read_text() == digest:
        return

    name = session.environment_name
    session.say(f"bootstrapping the account of {name}: bucket, OIDC providers, roles")
    # What Terraform prints is of interest only where it fails, and doubts
    # about the trust policy are of none: everything in the sandbox is this
    # machine's.
    quiet = msgspec.structs.replace(session, say=session.detail, progress=Silent())
    outputs = bootstrap(quiet)
    _write(marker, digest)
    session.say(f"bootstrapped: this project's tokens may assume {outputs['deploy_role_arn']}")


def bootstrap_digest(
    config: "Config", root: Path, *, started_at: str, enforced: bool = False
) -> str:
    """A digest of everything that a bootstrap is made from. Stages change permissions only, so
    they count where the sandbox enforces those.

    A view of one environment has the digest of its whole configuration.
    """
    whole = config.whole or config
    counted = whole if enforced else msgspec.structs.replace(whole, stages={})
    total = hashlib.sha256(f"{started_at} {counted}".encode())
    for file in sorted(root.glob("*.tf")):
        total.update(file.read_bytes())
    return total.hexdigest()


def _write(marker: Path, text: str) -> None:
    """Write a file that only its owner can read, whatever the umask."""
    marker.unlink(missing_ok=True)
    with os.fdopen(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
