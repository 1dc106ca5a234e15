"""Inputs that are small or plausible, and would take hours: each gets an answer, or an error that
says why not.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe import bounded, config
from cipipe.ci import github
from cipipe.cli.console import Console
from cipipe.errors import CipipeError, Problem, ProblemsError, UsageError
from cipipe.model import Output
from cipipe.oidc import policy
from cipipe.oidc.conditions import holds, like
from cipipe.pipeline.project import _like
from cipipe.stages.dags.checks import airflow3
from cipipe.stages.dags.checks import static as checks
from cipipe.stages.dags.local import read_outputs
from cipipe.stages.dags.markers.patch import patch, patch_all
from cipipe.stages.image.dockerfile import copy_sources
from cipipe.tools import process
from cipipe.tools.terraform import locks as terraform_locks
from support.budget import cpu_seconds

HEAD = """\
[project]
name = "shop"
default_environment = "dev"
[environments.dev]
account_id = "123456789012"
region = "eu-central-1"
role_arn = "arn:aws:iam::123456789012:role/deploy"
"""
HALF_A_MIB = 512 * 1024


def nested(depth: int, key: str = "k") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {key: value}
    return value


# --- DAG files ---


def test_a_literal_of_nested_maps_is_patched() -> None:
    source = b"X = " + b'{"k": ' * 60 + b"1" + b"}" * 60 + b"  # cipipe: x\n"
    with cpu_seconds():
        made = patch(source, "dags/a.py", {"x": Output(value=nested(60, "k"))})
        other = patch(source, "dags/a.py", {"x": Output(value=nested(60) | {"other": nested(59)})})
    assert made.body == source
    assert b"other" in other.body


def test_maps_beside_each_other_are_patched() -> None:
    deep = '{"a": {"b": {"c": 1}, "d": {}}, "e": ' * 20 + "1" + "}" * 20
    with cpu_seconds(), pytest.raises(ProblemsError, match="markers"):
        patch(
            f"X = [{deep}, {deep}, {{}}]  # cipipe: x\n".encode(),
            "dags/a.py",
            {"x": Output(value=[nested(20, "e"), 2])},
        )


SLOW = {
    "an output that is nested deep": b"X = {}  # cipipe: deep\n",
    "brackets without end": b"X = " + b"[" * 50_000 + b"]" * 50_000 + b"  # cipipe: x\n",
    "parentheses without end": b"X = "
    + b"(" * 50_000
    + b"'a'"
    + b")" * 50_000
    + b"  # cipipe: x\n",
    "signs without end": b"X = " + b"-" * 200_000 + b"1  # cipipe: x\n",
    "blanks in a marker": b"X = 1  # cipipe: x" + b" " * 400_000 + b"y\n",
    "blanks in the brackets of a marker": b"X = 1  # cipipe: x (sensitive"
    + b" " * 400_000
    + b"y\n",
    "a marker on each of many lines": b"X = 'a'  # cipipe: x\n" * 8_000,
    "formatted strings in each other": b"x = "
    + b'f"{' * 5000
    + b"1"
    + b'}"' * 5000
    + b"\nX = 'a'  # cipipe: x\n",
    "specifications in each other": b'x = f"{x:' + b"{x:" * 50_000 + b"\nX = 'a'  # cipipe: x\n",
    "strings that do not end": b"x = " + b'"""\\' * 100_000 + b"\nX = 'a'  # cipipe: x\n",
    "many targets of one with": b"with (X as b"
    + b", X as b" * 15_000
    + b"):\n    pass\nX = 'a'  # cipipe: x\n",
    "a file of 20 MB": b"x = 1\n" * (20 * 170_000) + b"X = 1  # cipipe: x\n",
    "a line of 10 MB": b"X = '" + b"a" * (10 << 20) + b"'  # cipipe: x\n",
}


@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_a_dag_file_is_patched_or_refused(source: bytes) -> None:
    outputs = {"x": Output(value="v"), "deep": Output(value=nested(5000))}
    with cpu_seconds(20):
        try:
            patch_all({"dags/a.py": source}, outputs)
            wrong: tuple[Problem, ...] = ()
        except ProblemsError as error:
            wrong = error.problems
    assert all(problem.id.startswith("dag-") for problem in wrong)


CHECKED = {
    "calls in a chain": (b"a" + b".a()" * 700 + b"\n") * 20,
    "names in a chain": b"a" + b".a" * 2000 + b"\n",
    "a name that grows": b"a = a.b()\n" * 10_000,
    "functions in each other": b"".join(b" " * i + b"def f():\n" for i in range(99))
    + b" " * 99
    + b"pass\n",
    "a file of 20 MB": b"x = 1\n" * (20 * 170_000),
}


@pytest.mark.parametrize("source", CHECKED.values(), ids=CHECKED)
def test_a_dag_file_is_checked_or_reported(source: bytes) -> None:
    with cpu_seconds(20):
        try:
            notes = checks.check(
                {"a.py": source},
                {"a.py": source},
                checks.Rules(source="dags", allow_empty=True, airflow_version="3.0.1"),
            )
        except ProblemsError as error:
            notes = list(error.problems)
    assert {note.id for note in notes} <= {"dag-not-compiling", "dag-file-too-large"}


def test_a_file_that_is_too_large_is_reported() -> None:
    large = b"#" * (HALF_A_MIB + 1)
    rules = checks.Rules(source="dags", allow_empty=True)
    (note,) = checks.check({"a.py": large}, {"a.py": large}, rules)
    assert (note.id, note.where) == ("dag-file-too-large", "a.py")
    with pytest.raises(ProblemsError) as caught:
        patch(large + b"\nX = 1  # cipipe: x\n", "a.py", {"x": Output(value=1)})
    assert [problem.id for problem in caught.value.problems] == ["dag-file-too-large"]


def test_findings_come_in_the_order_of_the_file() -> None:
    import ast

    text = "def f():\n    import airflow.contrib\nimport airflow.operators.dummy\n"
    assert [problem.where for problem in airflow3.findings(ast.parse(text), "a.py")] == [
        "a.py:2",
        "a.py:3",
    ]


# --- cipipe.toml ---

TOML = {
    "brackets": ("x = " + "[" * 200_000, "config-not-toml"),
    "tables in each other": ("x = " + "{a = " * 100_000, "config-not-toml"),
    "a dotted key": ("a." * 100_000 + "b = 1", "config-not-toml"),
    "a dotted key with blanks": ("a . " * 100_000 + "b = 1", "config-not-toml"),
    "a dotted header": ("[" + "a." * 100_000 + "b]", "config-not-toml"),
    "10 MB": ("x = 1\n" * 1_700_000, "config-not-toml"),
    "many unknown keys": (
        "".join(f"a{number} = 1\n" for number in range(40_000)),
        "config-invalid",
    ),
    "a key without end": ("a" * 400_000 + " = 1", "config-invalid"),
    "many stages": (
        "".join(f"[stages.s{number}]\n" for number in range(20_000)),
        "config-too-large",
    ),
    "many environments": (
        "".join(f"[environments.e{number}]\n" for number in range(20_000)),
        "config-too-large",
    ),
}


@pytest.mark.parametrize(("text", "id"), TOML.values(), ids=TOML)
def test_a_configuration_is_refused(text: str, id: str, capsys: pytest.CaptureFixture[str]) -> None:
    with cpu_seconds(), pytest.raises(UsageError) as caught:
        config.load((HEAD + text).encode())
    assert caught.value.id == id
    with cpu_seconds():
        Console({}).error(caught.value)
    assert len(capsys.readouterr().err.splitlines()) <= 50


def test_dots_in_a_string_are_no_dotted_key() -> None:
    text = HEAD + f'[stages.a]\nkind = "command"\npaths = ["a"]\nrun = [["{"a." * 100}"]]\n'
    assert "a" in config.load(text.encode()).stages


# --- JSON ---


@pytest.mark.parametrize("depth", [bounded.DEEPEST + 1, 950, 100_000])
def test_json_that_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        bounded.loads("[" * depth + "]" * depth)


@pytest.mark.parametrize(
    "text", ["[" * 100 + "]" * 100, "[" * 100 + "1" + "]" * 100, "[[], {}]" + " " * 1000]
)
def test_json_within_the_limits_is_read(text: str) -> None:
    assert bounded.loads(text) == json.loads(text)


def test_a_file_without_end_is_not_read_to_it() -> None:
    with cpu_seconds(), pytest.raises(ValueError, match="larger than 16384 KiB"):
        bounded.read(Path("/dev/zero"))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"x": {"value": ' + "[" * 950 + "]" * 950 + "}}", " " * (17 << 20)]
)
def test_outputs_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "outputs.json").write_text(text)
    with cpu_seconds(), pytest.raises(UsageError) as caught:
        read_outputs(tmp_path / "outputs.json")
    assert caught.value.id == "dags-outputs-unreadable"


DEEP = '{"a": ' * 5000 + "1" + "}" * 5000


@pytest.mark.parametrize("shape", [Any, dict[str, Output], dict[str, Any]])
def test_a_document_that_is_nested_too_deep_cannot_be_decoded(shape: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        bounded.decode(DEEP, type=shape)


def test_what_a_tool_prints_is_refused() -> None:
    printed = process.Completed(("terraform", "show"), 0, DEEP.encode(), b"")
    with pytest.raises(CipipeError, match="did not print the JSON"):
        process.document(printed)


@pytest.mark.parametrize(
    "blanks", [" " * 200_000, "\n" * 200_000, "\n  ID:" * 30_000, "  ID: x" + " " * 200_000 + "y"]
)
def test_the_info_of_a_lock_is_read_at_once(blanks: str) -> None:
    with cpu_seconds():
        found = terraform_locks.info(f"Lock Info:\n{blanks}\n  Who:  me  \n")
    assert found is None or found.who == "me"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"repository": ' * 950 + "1" + "}" * 950, " " * (33 << 20)]
)
def test_an_event_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text(text)
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
    }
    with cpu_seconds(), pytest.raises(CipipeError) as caught:
        github.context(env)
    assert caught.value.id == "ci-event-unreadable"


def test_a_policy_that_aws_would_never_take_is_refused() -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "*",
        "Condition": {"StringLike": {"a": ["*a"] * 5000}},
    }
    with cpu_seconds(), pytest.raises(UsageError, match="larger than 16 KiB"):
        policy.parse(json.dumps({"Statement": [statement]}))


# --- patterns ---


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 7000 + "b", "*" + "a" * 15_000 + "b", "*" + "?a" * 7000 + "b", "?*" * 7000 + "b"],
)
def test_a_condition_with_many_wildcards_is_evaluated(pattern: str) -> None:
    with cpu_seconds():
        assert not like("a" * 30_000, pattern)
        assert like("a" * 30_000 + "b", pattern)


def test_a_condition_of_very_many_values_is_not_known() -> None:
    many = [f"*a*{number}" for number in range(2000)]
    with cpu_seconds():
        assert holds("ForAnyValue:StringLike", many, ["b" * 20] * 2000) is None
        assert holds("StringLike", many, ["xa7"]) is True


def test_a_branch_is_held_against_many_stars() -> None:
    with cpu_seconds():
        assert not _like("a" * 5000, "*a" * 60 + "b")
        assert _like("a" * 5000 + "b", "*a" * 60 + "b")


def test_a_variable_that_doubles_stops_doubling() -> None:
    lines = ["FROM x", "ENV A=abcdefgh", *["ENV A=$A$A"] * 60, "COPY $A b ./"]
    with cpu_seconds():
        sources = [source.path for source in copy_sources("\n".join(lines).encode(), {})]
    assert max(map(len, sources)) <= 4096
    assert "b" in sources
