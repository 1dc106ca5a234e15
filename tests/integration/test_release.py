"""`scripts/check_release.py`: a tag is published only if everything names its version. And what a
release has beside the packages.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import ROOT

GOOD = (
    "# Changelog\n\n## [Unreleased]\n\n"
    "## [1.2.3] - 2026-11-26\n\n- Something.\n\n## [1.2.2] - 2026-01-01\n"
)


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "said"),
    [
        ("cipipe-v1.2.3", "1.2.3", GOOD, ""),
        ("v1.2.3", "1.2.3", GOOD, "does not start with cipipe-v"),
        ("cipipe-v1.2.3", "1.2.2", GOOD, "__version__ in cipipe/__init__.py is 1.2.2"),
        ("cipipe-v1.2.3", "1.2.3", GOOD.replace("1.2.3", "1x2.3"), "no section `## [1.2.3]"),
        (
            "cipipe-v1.2.3",
            "1.2.3",
            GOOD.replace("- Something.", ""),
            "1.2.3 in CHANGELOG.md is empty",
        ),
        ("cipipe-v1.2.2", "1.2.2", GOOD, "1.2.2 in CHANGELOG.md is empty"),
    ],
)
def test_what_does_not_agree(
    tmp_path: Path, tag: str, version: str, changelog: str, said: str
) -> None:
    (tmp_path / "cipipe").mkdir()
    (tmp_path / "cipipe/__init__.py").write_text(f'__version__ = "{version}"\n')
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    script = ROOT / "scripts/check_release.py"
    done = subprocess.run(
        [sys.executable, str(script), tag, "--root", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if said else 0)
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)
    # The notes of the release.
    assert done.stdout == ("" if said else "- Something.\n")


def requirements(wheel: Path, lock: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts/release_requirements.py"
    argv = [sys.executable, str(script), str(wheel), lock]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lock", ["runtime", "sandbox"])
def test_the_requirements_of_a_release(tmp_path: Path, lock: str) -> None:
    wheel = tmp_path / "cipipe_deploy-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    done = requirements(wheel, lock)
    digest = hashlib.sha256(b"a wheel").hexdigest()
    locked = (ROOT / f"scripts/requirements/{lock}.txt").read_text()
    assert done.stdout == f"cipipe-deploy==1.2.3 \\\n    --hash=sha256:{digest}\n{locked}"


def test_requirements_of_what_is_no_wheel(tmp_path: Path) -> None:
    source = tmp_path / "cipipe_deploy-1.2.3.tar.gz"
    source.write_bytes(b"a source archive")
    done = requirements(source, "runtime")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a wheel" in done.stderr
