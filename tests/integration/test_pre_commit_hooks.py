"""`.pre-commit-hooks.yaml`: what other repositories' pre-commit runs."""

import subprocess
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from support.tools import ROOT


def test_every_hook_runs_a_command_that_exists(tmp_path: Path) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["cipipe-check", "cipipe-dags-check"]
    for hook in hooks:
        # pre-commit installs this repository's package for it.
        assert hook["language"] == "python"
        argv = [*hook["entry"].split(), *hook.get("args", [])]
        program = Path(sys.executable).with_name(argv[0])
        done = subprocess.run([program, *argv[1:]], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        elsewhere = subprocess.run(
            [program, *argv[1:]], cwd=tmp_path, capture_output=True, check=False
        )
        assert elsewhere.returncode == 2
