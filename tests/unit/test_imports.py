"""No module of the package imports itself through others, not even by an import in a function."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_the_package_has_no_import_cycle() -> None:
    graph = grimp.build_graph("cipipe", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200

    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))
