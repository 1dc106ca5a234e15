"""Fixtures of the tests that call `cipipe` in this process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.interrupt import Interrupt
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.s3 import Bucket
from support.dags_world import DagsWorld
from support.environment import FOREIGN
from support.oidc_command import OidcCommand
from support.scripted import ScriptedServer, serving
from support.shop import Cli, Shop


@pytest.fixture
def shop(tmp_path: Path, moto_server: str) -> Shop:
    return Shop(tmp_path / "shop", moto_server)


@pytest.fixture
def cipipe(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    # A run sets handlers for signals, and this process has its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return Cli(shop, monkeypatch, capsys)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> DagsWorld:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return DagsWorld(tmp_path / "repo", endpoint)


@pytest.fixture
def oidc(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> OidcCommand:
    """In an empty folder, with no variable of AWS or of a pipeline."""
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return OidcCommand(capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A server with prepared answers. Waits between attempts take no time."""
    monkeypatch.setattr(Interrupt, "sleep", lambda *_: None)
    with serving() as made:
        yield made


@pytest.fixture
def bucket(server: ScriptedServer) -> Bucket:
    """A bucket at the server with prepared answers."""
    keys = Credentials("AKIDEXAMPLE", "secret")
    return Aws(Endpoint("eu-central-1", server.url), keys, account="123456789012").bucket("box")
