"""Regular expressions in `.airflowignore` that backtrack forever."""

import pytest

from cipipe.stages.dags.checks.airflowignore import ignored


@pytest.mark.parametrize(
    ("line", "found"), [("(old|new)/.*_[0-9]+", {"old/x_1.py"}), ("^(.*/)?x_1", {"old/x_1.py"})]
)
def test_expressions_with_groups_are_matched(line: str, found: set[str]) -> None:
    bodies = {".airflowignore": line.encode(), "old/x_1.py": b"", "b.py": b""}
    assert ignored(bodies, version="2.10.3", env={}).paths == found


def test_an_endless_expression_is_left_out_and_reported() -> None:
    bodies = {".airflowignore": b"(a+)+$\nold/", "a" * 60 + "b.py": b"", "old/x.py": b""}
    found = ignored(bodies, version="2.10.3", env={})
    assert found.paths == {"old/x.py"}
    assert [problem.id for problem in found.problems] == ["dag-ignore-rule"]
