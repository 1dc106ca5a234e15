"""A plan as lines for `$GITHUB_OUTPUT`."""

import json

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import github


def stage(name: str, status: Status, reason: Reason = Reason.CHANGED) -> StagePlan:
    return StagePlan(
        name=name,
        kind="command",
        status=status,
        reason=reason,
        detail="",
        fingerprint="0" * 64,
        deployed_fingerprint=None,
        paths=(),
        needs=(),
        steps=(),
    )


def plan(*stages: StagePlan, environment: str = "dev") -> Plan:
    return Plan(
        project="dbt",
        environment=environment,
        mode=Mode.DEPLOY,
        provider="github",
        commit="0" * 40,
        baseline=Baseline("ledger"),
        stages=stages,
    )


def parsed(text: str) -> dict[str, str]:
    """Read the file as the runner does (`FileCommandManager`, the heredoc form)."""
    values = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, delimiter = line.split("<<", 1)
        value: list[str] = []
        while (part := next(lines)) != delimiter:
            value.append(part)
        values[name] = "\n".join(value)
    return values


def test_the_outputs_of_a_plan() -> None:
    values = parsed(
        github.render(
            plan(
                stage("iac", Status.DUE),
                stage("image", Status.UNCHANGED, Reason.UNCHANGED),
                stage("dags", Status.CONDITIONAL, Reason.UPSTREAM),
                stage("default", Status.UNCHANGED, Reason.UNCHANGED),
            )
        )
    )
    assert values == {
        "environment": "dev",
        "mode": "deploy",
        "any": "true",
        "stages": '["iac", "dags"]',
        "due_iac": "true",
        "due_image": "false",
        "due_dags": "true",
        "due_default": "false",
    }


def test_nothing_due() -> None:
    values = parsed(
        github.render(
            plan(
                stage("iac", Status.UNCHANGED, Reason.UNCHANGED),
                stage("default", Status.DUE, Reason.NOTHING_DUE),
            )
        )
    )
    assert (values["any"], values["stages"], values["due_default"]) == (
        "false",
        '["default"]',
        "true",
    )


def test_hostile_names_stay_data() -> None:
    name = "x<<EOF\nany=true\nEOF\n::set-output"
    values = parsed(
        github.render(plan(stage(name, Status.DUE), environment="dev\nEOF\nany<<X\ntrue\nX"))
    )
    assert values["environment"] == "dev\nEOF\nany<<X\ntrue\nX"
    assert json.loads(values["stages"]) == [name]
    assert values["due_x__EOF_any_true_EOF___set-output"] == "true"
    assert len(values) == 5


def test_two_plans_have_two_delimiters() -> None:
    one, other = (github.render(plan(environment=name)).splitlines()[0] for name in ("dev", "live"))
    assert one != other
