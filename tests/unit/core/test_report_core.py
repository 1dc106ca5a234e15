"""Plans, reports and errors as text and JSON: hostile names break no output, and no terminal acts
on them.
"""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cipipe.errors import Problem, ProblemsError, UsageError
from cipipe.model import Baseline, FailedAttempt, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import json as as_json
from cipipe.report import text as as_text
from cipipe.results import EnvironmentStatus, Report, Result, StageReport, StageStatus

HOSTILE = (
    b"a\nb",
    b"\x1b]0;title\x07",
    b"caf\xe9.sql",
    b"$(id)",
    b'"quoted"',
    b"-rf",
    "gr\u00fcn\u202e.sql".encode(),
    b"a\rb",
)

FAILURE = FailedAttempt(
    error="tool-failed",
    at="2026-01-02T03:04:05.000000+00:00",
    commit="e" * 40,
    ref="main",
    provider="gitlab",
    sequence=9,
    pipeline_url="https://ci/\x1b[2J",
)


def stage(name: str = "dags", status: Status = Status.DUE, **changes: Any) -> StagePlan:
    given: dict[str, Any] = {
        "kind": "dags",
        "reason": Reason.CHANGED,
        "detail": "8 files changed",
        "fingerprint": "f" * 64,
        "deployed_fingerprint": None,
        "paths": HOSTILE,
        "needs": ("iac",),
        "steps": ("upload\x1b[31m",),
        **changes,
    }
    return StagePlan(name=name, status=status, **given)


def plan(*stages: StagePlan, **changes: Any) -> Plan:
    given: dict[str, Any] = {"baseline": Baseline("ledger"), "mode": Mode.DEPLOY, **changes}
    return Plan(
        project="shop",
        environment="dev",
        provider="gitlab",
        commit="c" * 40,
        stages=stages,
        **given,
    )


def test_a_plan_as_json() -> None:
    document = json.loads(as_json.plan(plan(stage(), warnings=("w",))))
    assert list(document) == [
        "schema",
        "project",
        "environment",
        "mode",
        "provider",
        "commit",
        "baseline",
        "stages",
        "warnings",
    ]
    assert document["schema"] == 1
    assert document["baseline"] == {"kind": "ledger", "revision": None}
    (one,) = document["stages"]
    assert set(one) == {
        "name",
        "kind",
        "status",
        "reason",
        "detail",
        "fingerprint",
        "deployed_fingerprint",
        "paths",
        "needs",
        "steps",
        "last_failure",
    }
    assert (one["status"], one["reason"], one["deployed_fingerprint"]) == ("due", "changed", None)


def test_a_plan_says_that_the_last_attempt_failed() -> None:
    failed = plan(stage(last_failure=FAILURE))
    (line,) = [line for line in as_text.plan(failed).splitlines() if "attempt" in line]
    assert line.strip().startswith("the last attempt failed: tool-failed (commit eeeeeee, ")
    assert line.endswith(" d ago, https://ci/\\x1b[2J)")
    (one,) = json.loads(as_json.plan(failed))["stages"]
    assert one["last_failure"]["error"] == "tool-failed"


def test_paths_survive_json() -> None:
    (one,) = json.loads(as_json.plan(plan(stage())))["stages"]
    assert one["paths"][2] == {"base64": base64.b64encode(b"caf\xe9.sql").decode()}
    back = [
        base64.b64decode(p["base64"]) if isinstance(p, dict) else p.encode() for p in one["paths"]
    ]
    assert tuple(back) == HOSTILE


def test_text_shows_control_characters_and_does_not_obey_them() -> None:
    shown = as_text.plan(plan(stage()))
    assert all(line.isprintable() for line in shown.splitlines())
    assert "\r" not in shown
    for word in (
        "a\\nb",
        "\\x1b]0;title\\x07",
        "caf\\xe9.sql",
        "$(id)",
        "gr\u00fcn\\u202e.sql",
        "a\\rb",
        "upload\\x1b[31m",
    ):
        assert word in shown


def test_text_of_a_plan() -> None:
    stages = (
        stage(
            "iac",
            paths=(b"terraform/main.tf",),
            steps=("terraform plan",),
            detail="1 file changed since ddddddd",
        ),
        stage(
            "image",
            Status.CONDITIONAL,
            reason=Reason.UPSTREAM,
            detail="due if the outputs of iac change",
            paths=(),
            steps=("push",),
        ),
        stage(
            "default",
            Status.UNCHANGED,
            reason=Reason.UNCHANGED,
            detail="runs when nothing else is due",
            paths=(),
            steps=(),
        ),
    )
    assert as_text.plan(
        plan(*stages, mode=Mode.VERIFY, baseline=Baseline("revision", "e" * 40))
    ) == (
        "shop → dev  commit ccccccc, mode verify (read only), compared with commit eeeeeee\n"
        "\n"
        "  iac      due          1 file changed since ddddddd (changed)\n"
        "             terraform/main.tf\n"
        "             - terraform plan\n"
        "  image    conditional  due if the outputs of iac change (upstream)\n"
        "             - push\n"
        "  default  unchanged    runs when nothing else is due (unchanged)\n"
        "\n"
        "1 due, 1 conditional, 1 unchanged.\n"
    )


def test_long_lists_of_paths_are_cut_and_say_so() -> None:
    shown = as_text.plan(
        plan(stage(paths=tuple(b"dags/%d.py" % n for n in range(as_text.PATHS_SHOWN + 5))))
    )
    assert "dags/9.py" in shown
    assert "dags/10.py" not in shown
    assert "… and 5 more" in shown


def test_a_plan_without_stages() -> None:
    assert "0 due, 0 conditional, 0 unchanged." in as_text.plan(plan(baseline=Baseline("none")))


REPORT = Report(
    project="shop",
    environment="dev",
    mode=Mode.DEPLOY,
    commit="c" * 40,
    stages=(
        StageReport(
            name="iac",
            kind="terraform",
            result=Result.DONE,
            reason="changed",
            detail="1 file changed",
            seconds=12.34,
            made="2 added",
        ),
        StageReport(
            name="image",
            kind="image",
            result=Result.FAILED,
            reason="changed",
            detail="it broke\x1b[2J\nbadly",
            seconds=0.0,
        ),
        StageReport(
            name="dags",
            kind="dags",
            result=Result.NOT_RUN,
            reason="changed",
            detail="needs image",
            seconds=0.0,
        ),
    ),
)


def test_a_report_as_text_has_a_line_per_stage() -> None:
    lines = as_text.report(REPORT).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["stage", "result"],
        ["iac", "done"],
        ["image", "failed"],
        ["dags", "not-run"],
    ]
    assert "it broke\\x1b[2J\\nbadly" in lines[2]
    assert "12.3" in lines[1]
    assert REPORT.failed


def test_a_narrow_terminal_cuts_the_reason_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = Report(
        project="shop",
        environment="dev",
        mode=Mode.DEPLOY,
        commit="c" * 40,
        stages=(
            StageReport(
                name="iac",
                kind="terraform",
                result=Result.DONE,
                reason="x",
                detail="y" * 200,
                seconds=1.0,
                made="made",
            ),
        ),
    )
    line = as_text.report(long).splitlines()[1]
    assert line.startswith("iac")
    assert line.endswith("made")
    assert len(line) <= 60
    assert "…" in line


def test_a_report_as_json() -> None:
    document = json.loads(as_json.report(REPORT, UsageError("some-id", "message", where="x")))
    assert (document["schema"], document["failed"]) == (1, True)
    assert document["error"] == {"id": "some-id", "message": "message", "hint": None, "where": "x"}
    assert document["stages"][0]["seconds"] == 12.34
    assert json.loads(as_json.report(REPORT, None))["error"] is None


def test_an_error_as_json() -> None:
    assert json.loads(as_json.error(UsageError("some-id", "what", hint="do", where="there"))) == {
        "schema": 1,
        "error": {"id": "some-id", "message": "what", "hint": "do", "where": "there"},
    }
    several = ProblemsError(
        "x", "2 problems", (Problem("p", "m", "f:1"), Problem("q", "n", "f:2", "h"))
    )
    assert json.loads(as_json.error(several))["error"]["problems"] == [
        {"id": "p", "message": "m", "hint": None, "where": "f:1"},
        {"id": "q", "message": "n", "hint": "h", "where": "f:2"},
    ]


def test_a_status() -> None:
    there = StageStatus(
        name="iac",
        kind="terraform",
        state="deployed",
        commit="d" * 40,
        ref="main\x1b[2J",
        pipeline_url="https://ci/7",
        finished_at="2026-01-02T03:04:05+00:00",
        fingerprint="f" * 64,
        drift=False,
        last_failure=FAILURE,
    )
    absent = StageStatus(
        name="dags",
        kind="dags",
        state="never-deployed",
        commit=None,
        ref=None,
        pipeline_url=None,
        finished_at=None,
        fingerprint=None,
        drift=True,
    )
    environments = [EnvironmentStatus("dev", "1" * 12, "eu-central-1", (there, absent))]
    lines = as_text.status(environments, "c" * 40).splitlines()
    assert lines[0] == "dev  account 111111111111, eu-central-1"
    assert lines[2].split()[:4] == ["iac", "deployed", "ddddddd", "main\\x1b[2J"]
    assert lines[3].split() == ["dags", "never-deployed", "–", "–", "–", "differs", "–"]
    assert lines[4].startswith("  iac: the last attempt failed: tool-failed (commit eeeeeee, ")
    assert lines[4].endswith(" d ago, https://ci/\\x1b[2J)")
    assert lines[-1] == "this commit: ccccccc"
    document = json.loads(as_json.status(environments, "c" * 40))
    assert [s["drift"] for s in document["environments"][0]["stages"]] == [False, True]
    assert document["environments"][0]["stages"][0]["last_failure"]["error"] == "tool-failed"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, "–"),
        ("2026-01-02T03:04:05+00:00", "0 s"),
        ("2026-01-02T03:03:06+00:00", "59 s"),
        ("2026-01-02T03:03:05+00:00", "1 min"),
        ("2026-01-02T00:04:06+00:00", "2 h"),
        ("2025-12-31T03:04:05+00:00", "2 d"),
        ("2026-01-02T03:05:00+00:00", "0 s"),
        ("2026-01-02T05:04:05+02:00", "0 s"),
    ],
)
def test_an_age(moment: str | None, expected: str) -> None:
    assert as_text.age(moment, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == expected
