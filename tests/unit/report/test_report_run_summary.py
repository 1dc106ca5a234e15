"""A run as Markdown."""

from typing import Any

from cipipe.errors import StageError
from cipipe.model import Mode
from cipipe.report import run_summary
from cipipe.results import Report, Result, StageReport

DIFF = "--- a/dags/a.py\n+++ b/dags/a.py\n-CLUSTER = 'x'\n+CLUSTER = 'y'\n"


def stage(name: str, result: Result, made: str = "", **findings: Any) -> StageReport:
    return StageReport(
        name=name,
        kind="dags",
        result=result,
        reason="changed",
        detail="3 files changed",
        seconds=1.0,
        made=made,
        findings=findings,
    )


def report(*stages: StageReport) -> Report:
    return Report(
        project="shop", environment="dev", mode=Mode.VERIFY, commit="a" * 40, stages=stages
    )


def review(bucket: str | None = "b", diff: str = DIFF) -> dict[str, Any]:
    pending = {"file": "f", "line": 1, "name": "ARN", "output": "arn", "type": "string"}
    return {
        "bucket": bucket,
        "prefix": "dags/",
        "summary": {"added": 0, "changed": 1},
        "changes": ({"key": "dags/a.py", "change": "changed", "diff": diff},),
        "after_apply": (pending,),
    }


def test_a_table_and_the_diffs() -> None:
    text = run_summary.markdown(
        report(stage("iac", Result.UNCHANGED), stage("dags", Result.DONE, "1|2", dags=review()))
    )
    assert text.startswith(
        "### `shop` → `dev`\n\nCommit `aaaaaaa`, mode verify (read only).\n\n"
        "| stage | result | why | made |\n|---|---|---|---|\n"
        "| `iac` | unchanged | 3 files changed |  |\n"
        "| `dags` | **done** | 3 files changed | `1\\x7c2` |\n\n"
        "### DAGs: `s3://b/dags/`\n\n**0 added, 1 changed**\n"
    )
    assert "arn: string" in text
    assert "```diff\n--- a/dags/a.py\n+++ b/dags/a.py\n-CLUSTER = 'x'\n+CLUSTER = 'y'\n```" in text


def test_a_bucket_that_is_not_there_yet() -> None:
    text = run_summary.markdown(report(stage("dags", Result.DONE, dags=review(None))))
    assert "### DAGs: `a bucket that is not there yet: dags/`" in text


def test_an_error_is_text() -> None:
    error = StageError("tool-failed", "it broke\n```\n<b>@all")
    text = run_summary.markdown(report(stage("iac", Result.FAILED)), error)
    assert "**Error `tool-failed`**\n\n````text\nit broke\n```\n<b>@all\n````" in text


def test_it_fits_into_a_comment() -> None:
    stages = [stage(f"dags{n}", Result.DONE, dags=review(diff="+x = 1\n" * 3000)) for n in range(5)]
    whole = run_summary.markdown(report(*stages), limit=200_000)
    assert whole.count("```diff") == 5
    text = run_summary.markdown(report(*stages))
    assert len(text) <= 61_000
    assert "Cut to fit" in text
