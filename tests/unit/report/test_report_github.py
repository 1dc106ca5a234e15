"""A plan as lines for `$GITHUB_OUTPUT`."""

import json

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import github


def stage(
    name: str,
    status: Status = Status.DUE,
    reason: Reason = Reason.CHANGED,
    needs: tuple[str, ...] = (),
) -> StagePlan:
    return StagePlan(
        name=name,
        kind="command",
        status=status,
        reason=reason,
        detail="",
        fingerprint="0" * 64,
        deployed_fingerprint=None,
        paths=(),
        needs=needs,
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
                stage("dags", Status.CONDITIONAL, Reason.UPSTREAM, needs=("iac", "image")),
                stage("default", Status.UNCHANGED, Reason.UNCHANGED),
            )
        )
    )
    assert values == {
        "environment": "dev",
        "mode": "deploy",
        "any": "true",
        "stages": '["iac", "dags"]',
        "waves": '[["iac"], ["dags"]]',
        "approval": "[]",
    }


def test_what_is_due_and_needs_an_approval() -> None:
    made = plan(stage("net", Status.UNCHANGED, Reason.UNCHANGED), stage("iac"), stage("dags"))
    values = parsed(github.render(made, approval={"net", "iac"}))
    assert values["approval"] == '["iac"]'


def waves(*stages: StagePlan) -> list[list[str]]:
    found = json.loads(parsed(github.render(plan(*stages)))["waves"])
    assert isinstance(found, list)
    return found


def test_waves_are_levels_of_what_is_due() -> None:
    assert waves(
        stage("network"),
        stage("api", needs=("network",)),
        stage("dbt", needs=("network",)),
        stage("seeds"),
        stage("dags", needs=("dbt", "network")),
        stage("report", needs=("seeds",)),
    ) == [["network", "seeds"], ["api", "dbt", "report"], ["dags"]]


def test_a_stage_that_stays_as_it_is_keeps_the_order_of_its_neighbours() -> None:
    unchanged = Status.UNCHANGED
    same = Reason.UNCHANGED
    assert waves(
        stage("network", unchanged, same),
        stage("dbt", needs=("network",)),
        stage("tests", unchanged, same, needs=("dbt",)),
        stage("dags", needs=("tests",)),
    ) == [["dbt"], ["dags"]]


def test_a_stage_that_was_not_selected_is_not_waited_for() -> None:
    assert waves(stage("dags", needs=("iac",))) == [["dags"]]


def test_what_always_runs_comes_with_the_default_stage() -> None:
    """Both have jobs of their own then, because the last one runs only what is due."""
    always = stage("check", Status.DUE, Reason.FORCED)
    assert waves(always, stage("default", Status.DUE, Reason.NOTHING_DUE)) == [["check", "default"]]


def test_nothing_due() -> None:
    values = parsed(
        github.render(
            plan(
                stage("iac", Status.UNCHANGED, Reason.UNCHANGED),
                stage("default", Status.DUE, Reason.NOTHING_DUE),
            )
        )
    )
    assert (values["any"], values["stages"], values["waves"]) == ("false", '["default"]', "[]")


def test_hostile_names_stay_data() -> None:
    name = "x<<EOF\nany=true\nEOF\n::set-output"
    values = parsed(
        github.render(plan(stage(name, Status.DUE), environment="dev\nEOF\nany<<X\ntrue\nX"))
    )
    assert values["environment"] == "dev\nEOF\nany<<X\ntrue\nX"
    assert json.loads(values["stages"]) == [name]
    assert json.loads(values["waves"]) == [[name]]
    assert len(values) == 6


def test_two_plans_have_two_delimiters() -> None:
    one, other = (github.render(plan(environment=name)).splitlines()[0] for name in ("dev", "live"))
    assert one != other
