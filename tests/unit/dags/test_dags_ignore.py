"""`.airflowignore`, as Airflow reads it in both of its syntaxes."""

import pytest

from cipipe.stages.dags.checks.airflowignore import ignored
from cipipe.stages.dags.checks.ignore_expressions import re2_reads, uses_re2
from support.budget import cpu_seconds

FILES = (
    "a.py",
    "old/a.py",
    "old/new/b.py",
    "team/etl.py",
    "team/etl_old.py",
    "team/old/c.py",
    "dbt/x.py",
)


def named(files: dict[str, str], version: str | None, root: str = "", **env: str) -> set[str]:
    bodies = dict.fromkeys(FILES, b"") | {path: text.encode() for path, text in files.items()}
    return set(ignored(bodies, version=version, env=env, root=root).paths)


OLD = {"old/a.py", "old/new/b.py"}


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        *[
            (line, False)
            # Lookaround, named references, back-references, possessive quantifiers.
            for line in ("^(?!old)", "(?<=team/)old", "(?P<x>o)ld(?P=x)", "(t)eam/e\\1", "old/.*+")
        ],
        *[
            (line, True)
            for line in (
                # The same characters, escaped or in a class.
                "old\\++",
                "[*+]+new",
                "[]*+]",
                "\\(?!",
                "(?:old|new)",
                "(?i)OLD",
                "old\\\\1",
            )
        ],
    ],
)
def test_what_re2_reads(line: str, reads: bool) -> None:
    assert re2_reads(line) is reads


@pytest.mark.parametrize("version", ["2.7.0", "2.10.3", None])
def test_what_re2_does_not_read_is_left_out(version: str | None) -> None:
    found = ignored({"old/a.py": b"", ".airflowignore": b"^(?!team)"}, version=version, env={})
    assert found.paths == set()
    assert [problem.where for problem in found.problems] == [".airflowignore"]


def test_airflow_uses_re2_since_2_7() -> None:
    assert [uses_re2(version) for version in ("2.6.3", "2.7", "3.0.1", "2")] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("line", ["old\\", "old\\#new", "!"])
def test_a_broken_glob_is_reported(line: str) -> None:
    (problem,) = ignored(
        {"old/a.py": b"", ".airflowignore": line.encode()}, version="3.0.0", env={}
    ).problems
    assert "stops Airflow" in problem.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("old/", OLD | {"team/old/c.py"}),
        ("^old", OLD),
        # Comments, and expressions that Airflow leaves out.
        ("# old\n\n", set()),
        ("dbt # all of it", {"dbt/x.py"}),
        ("_old\\.py$", {"team/etl_old.py"}),
        ("[", set()),
        ("[\n^team/etl_", {"team/etl_old.py"}),
        ("old/\r\ndbt\r\n", OLD | {"team/old/c.py", "dbt/x.py"}),
        (
            "a?\\.py$",
            {"a.py", "old/a.py"}
            | {"old/new/b.py", "team/etl.py", "team/etl_old.py", "team/old/c.py", "dbt/x.py"},
        ),
    ],
)
def test_regular_expressions(text: str, expected: set[str]) -> None:
    assert named({".airflowignore": text}, "2.10.3") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Folders, anchored or not.
        ("old/", OLD | {"team/old/c.py"}),
        ("/old/", OLD),
        ("old/a.py", {"old/a.py"}),
        ("*_old.py", {"team/etl_old.py"}),
        ("**/old/**", OLD | {"team/old/c.py"}),
        # The last rule decides, but nothing comes back out of an ignored folder.
        ("team/*\n!team/etl.py", {"team/etl_old.py", "team/old/c.py"}),
        ("!team/etl.py\nteam/*", {"team/etl.py", "team/etl_old.py", "team/old/c.py"}),
        ("team/\n!team/etl.py", {"team/etl.py", "team/etl_old.py", "team/old/c.py"}),
        # Question marks and classes.
        ("?.py", {"a.py", "old/a.py", "old/new/b.py", "team/old/c.py", "dbt/x.py"}),
        ("[xb].py", {"old/new/b.py", "dbt/x.py"}),
        ("[!xb].py", {"a.py", "old/a.py", "team/old/c.py"}),
        # A slash at the end matches folders only; comments and a lone slash match nothing.
        ("a.py/", set()),
        ("# old/\n\n/", set()),
        ("old/**/b.py", {"old/new/b.py"}),
        ("\\a.py", {"a.py", "old/a.py"}),
    ],
)
def test_globs(text: str, expected: set[str]) -> None:
    assert named({".airflowignore": text}, "3.0.6") == expected


def test_a_file_in_a_folder_applies_below_it() -> None:
    assert named({"team/.airflowignore": "old"}, "2.10.3") == {"team/etl_old.py", "team/old/c.py"}
    assert named({"team/.airflowignore": "/old/"}, "3.0.6") == {"team/old/c.py"}
    assert (
        named({".airflowignore": "*_old.py", "team/.airflowignore": "!etl_old.py"}, "3.0.6")
        == set()
    )


def test_expressions_match_the_path_from_the_dags_folder() -> None:
    assert named({".airflowignore": "^shop/old"}, "2.10.3", "shop/") == OLD


def test_the_syntax_is_that_of_the_version_and_of_its_option() -> None:
    glob = {".airflowignore": "*_old.py"}
    expression = {".airflowignore": "_old[.]py$"}
    option = "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"
    assert named(glob, "2.10.3") == named(expression, "3.0.6") == set()
    assert (
        named(glob, "2.10.3", **{option: "glob"})
        == named(expression, "3.0.6", **{option: "regexp"})
        != set()
    )
    assert named(glob, None) == named(expression, None) == {"team/etl_old.py"}
    assert named({".airflowignore": "team/*\n!team/etl.py"}, None) == {
        "team/etl_old.py",
        "team/old/c.py",
    }


def test_an_invalid_expression_is_reported() -> None:
    found = ignored({".airflowignore": b"old/\n(", "old/a.py": b""}, version="2.10.3", env={})
    assert found.paths == {"old/a.py"}
    assert [(problem.id, problem.where) for problem in found.problems] == [
        ("dag-ignore-rule", ".airflowignore")
    ]


@pytest.mark.parametrize(
    "pattern", ["*a" * 60 + "b", "**/" * 60 + "b", "*[a]" * 60 + "b", "**/a/" * 60 + "b"]
)
def test_globs_match_in_linear_time(pattern: str) -> None:
    with cpu_seconds():
        bodies = {".airflowignore": pattern.encode(), "a" * 3000: b"", "a/" * 1000 + "c": b""}
        assert ignored(bodies, version="3.0.6", env={}).paths == frozenset()
