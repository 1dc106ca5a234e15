"""Where answers go that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("format_", ["text", "json"])
def test_an_answer_to_a_full_disk_is_an_error_and_no_bug(tmp_path: Path, format_: str) -> None:
    argv = [sys.executable, "-m", "cipipe", "doctor", "--offline", "--format", format_]
    with FULL.open("w") as full:
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=dict(os.environ),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "the answer cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_log_to_a_full_disk_does_not_stop_an_answer(tmp_path: Path) -> None:
    if not FULL.exists():
        pytest.skip("only Linux has a device that is always full")
    argv = [sys.executable, "-m", "cipipe", "check"]
    with FULL.open("w") as full:
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert done.returncode == 2, "what the error is that nobody can read"
