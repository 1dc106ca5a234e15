"""What real Terraform is not started for: a root that is initialised, a stage that is deployed,
a provider that another clone has.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.redact import Redactor
from cipipe.sandbox.client import Sandbox
from cipipe.stages.terraform.root import CommandContext, Root, client
from cipipe.tools.terraform.backend import Backend
from cipipe.tools.terraform.client import Terraform
from support import statestore
from support.apply_project import CONFIG, ApplyProject
from support.clone import Outcome
from support.recorded import Recorded
from support.terraform_mirror import PLATFORM
from support.tools import require

RESOURCE = 'resource "terraform_data" "it" {\n  input = "%s"\n}\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApplyProject]:
    require("terraform", "the infrastructure")
    made = ApplyProject.made(tmp_path_factory.mktemp("reuse") / "repository", CONFIG)
    up = made.cipipe("sandbox", "up")
    assert up.status == 0, up.err
    try:
        assert made.run().status == 0
        yield made
    finally:
        made.cipipe("sandbox", "down")


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded.around("terraform", tmp_path / "bin")


def test_what_is_deployed_starts_no_terraform(project: ApplyProject, recorded: Recorded) -> None:
    sandbox = project.sandbox()
    project.change(RESOURCE % "one")
    assert deploy(project, sandbox, recorded).results() == {"iac": "done"}
    assert [words[0] for words in recorded.calls()].count("init") == 1

    recorded.clear()
    assert deploy(project, sandbox, recorded).results() == {"iac": "unchanged"}
    assert recorded.calls() == []


def test_a_root_is_initialised_once(project: ApplyProject, recorded: Recorded) -> None:
    sandbox = project.sandbox()
    project.change(RESOURCE % "two")
    deploy(project, sandbox, recorded)
    recorded.clear()
    again = deploy(project, sandbox, recorded, "--force", "iac")
    assert again.document["stages"][0]["made"] == "no resource changes"
    verbs = [words[0] for words in recorded.calls()]
    assert "plan" in verbs
    assert "apply" in verbs
    assert "init" not in verbs
    assert "initialised already" in again.err

    # Removed behind cipipe's back.
    recorded.clear()
    shutil.rmtree(project.folder / ".cipipe/terraform/dev/iac")
    deploy(project, sandbox, recorded, "--force", "iac")
    assert [words[0] for words in recorded.calls()].count("init") == 1


def deploy(project: ApplyProject, sandbox: Sandbox, recorded: Recorded, *arguments: str) -> Outcome:
    job = project.job(sandbox)
    path = f"{recorded.folder}{os.pathsep}{os.environ['PATH']}"
    done = project.cipipe("run", "--format", "json", *arguments, **{**job, "PATH": path})
    assert done.status == 0, done.text
    return done


VERSION = "1.0.0"
PROGRAM = f"terraform-provider-tiny_v{VERSION}"

PROVIDER = """
terraform {
  required_providers {
    tiny = {
      source  = "example.com/test/tiny"
      version = "1.0.0"
    }
  }
  backend "http" {}
}
"""


@pytest.mark.parametrize("locked", [True, False])
def test_a_fresh_clone_takes_providers_from_the_cache(locked: bool, tmp_path: Path) -> None:
    """The provider is never started, so that any file will do."""
    require("terraform", "the cache")
    mirror = tmp_path / "mirror"
    publish(mirror, "first")
    rules = tmp_path / "terraform.rc"
    rules.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n')

    with statestore.serving() as store:
        backend = Backend("http", store.settings("net"))

        def clone(name: str) -> Terraform:
            folder = tmp_path / name
            (folder / "root").mkdir(parents=True)
            (folder / "root/main.tf").write_text(PROVIDER)
            command = CommandContext(
                top=folder,
                environment_name="dev",
                env={"PATH": os.environ["PATH"], "TF_CLI_CONFIG_FILE": str(rules)},
                redactor=Redactor(),
                line=lambda _: None,
                command_options=(),
                login=store.login,
            )
            root = Root(
                folder=folder / "root",
                shown="root",
                stage="iac",
                backend=backend,
                plugin_cache=tmp_path / "cache",
            )
            return client(root, command)

        first = clone("first")
        first.init()
        # What the mirror has now would not match a lock file.
        publish(mirror, "another")
        second = clone("second")
        if locked:
            kept = first.commands.data_dir / "dependencies.lock.hcl"
            shutil.copy(kept, second.commands.root / ".terraform.lock.hcl")
        second.init()
        (installed,) = (second.commands.data_dir / "providers").rglob(f"{VERSION}/*")
        assert (installed / PROGRAM).read_text() == "first"
        (cached,) = (tmp_path / "cache").rglob(f"{VERSION}/*")
        assert installed.samefile(cached)


def publish(mirror: Path, contents: str) -> None:
    """Put an archive of the provider into a mirror."""
    archive = mirror / f"example.com/test/tiny/terraform-provider-tiny_{VERSION}_{PLATFORM}.zip"
    archive.parent.mkdir(parents=True, exist_ok=True)
    entry = zipfile.ZipInfo(PROGRAM)
    entry.external_attr = 0o755 << 16
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(entry, contents)
