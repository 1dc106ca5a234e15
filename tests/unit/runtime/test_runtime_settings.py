"""The variables of the dbt container."""

from pathlib import Path

import pytest

from dbt_runtime.settings import S3Folder, SettingsError, settings


def test_defaults() -> None:
    chosen = settings({}, Path("/project"))
    assert chosen.steps[0] == ("deps",)
    assert [step[0] for step in chosen.steps] == ["deps", "debug", "run", "test", "source", "docs"]
    assert (chosen.secret, chosen.connection, chosen.artifacts) == (None, None, None)
    assert chosen.target == Path("/project/target")


def test_everything_is_set() -> None:
    env = {
        "DBT_STEPS": "run --select 'tag:a b', test",
        "DBT_CREDENTIALS_SECRET": "dev/dbt",
        "DBT_CREDENTIALS_CONNECTION": "warehouse",
        "DBT_ARTIFACTS": "s3://bucket/dev/shop",
        "DBT_RUN_ID": "scheduled__2026-01-01T00:00:00+00:00",
        "DBT_STOP_SECONDS": "2.5",
        "DBT_TARGET_PATH": "/home/dbt/target",
    }
    chosen = settings(env, Path("/project"))
    assert chosen.steps == (("run", "--select", "tag:a b"), ("test",))
    assert (chosen.secret, chosen.connection) == ("dev/dbt", "warehouse")
    assert chosen.artifacts == S3Folder(bucket="bucket", prefix="dev/shop/")
    assert chosen.run_id == "scheduled__2026-01-01T00:00:00+00:00"
    assert chosen.grace == 2.5
    assert chosen.target == Path("/home/dbt/target")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DBT_STEPS", "run,,test"),
        ("DBT_STEPS", "run 'a"),
        ("DBT_ARTIFACTS", "bucket/dev"),
        ("DBT_ARTIFACTS", "s3:///dev"),
        ("DBT_RUN_ID", "../other"),
        ("DBT_STOP_SECONDS", "soon"),
        ("DBT_STOP_SECONDS", "-1"),
        ("DBT_STOP_SECONDS", "nan"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings({name: value}, Path("/project"))
