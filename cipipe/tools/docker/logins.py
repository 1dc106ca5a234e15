"""Logins for the `docker` command, in a configuration of its own that is deleted after the build.

https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Login(msgspec.Struct, frozen=True):
    """A login at a registry."""

    # HOST or HOST:PORT
    host: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.host!r}, {self.username!r})"


def write_config(folder: Path, logins: tuple[Login, ...], env: Mapping[str, str]) -> Path:
    """Write a copy of the user's configuration with these logins into an empty private folder.

    Plugins, contexts and builders of the user's stay reachable. Returns
    the folder, for DOCKER_CONFIG.
    """
    users = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME", "/nonexistent"), ".docker"))
    document: dict[str, Any] = {}
    if users.is_dir():
        document = _read(users / "config.json")
        for entry in users.iterdir():
            if entry.name != "config.json":
                (folder / entry.name).symlink_to(entry.resolve())

    auths = dict(document.get("auths") or {})
    helpers = dict(document.get("credHelpers") or {})
    for login in logins:
        pair = f"{login.username}:{login.password}".encode()
        auths[login.host] = {"auth": base64.b64encode(pair).decode()}
        # Without this, a `credsStore` would be asked instead.
        helpers[login.host] = ""
    document |= {"auths": auths, "credHelpers": helpers}

    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(document))
    return folder


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
        # The docker command itself says what is wrong with it.
        return {}
    return document if isinstance(document, dict) else {}
