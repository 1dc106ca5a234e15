"""The name that `pip install` knows, in every document and workflow."""

import re
import tomllib

import cipipe
from support.tools import ROOT

# Also with options, quotes or an extra.
WRONG = re.compile(r"""(?:pip|pipx|uv(?: tool| pip)?) install (?:-\S+ )*["']?cipipe(?![\w-])""")
ENDINGS = {".cfg", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}


def test_the_project_has_the_name() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert document["project"]["name"] == cipipe.DISTRIBUTION
    assert f"pip install '{cipipe.DISTRIBUTION}[sandbox]'" in (ROOT / "README.md").read_text()


def test_nobody_is_told_to_install_another_project() -> None:
    tops = [path for path in ROOT.iterdir() if path.name not in {".cipipe", ".git", ".venv"}]
    files = [path for top in tops for path in (top.rglob("*") if top.is_dir() else [top])]
    texts = {path: path.read_text() for path in files if path.suffix in ENDINGS and path.is_file()}
    assert {path.name for path in texts} >= {"README.md", "errors.md", "client.py", "template.yml"}
    found = [(path, match[0]) for path, text in texts.items() if (match := WRONG.search(text))]
    assert found == []
