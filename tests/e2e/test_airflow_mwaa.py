"""What a real Airflow makes of the bucket, asked through MWAA's API: the stage succeeds, fails, or
warns as it says.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.tools import ROOT, VENVS, require

sys.path.insert(0, str(ROOT / "tests/integration"))

from cipipe.model import Output
from cipipe.pace import Pace
from cipipe.stages.dags.checks import airflow_probe
from cipipe.stages.dags.mwaa import confirm
from support import servers
from support.mwaa import NAME, Mwaa
from support.shop import BUCKET, CONFIG, OUTPUTS, Cli, Shop

GOOD = (
    'from airflow import DAG\nCLUSTER = "local"  # cipipe: cluster\n'
    'with DAG("etl", schedule=None, tags=[CLUSTER]):\n    pass\n'
)
BROKEN = (
    'from airflow import DAG\nCLUSTER = "local"  # cipipe: cluster\n'
    'assert CLUSTER == "local", f"not {CLUSTER}"\nDAG("etl")\n'
)
THEIRS = b'from airflow import DAG\nimport nothing.of_the_kind\nDAG("theirs")\n'


class Airflow:
    """Airflow's REST API, as far as it is asked: each time, a real Airflow reads what is in the
    bucket.
    """

    def __init__(self, shop: Shop, python: Path, folder: Path) -> None:
        self._shop, self._python, self._folder = shop, python, folder
        self._seen: dict[str, bytes] = {}
        self._read: list[dict[str, Any]] = []

    def rest(self, path: str) -> dict[str, Any]:
        bodies = self._shop.bodies()
        if bodies != self._seen:
            self._seen, self._read = bodies, self._reading(bodies)
        now = datetime.now(UTC).isoformat()
        if path == "/dags":
            dags = [
                {"dag_id": name, "last_parsed_time": now}
                for found in self._read
                for name in found["dags"]
            ]
            return {"dags": dags, "total_entries": len(dags)}
        errors = [
            {"filename": self._as_mwaa(found["file"]), "stack_trace": text, "timestamp": now}
            for found in self._read
            for text in found["errors"]
        ]
        return {"import_errors": errors, "total_entries": len(errors)}

    def _reading(self, bodies: dict[str, bytes]) -> list[dict[str, Any]]:
        for key, body in bodies.items():
            file = self._folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        answers = self._folder / "answers"
        answers.unlink(missing_ok=True)
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(self._folder / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        argv = [
            str(self._python),
            airflow_probe.__file__,
            str(self._folder / "dags"),
            str(answers),
            "60",
        ]
        subprocess.run(argv, env=env, check=True, capture_output=True)
        reported = [json.loads(line) for line in answers.read_text().splitlines()]
        return [found for found in reported if "dags" in found]

    def _as_mwaa(self, file: str) -> str:
        return confirm.DAGS_FOLDER + str(Path(file).relative_to(self._folder / "dags"))


@pytest.fixture
def service() -> Mwaa:
    return Mwaa()


@pytest.fixture(params=["2", "3"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, service: Mwaa, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    python = require(
        VENVS / f"airflow-{request.param}/bin/python", f"Airflow {request.param} behind MWAA's API"
    )
    with servers.wsgi(service) as url:
        made = Shop(tmp_path / "shop", url)
        made.commit(
            {
                "cipipe.toml": CONFIG + 'mwaa_environment = { output = "environment" }\n',
                "dags/a.py": GOOD,
            }
        )
        made.apply(**OUTPUTS, environment=Output(value=NAME))
        service.rest = Airflow(made, python, tmp_path / "airflow").rest
        yield made


def test_what_airflow_says_decides(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    cipipe = Cli(shop, monkeypatch, capsys)
    cipipe.pace = Pace(mwaa_poll=0.1, mwaa_sync=0.0)
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "Airflow has read all 1 DAGs" in cipipe.err
    shop.aws.bucket(BUCKET).put("dags/theirs.py", THEIRS)
    shop.commit({"dags/a.py": BROKEN})
    assert cipipe("dags", "deploy") == 4
    assert "[dags-import-error]" in cipipe.err
    assert "AssertionError: not prod" in cipipe.err
    assert cipipe("dags", "rollback") == 0, cipipe.err
    assert "cannot import theirs.py, which is not of this deployment" in cipipe.err
    assert "Airflow has read all 1 DAGs" in cipipe.err
