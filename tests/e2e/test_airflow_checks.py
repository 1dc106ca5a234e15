"""DAG files read by real Airflow 2 and 3 before an upload, and the table of what Airflow 3 lacks
held to both.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.errors import ProblemsError, StageError
from cipipe.model import Environment, Mode
from cipipe.redact import Redactor
from cipipe.stages import dags
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks import airflow3, airflow_imports
from cipipe.stages.dags.checks.airflowignore import ignored
from cipipe.stages.dags.mwaa.extras import archive
from cipipe.stages.settings import Stage
from cipipe.tools.git.client import Repository
from support.contexts import stage_context
from support.tools import VENVS, require

GOOD = (
    b"import helper\nfrom airflow import DAG\nimport pendulum\n"
    b'with DAG("%s", schedule=None):\n    pass\n'
)
HANGS = (
    b"# airflow dag\nimport signal, time\n"
    b"signal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(60)\n"
)
KNOWN = """
import importlib, json, os, sys, warnings
warnings.simplefilter("ignore")
def there(name):
    try:
        importlib.import_module(name)
        return True
    except ImportError:
        module, _, attribute = name.rpartition(".")
        try:
            return hasattr(importlib.import_module(module), attribute)
        except ImportError:
            return False
from airflow import DAG
def takes(argument):
    try:
        DAG("x", **{argument: None})
    except TypeError:
        return False
    except Exception:
        pass
    return True
table = json.load(open(sys.argv[1]))
known = [name for name in [*table["modules"], *table["names"]] if there(name)]
known += [argument for argument in table["dag_arguments"] if takes(argument)]
json.dump(known, open(sys.argv[2], "w"))
"""


def python(version: str) -> Path:
    return require(VENVS / f"airflow-{version}/bin/python", f"reading DAGs with Airflow {version}")


@pytest.fixture(params=["2", "3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def context_in(
    tmp_path: Path, version: str, lines: list[str], **settings: Any
) -> StageContext[Any]:
    link = tmp_path / "python"
    if not link.exists():
        link.write_text(f'#!/bin/sh\nexec {python(version)} "$@"\n')
        link.chmod(0o755)
    table = {"source": "dags", "bucket": "b-b-b", "airflow_python": "python", **settings}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return stage_context(
        mode=Mode.DEPLOY,
        environment=Environment(account_id="1" * 12, region="eu-central-1", role_arn="arn"),
        stage=Stage("dags", "dags", dags.Settings(**table)),
        repository=Repository(tmp_path, os.environ),
        child_env={**os.environ, "AWS_SECRET_ACCESS_KEY": "hunter22"},
        redactor=Redactor(),
        scratch=scratch,
        line=lines.append,
    )


def test_files_are_read_as_airflow_does(tmp_path: Path, version: str) -> None:
    lines: list[str] = []
    context = context_in(tmp_path, version, lines, dynamic=("team/*.py",))
    notes = airflow_imports.check(
        context,
        {
            "dags/a.py": GOOD % b"a"
            + b"import os\nassert not [n for n in os.environ if 'SECRET' in n]\n",
            "dags/helper.py": b"X = 1",
            "dags/lib.py": b"# of airflow, no dag\n",
            "dags/team/none.py": b"# of airflow, no dag\n",
            "dags/ignored.py": b"import nothing.of_the_kind  # airflow dag\n",
            "dags/.airflowignore": b"ignored.*\n",
        },
    )
    assert [(note.id, note.where) for note in notes] == [("dag-file-without-dag", "dags/lib.py")]
    assert lines[0].startswith(f"3 files read by Airflow {version}.")


def test_what_is_broken_is_reported_in_airflows_words(tmp_path: Path, version: str) -> None:
    context = context_in(tmp_path, version, [], import_timeout=3)
    same = (
        b'from airflow import DAG\nNAME = "tw" + "in"\nwith DAG(NAME, schedule=None):\n    pass\n'
    )
    with pytest.raises(ProblemsError) as caught:
        airflow_imports.check(
            context,
            {
                "dags/broken.py": b"import nothing.of_the_kind  # airflow dag\n",
                "dags/hangs.py": HANGS,
                "dags/one.py": same,
                "dags/other.py": same,
                "dags/slow.py": b"# airflow dag\nimport time\ntime.sleep(60)\n",
            },
        )
    found = {problem.where: problem for problem in caught.value.problems}
    assert {where: problem.id for where, problem in found.items()} == {
        "dags/broken.py": "dag-import-failed",
        "dags/hangs.py": "dag-import-timeout",
        "dags/one.py": "dag-id-duplicate",
        "dags/slow.py": "dag-import-failed",
    }
    assert "No module named 'nothing'" in found["dags/broken.py"].message
    assert "'twin'" in found["dags/one.py"].message
    assert "timeout" in found["dags/slow.py"].message.lower()


def test_a_file_that_stops_the_process_hides_no_other(tmp_path: Path, version: str) -> None:
    bodies = {
        "dags/a.py": b"# airflow dag\nimport sys\nsys.exit(0)\n",
        "dags/b.py": b"# airflow dag\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
        "dags/c.py": b"# airflow dag\nimport os\nos._exit(7)\n",
        "dags/d.py": b"# airflow dag\nimport nothing.of_the_kind\n",
    }
    with pytest.raises(ProblemsError) as caught:
        airflow_imports.check(context_in(tmp_path, version, []), bodies)
    found = caught.value.problems
    assert [(each.id, each.where) for each in found] == [
        ("dag-import-failed", path) for path in bodies
    ]
    # Airflow 3 outlives the first two, and tells of them itself.
    assert [found[0].message[-1], "SIGSEGV" in found[1].message, found[2].message[-13:]] == [
        "0",
        True,
        "with status 7",
    ]


def test_what_only_the_real_airflow_has_is_a_warning(tmp_path: Path, version: str) -> None:
    bodies = {
        "dags/a.py": (
            b"# airflow dag\nfrom airflow.models import Variable\nVariable.get('account')\n"
        ),
        "dags/b.py": (
            b"# airflow dag\nfrom airflow.hooks.base import BaseHook\n"
            b"BaseHook.get_connection('slack')\n"
        ),
        "dags/c.py": b"# airflow dag\n{}['Variable x']\n",
    }
    if version == "3":
        bodies["dags/d.py"] = (
            b"# airflow dag\nfrom airflow.sdk import Variable\nVariable.get('account')\n"
        )
    with pytest.raises(ProblemsError) as caught:
        airflow_imports.check(context_in(tmp_path, version, []), bodies)
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-import-failed", "dags/c.py")
    ]
    del bodies["dags/c.py"]
    (tmp_path / "again").mkdir()
    notes = airflow_imports.check(context_in(tmp_path / "again", version, []), bodies)
    assert [(note.id, note.where) for note in notes] == [
        ("dag-import-unfinished", path) for path in bodies
    ]


def test_imports_start_at_the_folder_that_mwaa_reads(tmp_path: Path) -> None:
    bodies = {
        "dags/a.py": b"# airflow dag\nimport team.helper\n",
        "dags/b.py": b"# airflow dag\nimport helper\n",
        "dags/helper.py": b"",
    }
    with pytest.raises(ProblemsError) as caught:
        airflow_imports.check(
            context_in(tmp_path, "2", [], prefix="dags/team/", dynamic=("*.py",)), bodies, "team/"
        )
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-import-failed", "dags/b.py")
    ]


def test_modules_are_found_where_airflow_finds_them(tmp_path: Path, version: str) -> None:
    """Beside the DAGs; not beside the program that reads them, and not in place of what Python has
    itself.
    """
    context = context_in(tmp_path, version, [], dynamic=("*.py",))
    bodies = {
        "dags/a.py": b"# airflow dag\nimport colorsys\nfrom checks import sql\n",
        "dags/b.py": b"# airflow dag\nimport parallel\n",
        "dags/checks/__init__.py": b"",
        "dags/checks/sql.py": b"",
        "dags/colorsys.py": b"raise RuntimeError\n",
    }
    with pytest.raises(ProblemsError) as caught:
        airflow_imports.check(context, bodies)
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-import-failed", "dags/b.py")
    ]


def test_another_airflow_than_the_declared_one_is_a_warning(tmp_path: Path) -> None:
    notes = airflow_imports.check(
        context_in(tmp_path, "2", [], airflow_version="2.9.2"), {"dags/a.py": b""}
    )
    assert [note.id for note in notes] == ["dags-airflow-other"]


def test_an_airflow_that_is_not_there(tmp_path: Path) -> None:
    context = context_in(tmp_path, "2", [], airflow_python="nowhere/python")
    with pytest.raises(StageError) as caught:
        airflow_imports.check(context, {})
    assert caught.value.id == "dags-airflow-missing"
    sandboxed = msgspec.structs.replace(context, sandbox=True)
    assert [note.id for note in airflow_imports.check(sandboxed, {})] == ["dags-not-imported"]


def test_plugins_that_the_stage_ships_are_on_the_path(tmp_path: Path, version: str) -> None:
    context = context_in(tmp_path, version, [], dynamic=("*.py",))
    plugins = archive(
        {
            "operators/__init__.py": (b"", b"100644"),
            "operators/hello.py": (b"NAME = 1\n", b"100644"),
        }
    )
    bodies = {"dags/a.py": b"# airflow dag\nfrom operators.hello import NAME\n"}
    assert airflow_imports.check(context, bodies, extras={"plugins.zip": plugins}) == []


def test_what_only_mwaa_has_leaves_an_import_unfinished(tmp_path: Path, version: str) -> None:
    bodies = {
        "dags/a.py": b"# airflow dag\nimport os\nos.environ['AIRFLOW__CUSTOM__TEAM']\n",
        "dags/b.py": (
            b"# airflow dag\nfrom airflow.configuration import conf\nconf.get('custom', 'team')\n"
        ),
        "dags/c.py": b"# airflow dag\nopen('/usr/local/airflow/dags/settings.json')\n",
        "dags/d.py": b"# airflow dag\nimport shop_tools.orders\n",
    }
    notes = airflow_imports.check(
        context_in(tmp_path, version, []), bodies, extras={"requirements.txt": b"shop-tools==1.2\n"}
    )
    assert [(note.id, note.where) for note in notes] == [
        ("dag-import-unfinished", path) for path in bodies
    ]
    reported = " ".join(note.message for note in notes)
    assert [
        word for word in ("TEAM", "custom.team", "/usr/local", "shop-tools") if word not in reported
    ] == []

    given: dict[str, Any] = {
        "check_env": {"AIRFLOW__CUSTOM__TEAM": "data"},
        "check_variables": {"account": "1"},
        "dynamic": ("*.py",),
    }
    known = {
        "dags/a.py": bodies["dags/a.py"],
        "dags/b.py": bodies["dags/b.py"],
        "dags/e.py": (
            b"# airflow dag\nfrom airflow.models import Variable\n"
            b"assert Variable.get('account') == '1'\n"
        ),
        "dags/f.py": (
            b"# airflow dag\nimport os\n"
            b"assert os.path.isdir(os.environ['AIRFLOW_HOME'] + '/dags')\n"
        ),
    }
    (tmp_path / "again").mkdir()
    assert airflow_imports.check(context_in(tmp_path / "again", version, [], **given), known) == []


@pytest.mark.parametrize("pattern", ["old/", "old", r"o.d/.*\.py"])
def test_airflow_ignores_what_the_checks_ignore(tmp_path: Path, version: str, pattern: str) -> None:
    if version == "3" and "." in pattern:
        pattern = "o?d/**"
    bodies = {
        ".airflowignore": pattern.encode(),
        "old/a.py": b"# airflow dag\nraise RuntimeError\n",
        "b.py": b"",
    }
    assert ignored(bodies, version=version + ".0", env={}).paths == {"old/a.py"}
    context = context_in(tmp_path, version, [], dynamic=("**",))
    assert (
        airflow_imports.check(context, {f"dags/{path}": body for path, body in bodies.items()})
        == []
    )


def test_the_table_of_what_airflow_3_lacks(tmp_path: Path) -> None:
    """All of it works on Airflow 2, and nothing of it on Airflow 3."""
    table = Path(airflow3.__file__).with_name("airflow3.json")
    reported = {}
    for version in ("2", "3"):
        answer = tmp_path / f"{version}.json"
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path / version),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        subprocess.run(
            [python(version), "-c", KNOWN, table, answer], env=env, check=True, capture_output=True
        )
        reported[version] = set(json.loads(answer.read_text()))
    assert reported["3"] == set()
    names = {
        *airflow3.table()["modules"],
        *airflow3.table()["names"],
        *airflow3.table()["dag_arguments"],
    }
    assert names - reported["2"] == set()
