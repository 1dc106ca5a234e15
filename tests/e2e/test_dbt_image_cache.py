"""This repository's dbt image on a daemon that starts empty in every job, as docker:dind does."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

from support.image_project import HEAD, ImageProject
from support.tls_daemon import TlsDaemon
from support.tools import ROOT, require

BASE = "cipipe-base:bookworm"
STAGE = """
[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = "{registry}/shop-{{environment}}"
network = "host"
build_args = {{ BASE_IMAGE = "{base}" }}
"""
# Not `(cached)`.
INSTALLED = re.compile(r"RUN set --; .*(?:: done in |\()\d")


class DbtProject(ImageProject):
    """A project with the dbt folder of this repository."""

    def configure(self, settings: str = "") -> None:
        (self.folder / "cipipe.toml").write_text(
            HEAD + STAGE.format(registry=self.registry or "registry.test", base=BASE) + settings
        )
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", "dbt"], cwd=ROOT, check=True, capture_output=True
        )
        for name in listed.stdout.decode().split("\0")[:-1]:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Configure")


def started(folder: Path) -> TlsDaemon:
    """An empty daemon that has the base image."""
    folder.mkdir()
    daemon = TlsDaemon(require("dockerd", "building images"), folder)
    daemon.start()
    archive = require(ROOT / ".cipipe/base-image-bookworm.tar", "the base image")
    with contextlib.closing(daemon.client()) as client:
        repository, _, tag = BASE.partition(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
    return daemon


def test_a_changed_model_does_not_install_dbt_again(tmp_path: Path) -> None:
    first = started(tmp_path / "first")
    project = DbtProject.create(tmp_path / "shop", **first.env)
    try:
        done = project.run_in("dev")
        first.stop()
        assert done.status == 0, done.text
        assert len(INSTALLED.findall(done.err)) == 1

        project.write("dbt/models/marts/one.sql", "select 1 as number\n")
        second = started(tmp_path / "second")
        done = project.run_in("dev", **second.env)
        second.stop()
        assert done.status == 0, done.text
        assert INSTALLED.findall(done.err) == []
        assert "COPY --from=builder /opt/dbt /opt/dbt (cached)" in done.err
    finally:
        project.cipipe("sandbox", "down")
