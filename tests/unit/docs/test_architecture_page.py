"""docs/architecture.md matches the tree and the import contract."""

import re
import tomllib

from support.markdown import DOCS, ROOT, block, rows, section


def documented_modules() -> set[str]:
    table = section(DOCS / "architecture.md", 2, "Modules").partition("\n| module |")[2]
    first_cells = [row[0] for row in rows("| module |" + table)]
    return set(re.findall(r"`([^`]+)`", " ".join(first_cells)))


def modules_to_document() -> set[str]:
    """Top-level modules, and packages at every level, relative to the package."""
    package = ROOT / "cipipe"
    # `bootstrap/` has Terraform files, and no Python.
    tops = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    inits = package.rglob("*/__init__.py")
    return tops | {f"{init.parent.relative_to(package)}/" for init in inits} | {"bootstrap/"}


def test_the_module_table_matches_the_tree() -> None:
    assert documented_modules() - modules_to_document() == set(), "documented, but not in the tree"
    assert modules_to_document() - documented_modules() == set(), "in the tree, but not documented"


def test_files_that_the_architecture_names_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    named = set(re.findall(r"`(\w[\w/]*/(?:\w+\.py)?)`", text))
    assert len(named) > 30
    assert {
        path for path in named if not any((ROOT / top / path).exists() for top in ("", "cipipe"))
    } == set()


def test_the_layers_are_those_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [
        contract["layers"] for contract in contracts if contract["name"] == "Imports go one way"
    ]
    shown = block(section(DOCS / "architecture.md", 2, "Which way imports go"), "")
    assert shown.splitlines() == [", ".join(layer.split(" | ")) for layer in layers]


def test_architecture_lists_every_decision() -> None:
    listed = re.findall(
        r"\]\((decisions/[^)]+)\)", section(DOCS / "architecture.md", 2, "Decisions")
    )
    assert listed == [f"decisions/{page.name}" for page in sorted(DOCS.glob("decisions/*.md"))]
