"""What is refused before anything is uploaded."""

from typing import Any

import pytest

from cipipe.errors import Problem, ProblemsError, RefusedError
from cipipe.stages.dags.checks.static import Rules, check

DAG = b"from airflow import DAG\n"
# Python's parser gives up on these, by RecursionError or MemoryError.
DEEP = DAG + b"x = " + b"-" * 100_000 + b"1\n"
LONG = DAG + b"x = 1" + b" + 1" * 100_000 + b"\n"


def checked(
    bodies: dict[str, bytes], sources: dict[str, bytes] | None = None, *, allow_empty: bool = False
) -> list[Problem]:
    return check(sources or bodies, bodies, Rules(source="dags", allow_empty=allow_empty))


def test_no_dag_file_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        checked({"a.py": b"x = 1", "b.sql": DAG})
    assert caught.value.id == "dags-empty"
    assert checked({"a.py": b"x = 1"}, allow_empty=True) == []


def test_a_patch_that_breaks_a_file_is_refused() -> None:
    with pytest.raises(ProblemsError) as caught:
        checked({"a.py": DAG + b"x = ("}, {"a.py": DAG + b"x = 1"})
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-not-compiling", "a.py:2")
    ]


@pytest.mark.parametrize(
    "body", [DAG + b"x = (", DAG + b"return 1", DAG + b"x = '\0'", DAG + b"x = '\xff'", DEEP, LONG]
)
def test_a_file_that_never_compiled_stops_the_deployment(body: bytes) -> None:
    with pytest.raises(ProblemsError) as caught:
        checked({"a.py": body})
    assert [found.id for found in caught.value.problems] == ["dag-not-compiling"]


@pytest.mark.parametrize("how", [{"ignored": {"a.py"}}, {"compiled_elsewhere": True}])
def test_not_compiling_is_a_warning_for_files_of_another_python(how: dict[str, Any]) -> None:
    files = {"a.py": DAG + b"x = (", "b.py": DAG}
    notes = check(files, files, Rules(source="dags", **how))
    assert [(found.id, found.where) for found in notes] == [("dag-not-compiling", "a.py:2")]


def test_an_ignored_file_has_no_dag() -> None:
    files = {"a.py": DAG + b'DAG("etl")', "old/a.py": DAG + b'DAG("etl")'}
    assert check(files, files, Rules(source="dags", ignored={"old/a.py"})) == []
    with pytest.raises(RefusedError, match="no DAG file"):
        check(files, files, Rules(source="dags", ignored=set(files)))


def test_a_dag_under_the_main_guard_is_none() -> None:
    guarded = DAG + b'if __name__ == "__main__":\n    DAG("etl")\n'
    assert checked({"a.py": DAG + b'DAG("etl")', "b.py": guarded}) == []
    with pytest.raises(ProblemsError, match="cannot be deployed"):
        checked({"a.py": DAG + b'DAG("etl")', "b.py": guarded.replace(b"==", b"!=")})


def test_warnings_of_the_compiler_stay_quiet() -> None:
    assert checked({"a.py": DAG + b"x = '\\d' is 'x'"}) == []


SAME = [
    b'DAG("etl")',
    b'with DAG(dag_id="etl", schedule=None) as dag: pass',
    b'import airflow\nd = airflow.DAG("etl")',
    b'models.DAG(schedule=None, dag_id="etl")',
    b"@dag\ndef etl(): pass",
    b"@dag()\ndef etl(): pass",
    b"@dag(schedule=None)\ndef etl(): pass",
    b'@decorators.dag(dag_id="etl")\ndef other(): pass',
    b'@dag("etl")\ndef other(): pass',
]


@pytest.mark.parametrize("one", SAME)
def test_one_id_in_two_files_names_both(one: bytes) -> None:
    with pytest.raises(ProblemsError) as caught:
        checked(
            {
                "dags/a.py": DAG + one,
                "dags/b.py": DAG + b'x = 1\nDAG("etl")',
                "dags/c.py": DAG + b'DAG("other")',
            }
        )
    (found,) = caught.value.problems
    assert found.id == "dag-id-duplicate"
    assert "dags/a.py:" in found.message
    assert "dags/b.py:3" in found.message


@pytest.mark.parametrize(
    "one",
    [
        b"DAG(NAME)",
        b'DAG(f"etl")',
        b"DAG(**kw)",
        b"DAG()",
        b"@dag(dag_id=NAME)\ndef etl(): pass",
        b'NOT_DAG("etl")',
    ],
)
def test_ids_that_are_not_literal_are_left_alone(one: bytes) -> None:
    assert checked({"a.py": DAG + one, "b.py": DAG + b'DAG("etl")'}) == []


def test_the_same_id_twice_in_one_file_is_accepted() -> None:
    assert checked({"a.py": DAG + b'DAG("etl")\nDAG("etl")'}) == []
