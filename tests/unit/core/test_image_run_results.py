"""How the nodes of a dbt run ended."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cipipe.stages.image.run_results import NodeResult, RunResults, run_results


def results(*entries: tuple[str, str]) -> RunResults:
    document = {"results": [{"unique_id": name, "status": status} for name, status in entries]}
    found = run_results(json.dumps(document).encode())
    assert found is not None
    return found


def test_counts_are_by_status() -> None:
    found = results(("a", "pass"), ("b", "success"), ("c", "pass"), ("d", "skipped"))
    assert list(found.counts.items()) == [("pass", 2), ("skipped", 1), ("success", 1)]
    assert str(found) == "2 pass, 1 skipped, 1 success"
    assert found.bad == []


def test_what_failed_comes_errors_first() -> None:
    found = results(("b", "fail"), ("a", "fail"), ("c", "error"), ("d", "warn"), ("e", "skipped"))
    assert [one.name for one in found.bad] == ["c", "a", "b"]


def test_a_message_is_one_line() -> None:
    body = (
        b'{"results": [{"unique_id": "a", "status": "fail", "message": "Got\\n  1\\tresult"}, 1]}'
    )
    assert run_results(body) == RunResults((NodeResult("a", "fail", "Got 1 result"),))


@given(st.binary())
def test_any_file_is_read(body: bytes) -> None:
    assert run_results(body) is None
    assert run_results(None) is None
    assert run_results(b"[" * 100_000) is None
