"""Whether a tag, the version of the package and the changelog agree on a release.

    python scripts/check_release.py cipipe-v1.2.3

The changelog needs a section `## [1.2.3] - YYYY-MM-DD` that is not empty, which is printed: the
notes of the release.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "cipipe-v"


def problems(tag: str, root: Path) -> Iterator[str]:
    """What does not agree."""
    version = tag.removeprefix(PREFIX)
    if version == tag:
        yield f"the tag {tag} does not start with {PREFIX}"
    source = (root / "cipipe/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    own = found[1] if found else "missing"
    if own != version:
        yield f"__version__ in cipipe/__init__.py is {own}, and the tag says {version}"
    section = notes(version, root)
    if section is None:
        yield f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`"
    elif not section:
        yield f"the section of {version} in CHANGELOG.md is empty"


def notes(version: str, root: Path) -> str | None:
    """The section of a version in the changelog, without its heading. None: there is none."""
    section = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}$(.*?)(?=^## |\Z)"
    found = re.search(section, (root / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args()
    found = list(problems(options.tag, options.root))
    if found:
        sys.exit("\n".join(found))
    sys.stdout.write(f"{notes(options.tag.removeprefix(PREFIX), options.root)}\n")


if __name__ == "__main__":
    main()
