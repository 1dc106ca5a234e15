"""docs/markers.md: its examples do what it says."""

import re
from typing import Any

import pytest

from cipipe.errors import ProblemsError
from cipipe.model import Output
from cipipe.stages.dags.markers.patch import patch
from support.tools import ROOT

PAGE = (ROOT / "docs/markers.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)

# An output that fits, and one that does not, for each row of the table.
ROWS: dict[str, tuple[list[Any], list[Any]]] = {
    '`"x"`': (["y"], [1, ["y"]]),
    "`1`, `1.5`": ([2], ["2"]),
    "`True`": ([False], ["false"]),
    '`["x"]`, `("x",)`, `{"x"}`': ([["y", "z"]], ["y", [1]]),
    "`[]`, `{}`": ([], []),
    '`{"a": "x"}`': ([{"a": "y", "b": "z"}], [{"a": 1}, {"b": 1}]),
}


def test_the_first_example_becomes_the_second() -> None:
    values: dict[str, Any] = {}
    exec(BLOCKS[1], values)
    outputs = {
        "ecs_cluster_name": Output(value=values["CLUSTER"]),
        "private_subnet_ids": Output(value=values["SUBNETS"]),
    }
    assert patch(BLOCKS[0].encode(), "a.py", outputs).body.decode() == BLOCKS[1]


def test_the_other_examples() -> None:
    optional, sensitive, image = BLOCKS[2:]
    outputs = {"airflow_variable": Output(value=None)}
    assert b"VARIABLE: str | None = None" in patch(optional.encode(), "a.py", outputs).body
    alias = {"database_alias": Output(value="y", sensitive=True)}
    assert b'ALIAS = "y"' in patch(sensitive.encode(), "a.py", alias).body
    with pytest.raises(ProblemsError):
        patch(sensitive.replace(" (sensitive ok)", "").encode(), "a.py", alias)
    uri = {"image.uri": Output(value="registry/image@sha256:0")}
    assert b"registry/image" in patch(image.encode(), "a.py", uri).body


def test_the_table_of_types() -> None:
    rows = re.findall(r"^\| (`.*?) \| .* \|$", PAGE, re.MULTILINE)
    assert rows == list(ROWS)
    for row, (good, bad) in ROWS.items():
        for literal in re.findall(r"`(.+?)`", row):
            source = f"NAME = {literal}  # cipipe: x\n".encode()
            for value in good:
                assert patch(source, "a.py", {"x": Output(value=value)}).replacements
            for value in bad:
                with pytest.raises(ProblemsError):
                    patch(source, "a.py", {"x": Output(value=value)})
