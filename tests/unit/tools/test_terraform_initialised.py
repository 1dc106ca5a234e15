"""Whether the last `init` of a root still counts: everything that it depends on is noticed."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.tools.process import Completed
from cipipe.tools.terraform import plugin_cache
from cipipe.tools.terraform.backend import Backend
from cipipe.tools.terraform.client import Terraform
from cipipe.tools.terraform.commands import Commands
from cipipe.tools.terraform.setup.initialised import Initialisation

SETTINGS = {"bucket": "b", "key": "k"}
OTHER_STATE = json.dumps({"backend": {"type": "s3", "config": {"key": "other"}}})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A root with a local module, and what `init` leaves for it."""
    write(tmp_path / "bin/terraform", "a program")
    (tmp_path / "bin/terraform").chmod(0o755)
    write(tmp_path / "root/main.tf", 'module "m" {\n  source = "../m"\n}\n')
    write(tmp_path / "root/.terraform.lock.hcl", "versions")
    write(tmp_path / "root/dev.tfvars", "n = 1")
    write(tmp_path / "root/x.auto.tfvars", "bucket = 1")
    write(tmp_path / "m/m.tf", "locals {}\n")
    write(tmp_path / "data/terraform.tfstate", json.dumps({"backend": {"type": "s3"}}))
    modules = [{"Key": "", "Dir": "."}, {"Key": "m", "Source": "../m", "Dir": "../m"}]
    write(tmp_path / "data/modules/modules.json", json.dumps({"Modules": modules}))
    write(tmp_path / "cache/x/provider", "an executable")
    (tmp_path / "data/providers").mkdir()
    (tmp_path / "data/providers/x").symlink_to(tmp_path / "cache/x")
    return tmp_path


def commands(top: Path, **more: Any) -> Commands:
    given = {"env": {"PATH": str(top / "bin")}, "backend": Backend("s3", dict(SETTINGS)), **more}
    return Commands(
        root=top / "root",
        data_dir=top / "data",
        redactor=Redactor(),
        line=lambda _: None,
        unlock_command="unlock",
        **given,
    )


def last(top: Path, **more: Any) -> Initialisation:
    made = commands(top, **more)
    return Initialisation(made, made.backend.written())


def test_it_counts_as_long_as_nothing_changes(top: Path) -> None:
    assert not last(top).is_current()
    last(top).note()
    assert last(top).is_current()
    assert last(top).forget()
    assert not last(top).is_current()
    assert not last(top).forget()


@pytest.mark.parametrize(
    "change",
    [
        lambda top: write(top / "root/main.tf", "locals {}\n"),
        lambda top: write(top / "root/new.tf.json", "{}"),
        lambda top: write(top / "m/m.tf", "terraform {}\n"),
        lambda top: (top / "m/m.tf").rename(top / "gone"),
        lambda top: (top / "m").rename(top / "gone"),
        lambda top: write(top / "root/.terraform.lock.hcl", "other versions"),
        lambda top: (top / "root/.terraform.lock.hcl").unlink(),
        lambda top: write(top / "bin/terraform", "another program"),
        lambda top: (top / "bin/terraform").unlink(),
        lambda top: write(top / "cache/x/provider", "torn"),
        lambda top: (top / "cache/x").rename(top / "pruned"),
        lambda top: write(top / "data/providers/y/provider", "more"),
        lambda top: write(top / "data/terraform.tfstate", "{}"),
        lambda top: write(top / "data/terraform.tfstate", OTHER_STATE),
        lambda top: (top / "data/terraform.tfstate").unlink(),
        lambda top: write(top / "data/modules/modules.json", '{"Modules": []}'),
        lambda top: write(top / "data/initialised.json", "torn"),
    ],
)
def test_what_changes_is_noticed(change: Callable[[Path], object], top: Path) -> None:
    last(top).note()
    change(top)
    assert not last(top).is_current()


def test_other_settings_and_programs_count(top: Path) -> None:
    last(top).note()
    assert not last(top, backend=Backend("s3", {**SETTINGS, "key": "other"})).is_current()
    assert not last(top, backend=Backend("http", dict(SETTINGS))).is_current()
    os.link(top / "bin/terraform", top / "bin/tofu")
    assert not last(top, program="tofu").is_current()
    assert last(top).is_current()


def test_variables_count_for_opentofu_only(top: Path) -> None:
    (top / "bin/terraform").rename(top / "bin/tofu")
    before = {"PATH": str(top / "bin"), "TF_VAR_bucket": "one"}
    after = {**before, "TF_VAR_bucket": "other"}
    last(top, program="tofu", env=before).note()
    assert last(top, program="tofu", env=before).is_current()
    assert not last(top, program="tofu", env=after).is_current()
    last(top, program="tofu", env=before).note()
    write(top / "root/x.auto.tfvars", "bucket = 2")
    assert not last(top, program="tofu", env=before).is_current()
    (top / "bin/tofu").rename(top / "bin/terraform")
    last(top, env=before).note()
    write(top / "root/x.auto.tfvars", "bucket = 3")
    assert last(top, env=after).is_current()


def test_other_files_do_not_count(top: Path) -> None:
    last(top).note()
    write(top / "root/dev.tfvars", "n = 2")
    write(top / "root/README.md", "more")
    assert last(top).is_current()


def test_hcp_terraform_is_always_initialised(top: Path) -> None:
    write(top / "data/terraform.tfstate", json.dumps({"backend": {"type": "cloud"}}))
    last(top, backend=Backend("cloud")).note()
    assert not last(top, backend=Backend("cloud")).is_current()


class Replaying(Commands):
    """Commands that fail with these errors, one after the other."""

    def stream(self, arguments: Any, **_: Any) -> Completed:
        said: list[str] = self.env["said"]  # type: ignore[assignment]
        errors: list[str] = self.env["errors"]  # type: ignore[assignment]
        said.append(arguments[0])
        if arguments[0] == "plan" and errors and (error := errors.pop(0)):
            raise StageError("terraform-failed", error)
        return Completed(("terraform",), 0, b"", b"")


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([], ["plan"]),
        (["to install it, run: terraform init"], ["plan", "init", "plan"]),
        (['run "tofu init"', 'run "tofu init"'], ["plan", "init", "plan"]),
        (["no such attribute"], ["plan"]),
    ],
)
def test_a_plan_that_misses_something_is_made_again_once(
    errors: list[str], said: list[str], top: Path
) -> None:
    """Such as a provider that only the state needs, and that the root does not name any more."""
    last(top).note()
    given: Any = {"PATH": str(top / "bin"), "said": [], "errors": list(errors)}
    made = commands(top)
    backend = Backend("s3", {**SETTINGS, "use_lockfile": True})
    replaying = Replaying(**{**vars(made), "env": given, "backend": backend})
    Initialisation(replaying, backend.written()).note()
    with contextlib.suppress(StageError):
        Terraform(replaying).plan(top / "plan")
    assert given["said"] == said


def test_the_cache_is_shared_without_a_lock_file_too(tmp_path: Path) -> None:
    cache = tmp_path / "not/there/yet"
    assert plugin_cache.variables(None, locked=True) == {}
    assert plugin_cache.variables(cache, locked=True) == {"TF_PLUGIN_CACHE_DIR": str(cache)}
    assert "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE" in plugin_cache.variables(
        cache, locked=False
    )
    with plugin_cache.alone(cache):
        assert cache.is_dir()


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError) as caught, plugin_cache.alone(tmp_path / "file/cache"):
        pass
    assert caught.value.id == "terraform-plugin-cache"
