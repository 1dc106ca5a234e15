"""Secrets and connections as variables of profiles.yml. The clients are tested against moto."""

import json
from typing import Any

import pytest

from dbt_runtime.credentials import secrets_in, variables_of_secret
from dbt_runtime.jdbc import variables_of_url


@pytest.mark.parametrize(
    ("target", "content", "expected"),
    [
        ("redshift", "hunter22", {"DBT_ENV_SECRET_PASSWORD": "hunter22"}),
        ("redshift", "12345", {"DBT_ENV_SECRET_PASSWORD": "12345"}),
        ("redshift", "", {}),
        (
            "redshift",
            {
                "username": "dbt",
                "password": "p",
                "engine": "redshift",
                "host": "h",
                "port": 5439,
                "dbname": "emp",
            },
            {
                "REDSHIFT_USER": "dbt",
                "DBT_ENV_SECRET_PASSWORD": "p",
                "REDSHIFT_HOST": "h",
                "REDSHIFT_PORT": "5439",
                "REDSHIFT_DATABASE": "emp",
            },
        ),
        (
            "snowflake",
            {"user": "dbt", "account": "a", "private_key": "k", "private_key_passphrase": "p"},
            {
                "SNOWFLAKE_USER": "dbt",
                "SNOWFLAKE_ACCOUNT": "a",
                "DBT_ENV_SECRET_PRIVATE_KEY": "k",
                "DBT_ENV_SECRET_PRIVATE_KEY_PASSPHRASE": "p",
            },
        ),
        # Names of variables are used as they are, but not just any.
        (
            "duckdb",
            {"DBT_ENV_SECRET_TOKEN": "t", "LD_PRELOAD": "/tmp/x.so", "PATH": "/tmp"},
            {"DBT_ENV_SECRET_TOKEN": "t"},
        ),
        ("duckdb", {"password": ["a"], "username": "u"}, {}),
    ],
)
def test_a_secret(target: str, content: Any, expected: dict[str, str]) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    assert variables_of_secret(text, target) == expected


@pytest.mark.parametrize(
    ("url", "target", "expected"),
    [
        (
            "jdbc:redshift://c.abc.eu-central-1.redshift.amazonaws.com:5440/emp",
            "redshift",
            {
                "REDSHIFT_HOST": "c.abc.eu-central-1.redshift.amazonaws.com",
                "REDSHIFT_PORT": "5440",
                "REDSHIFT_DATABASE": "emp",
            },
        ),
        (
            "jdbc:redshift:iam://host/emp?ssl=true",
            "redshift",
            {"REDSHIFT_HOST": "host", "REDSHIFT_DATABASE": "emp"},
        ),
        (
            "jdbc:snowflake://org-acct.snowflakecomputing.com/?db=EMP&warehouse=W&role=R&x=y",
            "snowflake",
            {
                "SNOWFLAKE_ACCOUNT": "org-acct",
                "SNOWFLAKE_DATABASE": "EMP",
                "SNOWFLAKE_WAREHOUSE": "W",
                "SNOWFLAKE_ROLE": "R",
            },
        ),
        (
            "jdbc:snowflake://acct.eu-central-1",
            "snowflake",
            {"SNOWFLAKE_ACCOUNT": "acct.eu-central-1"},
        ),
        ("jdbc:redshift://host/emp", "snowflake", None),
        ("jdbc:mysql://host/emp", "redshift", None),
        ("", "redshift", None),
    ],
)
def test_a_jdbc_url(url: str, target: str, expected: dict[str, str] | None) -> None:
    assert variables_of_url(url, target) == expected


def test_which_variables_are_secret() -> None:
    env = {
        "DBT_ENV_SECRET_ANY": "a",
        "SNOWFLAKE_PASSWORD": "b",
        "AWS_SECRET_ACCESS_KEY": "c",
        "AWS_SESSION_TOKEN": "d",
        "DBT_ENV_SECRET_EMPTY": "",
        "DBT_CREDENTIALS_SECRET": "the name of one",
        "REDSHIFT_USER": "emp",
    }
    assert secrets_in(env) == ["a", "b", "c", "d"]
