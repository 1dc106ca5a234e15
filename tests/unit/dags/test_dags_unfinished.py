"""What was missing here, by the traceback of a failed import."""

import importlib
import sys
from pathlib import Path

import pytest

from cipipe.stages.dags.checks import airflow_probe
from cipipe.stages.dags.checks.unfinished import required, unfinished

OS = '  File "<frozen os>", line 679, in __getitem__\n'
REQUIREMENTS = required(
    b"# ours\nPyYAML==6.0\npython-dateutil>=2\n--constraint x\n"
    b"apache-airflow-providers-slack[x]\nscikit-learn\n"
)


@pytest.mark.parametrize(
    ("traceback", "word"),
    [
        # Environment variables and options.
        (f"{OS}KeyError: 'AIRFLOW__SHOP__X'", "AIRFLOW__SHOP__X"),
        ("  File \"/usr/lib/python3.9/os.py\", line 679, in __getitem__\nKeyError: 'TEAM'", "TEAM"),
        (
            "airflow.exceptions.AirflowConfigException: section/key [shop/x] not found in config",
            "shop.x",
        ),
        # Calls to AWS, which the check has no credentials for.
        ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "no credentials"),
        ("botocore.exceptions.ClientError: An error occurred (403)", "no credentials"),
        ("botocore.errorfactory.ParameterNotFound: An error occurred", "no credentials"),
        # Files of MWAA.
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/usr/local/airflow/dags/x'",
            "only MWAA",
        ),
        # Modules from the requirements, or from MWAA itself.
        ("ModuleNotFoundError: No module named 'yaml'", "PyYAML"),
        ("ModuleNotFoundError: No module named 'dateutil.parser'", "python-dateutil"),
        (
            "ModuleNotFoundError: No module named 'airflow.providers.slack'",
            "apache-airflow-providers-slack",
        ),
        ("ModuleNotFoundError: No module named 'boto3'", "MWAA has it"),
        (
            "ModuleNotFoundError: No module named 'airflow.providers.amazon.aws'",
            "apache-airflow-providers-amazon",
        ),
        ("ModuleNotFoundError: No module named 'sklearn.svm'", "scikit-learn"),
    ],
)
def test_unfinished(traceback: str, word: str) -> None:
    found = unfinished(f"Traceback (most recent call last):\n{traceback}\n", REQUIREMENTS)
    assert found is not None
    assert word in found.why


@pytest.mark.parametrize(
    "traceback",
    [
        "KeyError: 'TEAM'",
        "botocore.exceptions.ParamValidationError: Parameter validation failed",
        "FileNotFoundError: [Errno 2] No such file or directory: 'x.json'",
        "ModuleNotFoundError: No module named 'helpers'",
        "ModuleNotFoundError: No module named 'airflow.providers.google'",
        "RuntimeError: x",
        "",
    ],
)
def test_the_file_is_wrong(traceback: str) -> None:
    assert unfinished(traceback, REQUIREMENTS) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("shop-lib==1.0 # pinned", "shop-lib"),
        ("  zope.interface ; python_version < '3.12'", "zope.interface"),
        ("foo-2fa[x]>=1", "foo-2fa"),
        ("foo @ https://example.com/foo.whl", "foo"),
        ("/usr/local/airflow/plugins/shop_lib-1.0.2-py3-none-any.whl", "shop_lib"),
        ("./wheels/shop-1.tar.gz", "shop"),
        ("git+https://example.com/o/shop.git@v1", "shop"),
        ("git+ssh://git@example.com/o/repo.git#egg=shop", "shop"),
        ("-e git+https://example.com/o/repo#egg=shop", "shop"),
        ("-r other.txt", None),
        ("--find-links /usr/local/airflow/plugins", None),
        ("# shop", None),
        ("", None),
    ],
)
def test_distribution_in_a_line_of_requirements(line: str, name: str | None) -> None:
    assert required(line.encode()) == ([] if name is None else [name])


def test_modules_are_found_in_folders_that_mwaa_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    monkeypatch.setattr(sys, "path", [*sys.path, "/usr/local/airflow/dags/shared"])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    (tmp_path / "dags" / "shared").mkdir(parents=True)
    (tmp_path / "dags" / "shared" / "only_on_mwaa.py").write_text("NAME = 'shop'\n")

    airflow_probe.find_modules_as_on_mwaa(str(tmp_path))

    assert importlib.import_module("only_on_mwaa").NAME == "shop"
    del sys.modules["only_on_mwaa"]
