"""What `cipipe init` finds besides the usual: roots in JSON, MWAA's plugins and startup script, and
names that stay data.
"""

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from support.init_repos import contents, made, ok, written
from support.init_shapes import DAG, FLAGS, S3

PLUGIN = "from airflow.plugins_manager import AirflowPlugin\n"
BUCKET = ("--dags-bucket", "team-dags")
MAIN = {
    "terraform": [{"backend": {"s3": {"bucket": "states", "key": "shop/${1}.tfstate"}}}],
    "provider": {"aws": {"region": "eu-west-1", "allowed_account_ids": ["111111111111"]}},
    "module": {"net": {"source": "../modules/net"}},
    "output": [
        {"registry": {"value": "${aws_ecr_repository.this.repository_url}"}},
        {"dags_bucket_name": {"value": "${aws_s3_bucket.dags.bucket}"}},
    ],
}


def test_a_root_in_json(tmp_path: Path) -> None:
    files = {
        "infra/main.tf.json": json.dumps(MAIN, indent=2),
        "modules/net/main.tf.json": json.dumps({"provider": {"aws": {}}}),
        "dags/a.py": DAG,
    }
    repo, cli = made(tmp_path, files)
    done = ok(cli("init", "--yes", "--account", "111111111111", "--format", "json"))
    (root,) = done.document["found"]["roots"]
    assert (root["path"], root["backend"]) == ("infra", "s3")
    assert root["outputs"] == ["dags_bucket_name", "registry"]
    assert root["modules"] == ["modules/net"]
    stages = written(repo)["stages"]
    # A key with a template is not plain text: the usual one is proposed.
    assert stages["iac"]["backend"] == {
        "bucket": "states",
        "key": "terraform/{project}/{environment}.tfstate",
    }
    assert stages["iac"]["paths"] == ["infra/**", "modules/net/**"]
    assert stages["dags"]["bucket"] == {"output": "dags_bucket_name"}
    assert written(repo)["environments"]["dev"]["region"] == "eu-west-1"
    ok(cli("check"))
    repo.commit()
    planned = ok(cli("plan", "--offline", "--format", "json"))
    assert "paths" not in planned.err, "a plan warns of what `paths` leave out"


def test_the_account_in_json_is_found(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"infra/main.tf.json": json.dumps(MAIN, indent=2)})
    ok(cli("init", "--yes"))
    assert written(repo)["environments"]["dev"]["account_id"] == "111111111111"


def test_a_root_in_json_at_the_top(tmp_path: Path) -> None:
    text = json.dumps({"terraform": {"backend": {"s3": {}}}})
    repo, cli = made(tmp_path, {"main.tf.json": text, "README.md": "x"})
    ok(cli("init", "--yes", *FLAGS))
    assert "**/*.tf.json" in written(repo)["stages"]["iac"]["paths"]
    repo.commit()
    (before,) = ok(cli("plan", "--offline", "--format", "json")).document["stages"]
    repo.write({"main.tf.json": text + "\n"})
    repo.commit()
    (after,) = ok(cli("plan", "--offline", "--format", "json")).document["stages"]
    assert before["fingerprint"] != after["fingerprint"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"terraform": 1}', '{"provider": [[]]}', "[" * 5000]
)
def test_json_that_is_no_root(text: str, tmp_path: Path) -> None:
    files = {"broken/main.tf.json": text, "terraform/main.tf": S3}
    _, cli = made(tmp_path, files)
    done = ok(cli("init", "--yes", *FLAGS, "--format", "json"))
    assert [root["path"] for root in done.document["found"]["roots"]] == ["terraform"]


@pytest.mark.parametrize("above", ["", "airflow/"])
def test_plugins_beside_the_dags(above: str, tmp_path: Path) -> None:
    files = {f"{above}dags/a.py": DAG, f"{above}plugins/team/operators.py": PLUGIN}
    repo, cli = made(tmp_path, files)
    done = ok(cli("init", "--yes", *FLAGS, *BUCKET))
    assert "let Terraform ignore the versions of requirements.txt and plugins.zip" in done.out
    stage = written(repo)["stages"]["dags"]
    assert stage["plugins"] == f"{above}plugins"
    assert stage["paths"] == [f"{above}dags/**", f"{above}plugins/**"]
    ok(cli("check"))
    repo.commit()
    assert "paths" not in ok(cli("plan", "--offline")).err


@pytest.mark.parametrize(
    "files",
    [
        # Of another program.
        {"dags/a.py": DAG, "plugins/theme.py": "import sphinx\n"},
        {"dags/a.py": DAG, "elsewhere/plugins/a.py": PLUGIN},
        {"plugins/a.py": DAG + PLUGIN},
        {"a.py": DAG, "plugins/a.py": PLUGIN},
    ],
)
def test_other_folders_are_no_plugins(files: dict[str, str], tmp_path: Path) -> None:
    repo, cli = made(tmp_path, files)
    ok(cli("init", "--yes", *FLAGS, *BUCKET))
    assert "plugins" not in written(repo)["stages"]["dags"]


def test_a_startup_script_is_left_to_terraform(tmp_path: Path) -> None:
    files = {"airflow/dags/a.py": DAG, "airflow/startup.sh": "export A=1\n"}
    repo, cli = made(tmp_path, files)
    done = ok(cli("init", "--yes", *FLAGS, *BUCKET))
    assert "airflow/startup.sh is not uploaded" in done.out
    text = (repo.root / "cipipe.toml").read_text()
    assert "# MWAA's startup script, airflow/startup.sh, is not uploaded" in text
    assert "startup" not in str(written(repo))
    ok(cli("check"))


# They are found, and mean something to a shell, to an option parser, in YAML or in a pattern.
PLAIN = ("--help", "a, b", "@x+y", "..x", "~", "a - b", "true", "@file")


def test_names_that_are_found_stay_data(tmp_path: Path) -> None:
    files = {f"{name}/main.tf": S3 for name in PLAIN}
    files |= {f"{name}/dags/a.py": DAG for name in PLAIN}
    repo, cli = made(tmp_path, files)
    done = ok(cli("init", "--yes", *FLAGS, *BUCKET, "--format", "json"))
    stages = written(repo)["stages"]
    roots = {stage["root"] for stage in stages.values() if stage["kind"] == "terraform"}
    assert roots == {root["path"] for root in done.document["found"]["roots"]}
    assert roots >= {"--help", "a, b", "@x+y"}
    ok(cli("check"))
    repo.commit()
    ok(cli("plan", "--offline"))


def test_a_branch_and_a_remote_that_stay_data(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3})
    branch = "x\"${{secrets.A}}'#$(touch${IFS}executed)"
    repo.git("branch", "--move", branch)
    path = 'data/shop"] #${{ 1 }}$(touch executed)'
    repo.git("remote", "set-url", "origin", f"git@github.com:{path}.git")
    ok(cli("init", "--yes", *FLAGS))
    table = written(repo)
    assert list(table) == ["project", "oidc", "environments", "stages"]
    assert table["oidc"]["github"]["project"] == path
    assert table["environments"]["dev"]["deploy_from"] == {"branches": [branch]}
    workflow = yaml.safe_load((repo.root / ".github/workflows/cipipe.yml").read_text())
    assert list(workflow["jobs"]) == ["run"]
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True]["push"]["branches"] == [branch]
    assert "executed" not in contents(repo)
