"""Which files are uploaded, in which order, and what their settings may be."""

import msgspec
import pytest

from cipipe.errors import ProblemsError
from cipipe.model import Effect, Mode
from cipipe.stages import dags
from cipipe.stages.dags.files import counts, in_order, is_dag, relative, select
from cipipe.stages.dags.mwaa.extras import extras
from cipipe.stages.settings import Reference, Stage
from cipipe.tools.git.client import Entry
from support.contexts import stage_context

DAG = b"from airflow import DAG"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x.py", True),
        ("sql/a.sql", True),
        (".airflowignore", True),
        ("team/.airflowignore", True),
        # Only what pytest collects is a test.
        ("test_data.sql", True),
        ("testing.py", True),
        ("latest.py", True),
        ("test_connection.py", False),
        ("team/connection_test.py", False),
        ("conftest.py", False),
        ("contests/x.py", True),
        # Hidden files, caches, folders of tests.
        (".hidden", False),
        (".git/config", False),
        (".venv/x.py", False),
        ("team/.hidden/x.py", False),
        ("__pycache__/x.cpython-311.pyc", False),
        ("x.pyc", False),
        ("tests/test_x.py", False),
        ("team/test/x.py", False),
    ],
)
def test_which_files_are_uploaded(path: str, expected: bool) -> None:
    assert counts(path) is expected


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("x.py", DAG, True),
        ("x.py", b"import AirFlow; dAg", True),
        ("x.py", b"import airflow", False),
        ("x.py", b"dag", False),
        ("x.sql", DAG, False),
    ],
)
def test_which_files_airflow_searches_for_dags(path: str, body: bytes, expected: bool) -> None:
    assert is_dag(path, body) is expected


def test_helpers_come_first() -> None:
    assert in_order({"b.py": DAG, "a.py": DAG, "z.py": b"", "q.sql": b""}) == (
        ["q.sql", "z.py"],
        ["a.py", "b.py"],
    )


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("dags/x.py", "dags", "x.py"),
        ("dags/x.py", "dags/", "x.py"),
        ("dagsx.py", "dags", None),
        ("a/b/x.py", "a/b", "x.py"),
        ("x.py", ".", "x.py"),
    ],
)
def test_relative(path: str, source: str, expected: str | None) -> None:
    assert relative(path, source) == expected


def test_what_cannot_be_uploaded_is_reported() -> None:
    entries = [
        Entry(b"100644", b"1", b"dags/a.py"),
        Entry(b"120000", b"2", b"dags/link.py"),
        Entry(b"160000", b"3", b"dags/module"),
        Entry(b"100644", b"4", b"dags/\xff.py"),
        Entry(b"120000", b"5", b"dags/tests/link.py"),
        Entry(b"100644", b"6", b"other/a.py"),
    ]
    selected, wrong = select(entries, "dags")
    assert list(selected) == ["dags/a.py"]
    assert [(found.id, found.where) for found in wrong] == [
        ("dag-file-not-regular", "dags/link.py"),
        ("dag-file-not-regular", "dags/module"),
        ("dag-file-name", "dags/\\xff.py"),
    ]


def stage(**settings: object) -> Stage[dags.Settings]:
    table = {"source": "dags", "bucket": {"output": "dags_bucket"}, **settings}
    return Stage("dags", "dags", msgspec.convert(table, dags.Settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"source": ".", "prefix": "", "bucket": "my-bucket", "airflow_version": "2.10.3"}, []),
        ({"source": "a/b/"}, []),
        ({"source": "../dags"}, [("dags-source", "source")]),
        ({"source": "/dags"}, [("dags-source", "source")]),
        ({"source": ""}, [("dags-source", "source")]),
        ({"prefix": "/dags/"}, [("dags-prefix", "prefix")]),
        ({"prefix": "dags"}, [("dags-prefix", "prefix")]),
        ({"prefix": "a//"}, [("dags-prefix", "prefix")]),
        ({"bucket": "s3://my-bucket/dags"}, [("dags-bucket", "bucket")]),
        ({"airflow_version": "v2"}, [("dags-airflow-version", "airflow_version")]),
    ],
)
def test_settings(settings: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert [(found.id, found.where) for found in dags.problems(stage(**settings))] == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"prefix": "dags/team/"}, []),
        ({}, {"bucket": "another-one"}, []),
        ({"requirements": "r.txt"}, {"prefix": "b/", "plugins": "p"}, []),
        ({}, {}, [("dags-prefix-shared", "stages.b.prefix")]),
        ({"prefix": "x/"}, {"prefix": "x/"}, [("dags-prefix-shared", "stages.b.prefix")]),
        (
            {"requirements": "r.txt", "plugins": "p"},
            {"prefix": "b/", "requirements": "s.txt", "plugins": "q"},
            [
                ("dags-extra-shared", "stages.b.requirements"),
                ("dags-extra-shared", "stages.b.plugins"),
            ],
        ),
    ],
)
def test_stages_that_would_write_the_same_keys(
    first: dict[str, object], second: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    both = [
        Stage(name, "dags", stage(**settings).settings)
        for name, settings in (("a", first), ("b", second))
    ]
    assert [(found.id, found.where) for found in dags.clashes(both)] == expected


@pytest.mark.parametrize("mode", Mode)
def test_titles_and_effects(mode: Mode) -> None:
    steps = dags.steps(stage(), mode, tag="0" * 20)
    assert [(step.title, step.effect) for step in steps] == {
        Mode.VERIFY: [
            ("patch dags/", Effect.READ),
            ("compare with s3://{dags_bucket}/dags/", Effect.READ),
            ("check dags/", Effect.READ),
        ],
        Mode.DEPLOY: [
            ("patch dags/", Effect.READ),
            ("compare with s3://{dags_bucket}/dags/", Effect.READ),
            ("check dags/", Effect.READ),
            ("upload to s3://{dags_bucket}/dags/", Effect.WRITE),
            ("delete what is gone from s3://{dags_bucket}/dags/", Effect.WRITE),
        ],
        Mode.DESTROY: [
            ("list what dags owns in s3://{dags_bucket}/dags/", Effect.READ),
            ("delete every version of it in s3://{dags_bucket}/dags/", Effect.DESTROY),
        ],
    }[mode]


@pytest.mark.parametrize(
    ("bucket", "shown"),
    [("plain", "plain"), (Reference(env="B"), "{B}"), (Reference(fingerprint="iac"), "{iac}")],
)
def test_titles_show_references(bucket: str | Reference, shown: str) -> None:
    settings = dags.Settings(source="dags", bucket=bucket)
    steps = dags.steps(Stage("dags", "dags", settings), Mode.DEPLOY, tag="")
    assert steps[3].title == f"upload to s3://{shown}/dags/"


def test_no_tools_are_needed() -> None:
    assert dags.tools(stage()) == ()


def test_names_in_plugins_are_utf_8() -> None:
    names = [b"plugins/\xff.py", b"plugins/\xc3\xa9.py"]
    settings = dags.Settings(source="dags", bucket="b-b-b", plugins="plugins")
    entries = tuple(Entry(b"100644", b"0" * 40, name) for name in names)
    context = stage_context(stage=Stage("dags", "dags", settings), entries=entries)
    with pytest.raises(ProblemsError) as caught:
        extras(context)
    assert [(found.id, found.where) for found in caught.value.problems] == [
        ("dag-file-name", "plugins/\\xff.py")
    ]
