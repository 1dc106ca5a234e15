"""`cipipe init` in repositories of many shapes: what it writes passes `check` and a plan."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from support.command import Cli
from support.component import component
from support.git import HOSTILE
from support.init_repos import made, ok, written
from support.init_shapes import DAG, DBT, FLAGS, HARD, HTTP, S3, SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_can_be_checked_and_planned(shape: str, tmp_path: Path) -> None:
    files, flags, stages = SHAPES[shape]
    repo, cli = made(tmp_path, files)
    ok(cli("init", "--yes", *flags))
    assert list(written(repo)["stages"]) == stages
    assert ok(cli("check", "--format", "json")).document["stages"] == stages
    validated = subprocess.run(
        [
            str(Path(sys.executable).with_name("check-jsonschema")),
            "--schemafile",
            "cipipe.schema.json",
            "cipipe.toml",
        ],
        cwd=repo.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stdout
    repo.commit()
    for name in written(repo)["environments"]:
        done = ok(cli("plan", "--offline", "--env", name, "--format", "json"))
        assert [stage["name"] for stage in done.document["stages"]] == stages
        assert "paths" not in done.err, "a plan warns of what `paths` leave out"

    before = {path: path.read_bytes() for path in repo.root.iterdir() if path.is_file()}
    again = ok(cli("init", "--yes", *flags, "--format", "json"))
    assert again.document["written"] == []
    assert {path: path.read_bytes() for path in before} == before


def test_environments_keep_their_own_states(tmp_path: Path) -> None:
    files, flags, _ = SHAPES["a root per environment"]
    repo, cli = made(tmp_path, files)
    ok(cli("init", "--yes", *flags))
    table = written(repo)
    assert table["stages"]["iac"]["root"] == "infra/environments/{environment}"
    assert table["stages"]["iac"]["backend"] == {"bucket": "states", "key": "{values.state_key}"}
    assert "infra/modules/x/**" in table["stages"]["iac"]["paths"]
    live = table["environments"]["live"]
    assert live["values"] == {"state_key": "a/live"}
    assert (live["account_id"], live["region"]) == ("222222222222", "eu-west-1")
    assert (live["after"], live["protected"]) == ("dev", True)


def test_roots_have_names_and_states_of_their_own(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"a/b/main.tf": S3, "a-b/main.tf": S3, "c/main.tf": HTTP})
    ok(cli("init", "--yes", *FLAGS))
    stages = written(repo)["stages"]
    assert {name: stage["root"] for name, stage in stages.items()} == {
        "iac-a-b": "a-b",
        "iac-a-b-2": "a/b",
        "iac-c": "c",
    }
    assert len({str(stage["backend"]) for stage in stages.values()}) == 3
    ok(cli("check"))


def test_a_single_dag_uploads_nothing_else(tmp_path: Path) -> None:
    files, flags, _ = SHAPES["a single DAG at the top"]
    repo, cli = made(tmp_path, files)
    ok(cli("init", "--yes", *flags))
    assert written(repo)["stages"]["dags"]["paths"] == ["daily.py"]


def test_the_state_in_gitlab_is_addressed_by_the_remote(tmp_path: Path) -> None:
    files, flags, _ = SHAPES["a state in GitLab"]
    repo, cli = made(tmp_path, files)
    ok(cli("init", "--yes", *flags))
    backend = written(repo)["stages"]["iac"]["backend"]
    assert backend["address"] == (
        "https://gitlab.com/api/v4/projects/data%2Fshop/terraform/state/shop-{environment}"
    )
    assert written(repo)["oidc"] == {
        "gitlab": {"audience": "https://gitlab.com", "project": "data/shop"}
    }


def tool(*argv: str, cwd: Path) -> None:
    """Run one of the development tools of this environment."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(argv[0])), *argv[1:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "shape", ["one root with files of variables", "a bucket without Terraform"]
)
def test_pipelines_are_valid(shape: str, tmp_path: Path) -> None:
    files, flags, stages = SHAPES[shape]
    repo, cli = made(tmp_path, files)
    repo.git("remote", "add", "mirror", "https://github.com/data/shop")
    ok(cli("init", "--yes", *flags))
    workflow = ".github/workflows/cipipe.yml"
    schemas = {"github-workflows": workflow, "gitlab-ci": ".gitlab-ci.yml"}
    for schema, path in schemas.items():
        tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", path, cwd=repo.root)
    tool("zizmor", "--offline", "--persona", "pedantic", workflow, cwd=repo.root)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    tool("actionlint", "-no-color", "-shellcheck", str(shellcheck), workflow, cwd=repo.root)

    jobs = yaml.safe_load((repo.root / ".gitlab-ci.yml").read_text())
    names = list(written(repo)["environments"])
    assert [name for name in jobs if ":" in name] == [f"deploy:{name}" for name in names]
    for name in names:
        job = jobs[f"deploy:{name}"]
        assert job["resource_group"] == f"shop/{name}"
        assert job["environment"] == {"name": name}
        assert job["script"] == [f"cipipe run --env {name}"]
    assert ("services" in jobs[".cipipe"]) is ("image" in stages)
    lines = "\n".join(jobs[".cipipe"]["before_script"])
    assert ("cipipe iac install" in lines) is ("iac" in stages)
    script = tmp_path / "script"
    script.write_text(lines + "\n")
    tool("shellcheck", "--shell=bash", str(script), cwd=repo.root)
    assert ("cipipe iac install" in (repo.root / workflow).read_text()) is ("iac" in stages)


def test_pipelines_that_use_the_component_and_the_workflow(tmp_path: Path) -> None:
    files, flags, _ = SHAPES["one root with files of variables"]
    repo, cli = made(tmp_path, files)
    repo.git("remote", "add", "mirror", "https://github.com/data/shop")
    address = "data/cipipe/.github/workflows/cipipe.yml@" + "0" * 40
    place = "gitlab.com/data/cipipe/deploy@1.0.0"
    shared = ["--component", place, "--workflow", address, "--image", "registry/cipipe:1"]
    ok(cli("init", "--yes", *flags, *shared))

    names = list(written(repo)["environments"])
    includes = yaml.safe_load((repo.root / ".gitlab-ci.yml").read_text())["include"]
    assert {one["component"] for one in includes} == {place}
    jobs = [component(one["inputs"]) for one in includes]
    for name, found in zip(names, jobs, strict=True):
        deploys = found[f"deploy:{name}"]["rules"][0]["if"]
        assert ("CI_COMMIT_TAG" in deploys) is (name != names[0])
    workflow = repo.root / ".github/workflows/cipipe.yml"
    (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
    assert job["uses"] == address
    assert job["with"] == {"image": "registry/cipipe:1"}
    tool("zizmor", "--offline", "--persona", "pedantic", str(workflow), cwd=repo.root)
    tool("actionlint", "-no-color", "-shellcheck", "", str(workflow), cwd=repo.root)


def test_the_component_needs_an_image(tmp_path: Path) -> None:
    files, flags, _ = SHAPES["one root with files of variables"]
    repo, cli = made(tmp_path, files)
    done = cli("init", "--yes", *flags, "--component", "gitlab.com/data/cipipe/deploy@1")
    assert done.status == 2
    assert "--image" in done.err
    assert not (repo.root / "cipipe.toml").exists()


def test_existing_pipelines_stay(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3, ".gitlab-ci.yml": "mine: 1\n"})
    done = ok(cli("init", "--yes", *FLAGS))
    assert (repo.root / ".gitlab-ci.yml").read_text() == "mine: 1\n"
    assert ".gitlab-ci.yml stays as it is" in done.out


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    _, cli = made(tmp_path, {"terraform/main.tf": S3}, commit=False)
    ok(cli("init", "--yes", *FLAGS))
    ok(cli("check"))


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"dags/a.py": DAG, **DBT})
    done = cli("init", "--environments", "dev,live", "--format", "json")
    assert (done.status, done.error) == (2, "init-missing-answers")
    for flag in (
        "--account dev=ID",
        "--account live=ID",
        "--region",
        "--repository",
        "--dags-bucket",
    ):
        assert flag in done.err
    assert not (repo.root / "cipipe.toml").exists()


def test_outputs_on_one_line_and_accounts_of_others(tmp_path: Path) -> None:
    outputs = (
        'output "images" { value = aws_ecr_repository.this.repository_url }\n'
        'output "dag_bucket" { value = aws_s3_bucket.dags.bucket }\n'
    )
    foreign = 'locals { trusted = "arn:aws:iam::999999999999:root" }\n'
    files = {"terraform/main.tf": S3 + outputs + foreign, "dags/a.py": DAG, **DBT}
    repo, cipipe = made(tmp_path, files)
    asked = cipipe("init", "--yes", "--region", "eu-central-1")
    assert asked.status == 2
    assert "--account" in asked.err

    ok(cipipe("init", "--yes", *FLAGS))
    stages = written(repo)["stages"]
    assert stages["image"]["repository"] == {"output": "images"}
    assert stages["dags"]["bucket"] == {"output": "dag_bucket"}


def test_nothing_is_overwritten_without_consent(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3, "cipipe.toml": "mine = 1\n"})
    done = cli("init", "--yes", *FLAGS, "--format", "json")
    assert (done.status, done.error) == (5, "init-would-overwrite")
    assert "-mine = 1" in done.err
    assert (repo.root / "cipipe.toml").read_text() == "mine = 1\n"
    assert not (repo.root / ".gitignore").exists()
    ok(cli("init", "--yes", "--force", *FLAGS))
    ok(cli("check"))


def test_environments_that_would_share_a_state_are_refused(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"main.tf": HARD.replace("KEY", "one")})
    done = cli("init", "--yes", *FLAGS, "--environments", "dev,live", "--format", "json")
    assert (done.status, done.error) == (2, "config-invalid")
    assert "config-shared-place" in done.out
    assert not (repo.root / "cipipe.toml").exists()


def test_a_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "main.tf").write_text(S3)
    (repo.root / "linked").symlink_to(outside)
    (repo.root / ".gitignore").symlink_to(outside / "ignored")
    (repo.root / ".github").symlink_to(outside)
    repo.git("remote", "add", "mirror", "https://github.com/data/shop")
    repo.commit()
    done = cli("init", "--yes", *FLAGS, "--format", "json")
    assert (done.status, done.error) == (5, "init-link")
    assert not (outside / "ignored").exists()
    assert not (repo.root / "cipipe.toml").exists()
    (repo.root / ".gitignore").unlink()
    done = ok(cli("init", "--yes", *FLAGS, "--format", "json"))
    assert [root["path"] for root in done.document["found"]["roots"]] == ["terraform"]
    assert [path.name for path in outside.iterdir()] == ["main.tf"]


def test_hostile_names_and_contents(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3})
    repo.write({name + b"/main.tf": S3 for name in HOSTILE})
    repo.write({"terraform/b.tf": b"\xff\xfe{{{", "dags/x.py": b"\xffimport airflow"})
    repo.add_submodule("sub.tf", repo.head)
    done = ok(cli("init", "--yes", *FLAGS, "--format", "json"))
    assert "terraform" in [root["path"] for root in done.document["found"]["roots"]]
    assert not (repo.root / "executed").exists()


def test_the_own_folder_is_ignored_once(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3, ".gitignore": "*.log"})
    ok(cli("init", "--yes", *FLAGS))
    assert (repo.root / ".gitignore").read_text() == "*.log\n.cipipe/\n"


def test_nothing_to_deploy(tmp_path: Path) -> None:
    _, cli = made(tmp_path, {"README.md": "x"})
    done = cli("init", "--yes", *FLAGS, "--format", "json")
    assert (done.status, done.error) == (2, "init-nothing-found")


def test_no_repository(tmp_path: Path) -> None:
    done = Cli(tmp_path)("init", "--yes", "--format", "json", GIT_CEILING_DIRECTORIES="/")
    assert (done.status, done.error) == (2, "git-no-repository")


def test_a_name_that_is_none(tmp_path: Path) -> None:
    repo, cli = made(tmp_path, {"terraform/main.tf": S3})
    done = cli("init", "--yes", *FLAGS, "--environments", "de]v", "--format", "json")
    assert (done.status, done.error) == (2, "usage")
    assert not (repo.root / "cipipe.toml").exists()
