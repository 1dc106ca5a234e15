"""What a failed import says of what was lacking here."""

import pytest

from cipipe.stages.dags.lacking import required, unfinished

OS = '  File "<frozen os>", line 679, in __getitem__\n'
REQUIREMENTS = required(b"# ours\nPyYAML==6.0\npython-dateutil>=2\n--constraint x\napache-airflow-providers-slack[x]\n")


@pytest.mark.parametrize(
    ("traceback", "word"),
    [
        (f"{OS}KeyError: 'AIRFLOW__SHOP__X'", "AIRFLOW__SHOP__X"),
        ("  File \"/usr/lib/python3.9/os.py\", line 679, in __getitem__\nKeyError: 'TEAM'", "TEAM"),
        ("airflow.exceptions.AirflowConfigException: section/key [shop/x] not found in config", "shop.x"),
        ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "no credentials"),
        ("botocore.exceptions.ClientError: An error occurred (403)", "no credentials"),
        ("botocore.errorfactory.ParameterNotFound: An error occurred", "no credentials"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/usr/local/airflow/dags/x'", "only MWAA"),
        ("ModuleNotFoundError: No module named 'yaml'", "PyYAML"),
        ("ModuleNotFoundError: No module named 'dateutil.parser'", "python-dateutil"),
        ("ModuleNotFoundError: No module named 'airflow.providers.slack'", "apache-airflow-providers-slack"),
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
def test_at_fault(traceback: str) -> None:
    assert unfinished(traceback, REQUIREMENTS) is None
