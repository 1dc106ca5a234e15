"""When `--sandbox` bootstraps an account again."""

from pathlib import Path

from cipipe import config
from cipipe.pipeline.bootstrap.once import bootstrap_digest

TEXT = b"""
[project]
name = "shop"
default_environment = "dev"
[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
[stages.a]
kind = "command"
paths = ["a/**"]
run = [["true"]]
"""


def test_the_view_of_one_environment_has_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text("# one")
    whole = config.load(TEXT)
    first = bootstrap_digest(whole, tmp_path, started_at="now")
    assert bootstrap_digest(whole.at("dev"), tmp_path, started_at="now") == first
    other_stages = config.load(TEXT.replace(b'"true"', b'"false"'))
    assert bootstrap_digest(other_stages, tmp_path, started_at="now") == first
    assert (
        bootstrap_digest(
            config.load(TEXT.replace(b"-deploy", b"-other")), tmp_path, started_at="now"
        )
        != first
    )
    assert bootstrap_digest(whole, tmp_path, started_at="later") != first
    (tmp_path / "main.tf").write_text("# two")
    assert bootstrap_digest(whole, tmp_path, started_at="now") != first
