"""Print the requirements of a released cipipe: its wheel and all that it needs, each with hashes.

    python scripts/release_requirements.py dist/cipipe_deploy-1.2.3-py3-none-any.whl runtime

The second argument is a lock file's name in scripts/requirements/. What is printed is for
`pip install --require-hashes --requirement`.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "scripts/requirements"

# The name and the version in a wheel's name: https://packaging.python.org/en/latest/specifications/binary-distribution-format
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[^-]+)-[^-]+-[^-]+-[^-]+\.whl")


def requirements(wheel: Path, lock: Path) -> str:
    """The lock, with the wheel in front. Exits where one of them is not what it should be."""
    found = _WHEEL.fullmatch(wheel.name)
    if found is None:
        sys.exit(f"{wheel} is not a wheel")
    name = found["name"].replace("_", "-")

    locked = lock.read_text()
    if re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE):
        sys.exit(f"{lock} has {name} already")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={found['version']} \\\n    --hash=sha256:{digest}\n{locked}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("lock", choices=["runtime", "sandbox"])
    options = parser.parse_args()
    sys.stdout.write(requirements(options.wheel, LOCKS / f"{options.lock}.txt"))


if __name__ == "__main__":
    main()
