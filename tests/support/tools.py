"""What the end-to-end tests need of this machine. `scripts/setup test` brings all of it that can be
brought.
"""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".cipipe/venvs"


def require(tool: str | Path, why: str) -> Path:
    """The path of a real tool: a command looked up in PATH, or a file. Without it the test is
    skipped; in CI it fails.
    """
    found = shutil.which(tool) if isinstance(tool, str) else tool
    if found is not None and Path(found).exists():
        return Path(found)
    message = f"{tool} is not here, needed for {why}; run scripts/setup test"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
