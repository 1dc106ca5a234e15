"""`cipipe dags check`: a folder on disk, without outputs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cipipe.cli import group
from cipipe.cli.console import Console
from cipipe.errors import ProblemsError, RefusedError, UsageError
from cipipe.stages.dags.local_check import check_folder

DAG = 'from airflow import DAG\nCLUSTER = "local"  # cipipe: cluster\nDAG("{}")\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "a.py").write_text(DAG.format("a"))
    (folder / "query.sql").write_text("select 1\n")
    return folder


def ids(source: Path, **options: str) -> list[str]:
    with pytest.raises(ProblemsError) as caught:
        check_folder(source, **options)
    return [problem.id for problem in caught.value.problems]


def test_a_folder_that_can_be_deployed(source: Path) -> None:
    before = (source / "a.py").read_bytes()
    found = check_folder(source)
    # That the output is not known is no news here.
    assert (found.files, found.warnings) == (2, ())
    assert (source / "a.py").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "id"),
    [
        (DAG.format("b").replace("cipipe: cluster", "cipipe: a b"), "dag-marker-syntax"),
        (DAG.format("b").replace('"local"', "None"), "dag-default-none"),
        (DAG.format("a"), "dag-id-duplicate"),
        ("from airflow import DAG\nDAG(\n", "dag-not-compiling"),
    ],
)
def test_what_would_be_refused(source: Path, text: str, id: str) -> None:
    (source / "b.py").write_text(text)
    assert ids(source) == [id]


def test_ignored_files_need_not_be_valid(source: Path) -> None:
    (source / "b.py").write_text("from airflow import DAG\nDAG(\n")
    (source / ".airflowignore").write_text("b\\.py\n")
    notes = check_folder(source).warnings
    assert [(note.id, note.where) for note in notes] == [("dag-not-compiling", f"{source}/b.py:2")]


def test_airflow_3(source: Path) -> None:
    (source / "a.py").write_text(
        "from airflow.utils.dates import days_ago\nfrom airflow import DAG\n"
    )
    check_folder(source, airflow_version="2.10.3")
    assert ids(source, airflow_version="3.0.6") == ["dag-airflow-3-removed"]


def test_no_dag_and_no_folder(source: Path) -> None:
    (source / "a.py").write_text("x = 1\n")
    with pytest.raises(RefusedError) as empty:
        check_folder(source)
    assert empty.value.id == "dags-empty"
    with pytest.raises(UsageError) as missing:
        check_folder(source / "nothing")
    assert missing.value.id == "dags-source-missing"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(group, ["dags", "check", *arguments], obj=Console({}))
    return done.exit_code, done.stdout


def test_the_command(source: Path) -> None:
    assert run("--source", str(source)) == (0, f"2 files in {source} checked\n")
    (source / "b.py").write_text("from airflow import DAG\nimport requests\nrequests.get('x')\n")
    status, out = run("--source", str(source), "--format", "json")
    document = json.loads(out)
    assert (status, document["files"]) == (0, 3)
    assert [warning["where"] for warning in document["warnings"]] == [f"{source}/b.py:3"]
