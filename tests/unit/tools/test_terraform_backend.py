"""Backends: where each setting goes, and which block a root declares."""

import json
import stat
from pathlib import Path

import pytest

from cipipe.ci import github, gitlab
from cipipe.errors import RefusedError, UsageError
from cipipe.model import Environment
from cipipe.redact import Redactor
from cipipe.stages.settings import Stage
from cipipe.stages.terraform import Settings, backend_of, problems
from cipipe.stages.terraform.root import CommandContext, Root, client
from cipipe.tools.terraform import backend as terraform_backend
from cipipe.tools.terraform.backend import Backend, Value, in_force, not_kept, settings_file
from cipipe.tools.terraform.blocks import Declared, declared

LIVE = Environment(account_id="2" * 12, region="eu-west-3", role_arn="arn")
API = "https://git.example.com/api/v4"


@pytest.mark.parametrize(
    ("backend", "variables"),
    [
        (
            Backend("pg", {"conn_str": "postgres://u:hunter22@db/tf", "schema_name": "net"}),
            {"PG_CONN_STR": "postgres://u:hunter22@db/tf"},
        ),
        (
            Backend("http", {"address": "https://h/s", "username": "u", "password": "hunter22"}),
            {"TF_HTTP_USERNAME": "u", "TF_HTTP_PASSWORD": "hunter22"},
        ),
        (
            Backend("azurerm", {"key": "k", "access_key": "hunter22"}),
            {"ARM_ACCESS_KEY": "hunter22"},
        ),
        (Backend("gcs", {"bucket": "b", "prefix": "p"}), {}),
        (
            Backend("consul", {"path": "p", "access_token": "hunter22", "lock": True}),
            {"CONSUL_HTTP_TOKEN": "hunter22"},
        ),
        (Backend("cloud", {"organization": "acme"}, "net"), {"TF_CLOUD_ORGANIZATION": "acme"}),
    ],
)
def test_secrets_are_in_the_environment_and_the_rest_in_a_private_file(
    backend: Backend, variables: dict[str, str]
) -> None:
    assert backend.variables() == variables
    with settings_file(backend.written()) as arguments:
        files = [Path(argument.partition("=")[2]) for argument in arguments]
        text = "".join(file.read_text() for file in files)
        for file in files:
            assert not stat.S_IMODE(file.parent.stat().st_mode) & 0o077
    assert "hunter22" not in f"{text}{arguments}"
    assert not any(file.exists() for file in files)
    kept = {
        key: value for key, value in backend.settings.items() if value not in variables.values()
    }
    assert (json.loads(text) if text else {}) == kept
    assert [secret for secret in variables.values() if "hunter22" in secret] == backend.secrets()


@pytest.mark.parametrize(
    ("settings", "locks"),
    [
        ({}, True),
        ({"encrypt": True}, True),
        ({"use_lockfile": False}, False),
        ({"use_lockfile": "true"}, False),
        ({"dynamodb_table": "locks"}, False),
    ],
)
def test_s3_locks_by_default(settings: dict[str, Value], locks: bool) -> None:
    assert Backend("s3", settings).locks_by_default is locks
    assert not Backend("gcs", settings).locks_by_default


def test_type_is_not_a_setting_and_the_region_is_the_environments() -> None:
    given: dict[str, Value] = {"bucket": "b", "key": "k"}
    s3 = backend_of(Settings(root="r", backend=given), LIVE, sandbox=False)
    assert s3 == Backend("s3", {"region": "eu-west-3", "bucket": "b", "key": "k"})
    named = backend_of(
        Settings(root="r", backend={**given, "type": "s3", "region": "x"}), LIVE, sandbox=True
    )
    assert named == Backend(
        "s3", {"region": "x", "bucket": "b", "key": "k", "use_path_style": True}
    )
    gcs = backend_of(
        Settings(root="r", backend={"type": "gcs", "bucket": "b"}, workspace="w"),
        LIVE,
        sandbox=True,
    )
    assert gcs == Backend("gcs", {"bucket": "b"}, "w")


@pytest.mark.parametrize(
    ("backend", "ids"),
    [
        ({"bucket": "b", "key": "k"}, []),
        ({"bucket": "b"}, ["config-missing-key"]),
        ({"type": "s3", "key": "k"}, ["config-missing-key"]),
        ({"type": "http"}, []),
        ({"type": "remote", "workspaces": {"name": "n"}}, []),
        ({"type": "local", "path": "p"}, ["terraform-state-not-kept"]),
        ({"type": "inmem"}, ["terraform-state-not-kept"]),
    ],
)
def test_problems_in_the_settings(backend: dict[str, Value], ids: list[str]) -> None:
    stage = Stage("iac", "terraform", Settings(root="r", backend=backend))
    assert [problem.id for problem in problems(stage)] == ids


BLOCK = b'terraform {\n  required_version = ">= 1.5"\n  backend "s3" {\n    key = "k"\n  }\n}\n'


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"versions.tf": BLOCK}, Declared("s3", "versions.tf", 3)),
        ({"versions.tf": BLOCK.replace(b"\n", b"\r\n")}, Declared("s3", "versions.tf", 3)),
        (
            {"a.tf": b'terraform {\n  cloud {\n    organization = "o"\n  }\n}'},
            Declared("cloud", "a.tf", 2),
        ),
        (
            {
                "a.tf": (
                    b'terraform {\n  /* backend "s3" {} */\n  # backend "gcs" {\n  // backend '
                    b'"pg" {}\n}'
                )
            },
            None,
        ),
        (
            {
                "a.tf": (
                    b'locals {\n  doc = <<-EOT\n    terraform {\n      backend "s3" {}\n    }\n  '
                    b"EOT\n}"
                )
            },
            None,
        ),
        ({"a.tf": b'resource "x" "backend" {\n  backend "s3" {\n  }\n}'}, None),
        (
            {
                "a.tf": (
                    b'locals {\n  terraform = { backend = { s3 = {} } }\n  text = "terraform { '
                    b'backend"\n}'
                )
            },
            None,
        ),
        (
            {"a.tf": b'terraform { required_version = "1" }\nterraform {\n  backend "gcs" {}\n}'},
            Declared("gcs", "a.tf", 3),
        ),
        (
            {"a.tf": BLOCK, "zz_override.tf": b'terraform {\n  backend "local" {}\n}'},
            Declared("local", "zz_override.tf", 2),
        ),
        (
            {"override.tf": b'terraform {\n  backend "local" {}\n}', "z.tf": BLOCK},
            Declared("local", "override.tf", 2),
        ),
        (
            {"a.tf.json": b'{"terraform": {"backend": {"azurerm": {}}}}'},
            Declared("azurerm", "a.tf.json", 1),
        ),
        (
            {"a.tf.json": b'{"terraform": [{"backend": [{"pg": {}}]}]}'},
            Declared("pg", "a.tf.json", 1),
        ),
        ({"a.tf.json": b'{"terraform": [{"cloud": {}}]}'}, Declared("cloud", "a.tf.json", 1)),
        (
            {
                "a.tf.json": b'{"locals": {"backend": {"s3": {}}}}',
                "b.tf.json": b"[1",
                "c.tf.json": b"[1]",
            },
            None,
        ),
        (
            {"a.tf.json": b'[{"locals": {}}, {"terraform": {"backend": {"consul": {}}}}]'},
            Declared("consul", "a.tf.json", 1),
        ),
        ({"a.tf": b'variable "zones" {\n  default = []\n}\n' + BLOCK}, Declared("s3", "a.tf", 6)),
        ({"a.tf": b'locals {\n  doc = <<EOT\n}"\nEOT\n}\n' + BLOCK}, Declared("s3", "a.tf", 8)),
        ({"a.tf": b'module "terraform" {\n  backend "s3" {}\n}'}, None),
        ({".a.tf": BLOCK, "b.tf": b"locals {}"}, None),
        ({"README.md": BLOCK, "a.tfvars": BLOCK}, None),
        ({}, None),
    ],
)
def test_the_block_that_a_root_declares(files: dict[str, bytes], found: Declared | None) -> None:
    assert declared(files) == found


def test_the_refusal_names_the_lines_and_the_file() -> None:
    error = not_kept(None, wanted="s3", root="infra/net", declared=None)
    assert (error.id, error.exit_status, error.where) == (
        "terraform-state-not-kept",
        5,
        "infra/net/backend.tf",
    )
    assert error.message.endswith('\n  terraform {\n    backend "s3" {}\n  }')
    error = not_kept("local", wanted="gcs", root="infra", declared=Declared("local", "main.tf", 7))
    assert (error.id, error.where) == ("terraform-state-not-kept", "infra/main.tf:7")
    assert 'backend "gcs" {}' in error.message
    error = not_kept("http", wanted="s3", root="infra", declared=Declared("http", "main.tf", 7))
    assert (error.id, error.exit_status) == ("terraform-backend-mismatch", 5)
    assert 'type = "http"' in str(error.hint)


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ('{"version": 3, "backend": {"type": "http", "config": {}}}', "http"),
        ('{"version": 3}', None),
        ('{"version": 3, "backend": null}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_the_backend_that_init_set_up(text: str, type: str | None, tmp_path: Path) -> None:
    (tmp_path / "terraform.tfstate").write_text(text)
    assert (in_force(tmp_path) or {}).get("type") == type
    assert in_force(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("variable", "workspace", "refused"),
    [
        ("", None, False),
        ("default", None, False),
        ("blue", "blue", False),
        ("blue", None, True),
        ("", "blue", False),
        ("blue", "green", True),
        ("default", "green", True),
    ],
)
def test_a_conflicting_tf_workspace_is_refused(
    variable: str, workspace: str | None, refused: bool
) -> None:
    if not refused:
        terraform_backend.refuse_workspace_variable({"TF_WORKSPACE": variable}, workspace)
        return
    with pytest.raises(UsageError) as caught:
        terraform_backend.refuse_workspace_variable({"TF_WORKSPACE": variable}, workspace)
    assert caught.value.id == "terraform-workspace-variable"
    assert f"TF_WORKSPACE={variable}" in caught.value.message


@pytest.mark.parametrize(
    ("address", "let_in"),
    [
        (f"{API}/projects/4/terraform/state/net", True),
        ("https://git.example.com/api/v4.evil.example/x", False),
        ("https://git.example.com.evil.example/api/v4/x", False),
        ("https://other.example.com/api/v4/projects/4", False),
        ("http://git.example.com/api/v4/projects/4", False),
        ("", False),
    ],
)
def test_a_gitlab_job_sends_its_token_only_to_its_own_instance(address: str, let_in: bool) -> None:
    job = {"CI_API_V4_URL": API, "CI_JOB_TOKEN": "glcbt-64_x"}
    expected = (
        {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": "glcbt-64_x"} if let_in else {}
    )
    assert gitlab.state_login(job, address) == expected
    assert gitlab.state_login({"CI_API_V4_URL": API}, address) == {}
    assert github.state_login(job, address) == {}


def test_only_an_http_store_gets_the_login(tmp_path: Path) -> None:
    redactor = Redactor()
    asked: list[str] = []

    def login(address: str) -> dict[str, str]:
        asked.append(address)
        return {"TF_HTTP_PASSWORD": "hunter22"}

    def terraform(backend: Backend) -> dict[str, str]:
        command = CommandContext(
            top=tmp_path,
            environment_name="dev",
            env={"PATH": "/bin", "TF_LOG": "trace"},
            redactor=redactor,
            line=lambda _: None,
            command_options=(),
            login=login,
        )
        root = Root(folder=tmp_path, shown="r", stage="net", backend=backend)
        return client(root, command).commands.environment()

    env = terraform(Backend("http", {"address": "https://h/s"}, "blue"))
    assert (env["TF_HTTP_PASSWORD"], env["TF_WORKSPACE"], asked) == (
        "hunter22",
        "blue",
        ["https://h/s"],
    )
    assert "TF_LOG" not in env
    assert redactor.text("hunter22") == "[redacted]"
    assert "TF_HTTP_PASSWORD" not in terraform(Backend("s3"))
    assert "TF_WORKSPACE" not in terraform(Backend("s3"))


def in_sandbox(tmp_path: Path, backend: Backend, **env: str) -> Backend:
    command = CommandContext(
        top=tmp_path,
        environment_name="dev",
        env={"CIPIPE_SANDBOX_STATES": "http://127.0.0.1:1", "TF_HTTP_PASSWORD": "real", **env},
        redactor=Redactor(),
        line=lambda _: None,
        command_options=("--sandbox",),
    )
    root = Root(folder=tmp_path, shown="r", stage="net", backend=backend)
    made = client(root, command).commands
    assert "TF_HTTP_PASSWORD" not in made.environment()
    return made.backend


def test_a_sandbox_has_a_store_of_its_own_for_states_over_http(tmp_path: Path) -> None:
    """A run in it must not change the real state."""
    real = "https://gitlab.com/api/v4/projects/1/terraform/state/dev"
    settings: dict[str, Value] = {
        "address": real,
        "lock_address": f"{real}/lock",
        "password": "x",
        "retry_max": 0,
    }
    there = "http://127.0.0.1:1/gitlab.com/api/v4/projects/1/terraform/state/dev"
    found = in_sandbox(tmp_path, Backend("http", settings, "blue"))
    assert found == Backend(
        "http", {"address": there, "lock_address": f"{there}/lock", "retry_max": 0}, "blue"
    )
    # Also where the job's environment names it, or only the root.
    assert in_sandbox(tmp_path, Backend("http"), TF_HTTP_ADDRESS=real).settings["address"] == there
    named = in_sandbox(tmp_path, Backend("http")).settings["address"]
    assert named == "http://127.0.0.1:1/sandbox/net"


def test_a_sandbox_refuses_states_that_it_cannot_keep(tmp_path: Path) -> None:
    for kind in ("gcs", "pg", "cloud", "remote"):
        with pytest.raises(RefusedError) as raised:
            in_sandbox(tmp_path, Backend(kind))
        assert raised.value.id == "sandbox-foreign-state"
    assert in_sandbox(tmp_path, Backend("s3", {"key": "k"})) == Backend("s3", {"key": "k"})
