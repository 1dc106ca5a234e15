"""Configurations with thousands of stages, environments and problems."""

import json

import pytest

from cipipe import config
from cipipe.cli.console import Console
from cipipe.config.views import stages_of, upstream
from cipipe.errors import ProblemsError
from support.budget import cpu_seconds
from support.configurations import HEAD, IAC, command, load

STAGES = 2_000


def test_the_first_problems_are_shown_and_the_others_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = HEAD + "".join(command(f"s{number}", colour="1") for number in range(1_000))
    with cpu_seconds(), pytest.raises(ProblemsError) as caught:
        load(text)

    Console({}).error(caught.value)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "error: cipipe.toml has 1000 problems"
    where = [line for line in shown if line.startswith("  cipipe.toml:")]
    assert len(where) == 20
    assert "stages.s0.colour" in where[0]
    assert "stages.s19.colour" in where[-1]
    assert "  … and 980 more" in shown

    Console({}, machine=True).error(caught.value)
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [problem["where"].split(": ")[1] for problem in problems] == [
        f"stages.s{number}.colour" for number in range(1_000)
    ]


def test_no_count_where_all_problems_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = HEAD + "".join(command(f"s{number}", colour="1") for number in range(20))
    with pytest.raises(ProblemsError) as caught:
        load(text)
    Console({}).error(caught.value)
    assert "more" not in capsys.readouterr().err


def test_names_that_are_nowhere_among_thousands() -> None:
    text = HEAD + "".join(command(f"s{n}", needs=f'["t{n}"]') for n in range(STAGES))
    with cpu_seconds(), pytest.raises(ProblemsError) as caught:
        load(text)
    first = caught.value.problems[0]
    assert len(caught.value.problems) == STAGES
    assert first.hint is not None
    assert first.hint.startswith("There is: s0, s1, ")
    assert first.hint.endswith(", s19, … and 1980 more")


def test_thousands_of_stages() -> None:
    text = HEAD + IAC
    for number in range(STAGES):
        text += f"""
[stages.s{number}]
kind = "dags"
paths = ["dags/s{number}/**"]
source = "dags/s{number}"
bucket = {{ output = "bucket" }}
prefix = "s{number}/"
needs = ["iac"]
"""
    with cpu_seconds():
        assert len(load(text).at("dev").stages) == STAGES + 1


def test_a_chain_of_thousands_of_stages() -> None:
    text = HEAD + IAC
    for number in range(STAGES):
        need = f"s{number - 1}" if number else "iac"
        text += command(f"s{number}", needs=f'["{need}"]', env='{ X = { output = "o" } }')
    with cpu_seconds():
        made = load(text).at("dev")
        assert list(made.stages) == ["iac", *(f"s{number}" for number in range(STAGES))]
        assert len(upstream(f"s{STAGES - 1}", made.stages)) == STAGES


def test_a_long_chain_that_an_environment_does_not_have() -> None:
    chain = "".join(
        command(
            f"s{number}",
            needs=f'["s{number - 1}"]' if number else '["iac"]',
            environments='["next"]' if number < STAGES - 1 else '["dev", "next"]',
        )
        for number in range(STAGES)
    )
    text = HEAD + HEAD.partition("\n\n")[2].replace("environments.dev", "environments.next")
    with cpu_seconds():
        made = load(text + '[ledger]\nbucket = "b-{environment}"\n' + state() + chain)
        assert made.at("dev").stages[f"s{STAGES - 1}"].needs == ("iac",)


def state() -> str:
    """The terraform stage, with a state for each environment."""
    return IAC.replace('key = "k"', 'key = "{environment}"')


def test_environments_times_stages() -> None:
    text = '[project]\nname = "shop"\ndefault_environment = "e0"\n' + state()
    environment = HEAD.partition("[environments.dev]")[2]
    text += "".join(f"[environments.e{number}]{environment}" for number in range(100))
    text += "".join(command(f"s{number}") for number in range(200))
    with cpu_seconds():
        assert len(load(text).at("e99").stages) == 201


def test_a_stage_that_is_skipped_twice_is_needed_once() -> None:
    """In `dev` only `top`, `left` and `bottom` are there."""
    text = HEAD + HEAD.partition("\n\n")[2].replace("environments.dev", "environments.next")
    away = {"environments": '["next"]'}
    text += '[ledger]\nbucket = "b-{environment}"\n'
    text += command("bottom") + command("left", needs='["bottom"]')
    text += command("middle", needs='["bottom", "left"]', **away)
    text += command("other", needs='["middle", "bottom"]', **away)
    text += command("top", needs='["other", "middle", "left"]')
    stages = stages_of(config.load(text.encode()).stages, "dev")
    assert {name: stage.needs for name, stage in stages.items()} == {
        "bottom": (),
        "left": ("bottom",),
        "top": ("bottom", "left"),
    }
