"""Requirements and plugins for MWAA, and whether its Airflow imported the DAGs."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.model import Output, State
from cipipe.pace import Pace
from cipipe.stages.dags.mwaa import environment as mwaa
from support import servers
from support.mwaa import NAME, Mwaa, Refused
from support.shop import BUCKET, CONFIG, DAG, OUTPUTS, Cli, Shop

MORE = """\
requirements = "dags/requirements.txt"
plugins = "plugins"
mwaa_environment = { output = "environment", default = "" }
confirm_timeout = 1
"""
FILES = {
    "dags/requirements.txt": "pandas==2.2.0\n",
    "plugins/a.py": "A = 1\n",
    "plugins/pkg/b.py": "B = 1\n",
    "plugins/__pycache__/a.pyc": "x",
    "dags/a.py": DAG.format("a") + 'DAG("etl")\n',
}


@pytest.fixture(scope="module")
def service() -> Mwaa:
    return Mwaa()


@pytest.fixture(scope="module")
def server(service: Mwaa) -> Iterator[str]:
    with servers.wsgi(service) as url:
        yield url


@pytest.fixture
def shop(tmp_path: Path, server: str, service: Mwaa) -> Shop:
    service.fresh()
    service.rest = Airflow().rest
    made = Shop(tmp_path / "shop", server)
    paths = 'paths = ["dags/**", "plugins/**"]\n'
    made.commit({"cipipe.toml": CONFIG.replace('paths = ["dags/**"]\n', paths) + MORE, **FILES})
    made.apply(**OUTPUTS, environment=Output(value=NAME))
    return made


@pytest.fixture
def cipipe(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    made = Cli(shop, monkeypatch, capsys)
    made.pace = Pace(mwaa_poll=0.01, mwaa_sync=0.0)
    return made


class Airflow:
    """What Airflow answers: DAGs by id, and errors by file; all from just now, by default."""

    def __init__(self, *dags: str, **errors: str) -> None:
        self.dags = dags or ("etl",)
        self.errors = errors
        self.ago = timedelta(0)

    def rest(self, path: str) -> dict[str, Any]:
        now = (datetime.now(UTC) - self.ago).isoformat()
        if path == "/importErrors":
            errors = [
                {
                    "filename": f"/usr/local/airflow/dags/{name}.py",
                    "stack_trace": text,
                    "timestamp": now,
                }
                for name, text in self.errors.items()
            ]
            return {"import_errors": errors, "total_entries": len(errors)}
        return {
            "dags": [{"dag_id": d, "last_parsed_time": now} for d in self.dags],
            "total_entries": len(self.dags),
        }


def test_what_changed_is_installed_before_any_dag_is_uploaded(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    seen: list[set[str]] = []
    original = service._environment

    def noting(environ: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        seen.append(set(shop.aws.bucket(BUCKET).keys("")))
        return original(environ, body)

    # The bucket at the moment of the update is what counts.
    service._environment = noting  # type: ignore[method-assign]
    try:
        assert cipipe("dags", "deploy") == 0, cipipe.err
    finally:
        del service._environment
    (update,) = service.updates
    manifest = shop.record().data["manifest"]
    assert update == {
        "WorkerReplacementStrategy": "GRACEFUL",
        "RequirementsS3Path": "requirements.txt",
        "RequirementsS3ObjectVersion": manifest["requirements.txt"]["version"],
        "PluginsS3Path": "plugins.zip",
        "PluginsS3ObjectVersion": manifest["plugins.zip"]["version"],
    }
    assert seen[0] == set(), "the question where it reads DAGs"
    assert seen[1] == seen[2] == {"requirements.txt", "plugins.zip"}
    assert set(shop.bodies()) == {"requirements.txt", "plugins.zip", "dags/a.py", "dags/helper.py"}
    assert "Airflow has read all 1 DAGs" in cipipe.err


def test_unchanged_requirements_make_no_update(shop: Shop, cipipe: Cli, service: Mwaa) -> None:
    cipipe("dags", "deploy")
    looks = service.looks
    shop.commit({"dags/helper.py": "# 2"})
    assert cipipe("run", "dags") == 0, cipipe.err
    assert len(service.updates) == 1
    assert cipipe("dags", "deploy") == 0
    # The run that uploads asks if it is up to date, and, twice, where it reads DAGs.
    assert service.looks == looks + 3
    shop.commit({"plugins/a.py": "A = 2"})
    assert cipipe("run", "dags") == 0, cipipe.err
    assert len(service.updates) == 2
    assert (
        service.updates[0]["RequirementsS3ObjectVersion"]
        == service.updates[1]["RequirementsS3ObjectVersion"]
    )
    assert (
        service.updates[0]["PluginsS3ObjectVersion"] != service.updates[1]["PluginsS3ObjectVersion"]
    )


def test_an_update_that_fails_keeps_the_dags_back(shop: Shop, cipipe: Cli, service: Mwaa) -> None:
    service.error = {"ErrorCode": "INCORRECT_CONFIGURATION", "ErrorMessage": "pip could not"}
    assert cipipe("dags", "deploy") == 4
    assert "[dags-mwaa-update-failed]" in cipipe.err
    assert "INCORRECT_CONFIGURATION: pip could not" in cipipe.err
    assert set(shop.bodies()) == {"requirements.txt", "plugins.zip"}
    assert shop.record().state is State.FAILED
    service.error = None
    assert cipipe("run", "dags") == 0, cipipe.err
    assert len(service.updates) == 2
    assert "dags/a.py" in shop.bodies()


@pytest.mark.parametrize("status", ["UPDATE_FAILED", "UNAVAILABLE", "DELETING"])
def test_only_an_available_environment_is_updated(
    shop: Shop, cipipe: Cli, service: Mwaa, status: str
) -> None:
    service.environment["Status"] = status
    assert cipipe("dags", "deploy") == 4
    assert "[dags-mwaa-unavailable]" in cipipe.err
    assert service.updates == []


def test_somebody_elses_update_is_waited_for(shop: Shop, cipipe: Cli, service: Mwaa) -> None:
    service.script = ["UPDATING", "CREATING_SNAPSHOT", "UPDATING", "AVAILABLE"]
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert len(service.updates) == 1


def test_an_update_that_was_started_before_is_not_requested_twice(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    service.after_update = ["UPDATING"] * 1000
    usual = cipipe.pace
    cipipe.pace = msgspec.structs.replace(usual, mwaa_update=0.05)
    assert cipipe("dags", "deploy") == 4
    assert "[dags-mwaa-timeout]" in cipipe.err
    service.script = ["UPDATING", "AVAILABLE"]
    cipipe.pace = usual
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert len(service.updates) == 1


@pytest.mark.parametrize(
    "null",
    [{"environment": Output(value=None)}, {}],
    ids=["null", "left out, as Terraform does with null"],
)
def test_a_null_output_means_no_environment(
    shop: Shop, cipipe: Cli, service: Mwaa, null: dict[str, Output]
) -> None:
    shop.apply(**OUTPUTS, **null)
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "there is no MWAA environment: nothing to install into" in cipipe.err
    assert "there is no MWAA environment: nothing to ask" in cipipe.err
    assert service.updates == []
    assert service.asked == []
    assert "requirements.txt" in shop.bodies()
    assert cipipe.json("dags", "deploy")["stages"][0]["result"] == "unchanged"


def test_a_rollback_restores_the_requirements_too(shop: Shop, cipipe: Cli, service: Mwaa) -> None:
    cipipe("dags", "deploy")
    before = shop.bodies()
    shop.commit({"dags/requirements.txt": "pandas==3\n", "dags/helper.py": "# 2"})
    assert cipipe("run", "dags") == 0, cipipe.err
    assert cipipe("dags", "rollback") == 0, cipipe.err
    assert shop.bodies() == before
    assert len(service.updates) == 3
    version = shop.record().data["manifest"]["requirements.txt"]["version"]
    assert service.environment["RequirementsS3ObjectVersion"] == version


def test_the_archive_is_the_same_whatever_the_files_on_disk_look_like(
    shop: Shop, cipipe: Cli
) -> None:
    import io
    import zipfile

    cipipe("dags", "deploy")
    first = shop.bodies()["plugins.zip"]
    with zipfile.ZipFile(io.BytesIO(first)) as found:
        assert found.namelist() == ["a.py", "pkg/b.py"]
        assert found.read("pkg/b.py") == b"B = 1\n"
    for file in ("plugins/a.py", "plugins/pkg/b.py"):
        (shop.repo.root / file).touch()
    assert cipipe.json("dags", "deploy")["stages"][0]["result"] == "unchanged"


def test_what_is_not_in_the_commit_is_reported(shop: Shop, cipipe: Cli) -> None:
    shop.commit({"dags/requirements.txt": None, "plugins/a.py": None, "plugins/pkg/b.py": None})
    assert cipipe("dags", "diff") == 4
    assert cipipe.err.count("(dags-extra-missing)") == 2


@pytest.mark.parametrize(
    ("folder", "warned"), [("dags", False), ("/dags/", False), ("other/dags", True), ("dag", True)]
)
def test_files_that_mwaa_does_not_read_are_a_warning(
    shop: Shop, cipipe: Cli, service: Mwaa, folder: str, warned: bool
) -> None:
    service.environment["DagS3Path"] = folder
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert ("these are uploaded to dags/: it will not see them" in cipipe.err) is warned
    assert "dags/a.py" in shop.bodies()


@pytest.mark.parametrize(
    ("prefix", "folder", "below"),
    [
        ("dags/", None, ""),
        ("dags/team/", None, "team/"),
        ("", None, ""),
        ("dags/team/", "dags/", "team/"),
        ("shared/dags/team/", "shared/dags/", "team/"),
        ("shared/dags/", "shared/dags/", ""),
        ("dags/", "", "dags/"),
        ("other/", "dags/", ""),
    ],
)
def test_what_is_below_the_folder_for_imports(prefix: str, folder: str | None, below: str) -> None:
    assert mwaa.placed(prefix, folder)[0] == below


# --- afterwards ----------------------------------------------------------------------------------


def test_an_import_error_in_our_file_fails_the_stage_with_its_text(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    service.rest = Airflow(a="Traceback\nImportError: no pandas").rest
    assert cipipe("dags", "deploy") == 4
    assert "[dags-import-error]" in cipipe.err
    assert "ImportError: no pandas" in cipipe.err
    assert shop.record().state is State.FAILED
    assert cipipe("run", "dags") == 4, "it stays failed while Airflow says so"
    service.rest = Airflow().rest
    assert cipipe("run", "dags") == 0, cipipe.err


def test_an_error_from_before_the_upload_is_the_old_files(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    airflow = Airflow(a="ImportError: the old one")
    airflow.ago = timedelta(minutes=1)
    service.rest = airflow.rest
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "unconfirmed: Airflow has not read etl after 1 s" in cipipe.err


def test_an_error_in_somebody_elses_file_is_a_warning(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    service.rest = Airflow(**{"team/theirs": "Traceback\nImportError: theirs"}).rest
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert (
        cipipe.err.count(
            "cannot import team/theirs.py, which is not of this deployment: ImportError: theirs"
        )
        == 1
    )


def test_a_dag_that_is_not_there_in_time_is_unconfirmed(
    shop: Shop, cipipe: Cli, service: Mwaa
) -> None:
    service.rest = Airflow("other").rest
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "unconfirmed: Airflow has not read etl after 1 s" in cipipe.err


@pytest.mark.parametrize(
    "refused",
    [
        Refused(403, "AccessDeniedException", "not you"),
        Refused(400, "RestApiClientException", "no such user"),
        Refused(404, "ResourceNotFoundException", "no such environment"),
    ],
)
def test_an_airflow_that_cannot_be_asked_is_unconfirmed(
    shop: Shop, cipipe: Cli, service: Mwaa, refused: Refused
) -> None:
    def refuse(path: str) -> dict[str, Any]:
        raise refused

    service.rest = refuse
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "unconfirmed: Airflow cannot be asked" in cipipe.err
    assert shop.record().state is State.DEPLOYED
