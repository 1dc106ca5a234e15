"""The socket that hands out a run's credentials, when more ask than it takes up at once."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cipipe.oidc import agent
from cipipe.tools.aws.credentials import Credentials

KEYS = Credentials("ASIAX", "secret", "token", datetime(2099, 1, 1, tzinfo=UTC))


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a") / "socket"


def test_a_full_queue_is_waited_for(path: Path) -> None:
    def serve() -> None:
        time.sleep(0.3)
        for _ in range(3):
            answering, _ = server.accept()
            with answering:
                answering.sendall(agent.document(KEYS).encode())

    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor() as pool:
        server.bind(str(path))
        server.listen(0)
        server.settimeout(10)
        serving = pool.submit(serve)
        asked = [pool.submit(agent.ask, path) for _ in range(3)]
        assert [json.loads(found.result(30))["AccessKeyId"] for found in asked] == ["ASIAX"] * 3
        serving.result(30)


def test_many_that_ask_at_once_are_all_answered(path: Path) -> None:
    together = threading.Barrier(64)

    def ask() -> str:
        together.wait(30)
        return agent.ask(path)

    with agent.serving(path, lambda: KEYS, print), ThreadPoolExecutor(64) as pool:
        asked = [pool.submit(ask) for _ in range(64)]
        assert {found.result(30) for found in asked} == {agent.document(KEYS)}
