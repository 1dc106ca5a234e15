"""What steps are called: in a plan with what is known, and while they run with what has become
known.
"""

from typing import Any

import pytest

from cipipe import planner, titles
from cipipe.candidates import make_candidates
from cipipe.model import Baseline, Effect, Mode, Output, Plan, Record, State
from cipipe.planner import Known, Question
from cipipe.stages import dags, image
from cipipe.stages.context import StageResult, Step
from cipipe.stages.settings import Reference, Stage
from cipipe.tools.registry import login
from support.configurations import DAGS, DEFAULT, HEAD, IAC, IMAGE, load
from support.contexts import stage_context

URL = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop"
OUTPUTS = {
    "url": Output(value=URL),
    "bucket": Output(value="shop-dags"),
    "port": Output(value=8080),
    "key": Output(value="s3cret", sensitive=True),
    "list": Output(value=["a"]),
}


def plan(text: str, *, deployed: tuple[str, ...]) -> Plan:
    """The plan of a configuration of which some stages are deployed as they are."""
    config = load(text).at("dev")
    candidates = make_candidates(
        config, {name: [name.encode()] for name in config.stages}, {"HUB": "hub.example"}
    )
    moment = "2026-01-02T03:04:05+00:00"
    known = {
        name: Known(
            Record(
                schema=1,
                stage=name,
                fingerprint=candidates[name].fingerprint,
                effective=None,
                state=State.DEPLOYED,
                commit="d" * 40,
                ref=None,
                provider=None,
                sequence=None,
                pipeline_url=None,
                started_at=moment,
                finished_at=None,
            )
        )
        for name in deployed
    }
    return planner.plan(
        Question(
            config=config,
            environment="dev",
            mode=Mode.DEPLOY,
            provider="local",
            commit="a" * 40,
            baseline=Baseline("ledger"),
            candidates=candidates,
            known=known,
        )
    ).plan


def steps(made: Plan, name: str) -> str:
    return "\n".join(next(stage.steps for stage in made.stages if stage.name == name))


def test_placeholders_are_filled_in() -> None:
    where = 'repository = "{account_id}.dkr.ecr.{region}.amazonaws.com/{project}-{environment}"'
    text = (
        HEAD
        + IAC.replace('root = "terraform"', 'root = "terraform/{environment}"')
        + IMAGE.replace(
            'repository = { output = "url" }',
            where
            + '\nsmoke = ["dbt", "--target", "{environment}"]\ntags = ["{environment}-latest"]',
        )
        + DAGS.replace(
            'bucket = { output = "bucket" }',
            'bucket = "{project}-{environment}-dags"\nprefix = "{environment}/dags/"',
        )
        + DEFAULT.replace('[["true"]]', '[["echo", "{account_id} {unknown} ${region}"]]')
    )
    made = plan(text, deployed=())
    assert "terraform init in terraform/dev/" in steps(made, "iac")
    found = steps(made, "image")
    assert "docker push 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop-dev:" in found
    assert "run `dbt --target dev` in it" in found
    assert "tag it 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop-dev:dev-latest" in found
    assert "upload to s3://shop-dev-dags/dev/dags/" in steps(made, "dags")
    nothing = plan(text, deployed=("iac", "image", "dags"))
    assert steps(nothing, "default") == "echo '111111111111 {unknown} $eu-central-1'"


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        (Reference(output="url"), URL),
        (Reference(output="port"), "8080"),
        (Reference(output="key"), "{key}"),
        (Reference(output="list"), "{list}"),
        (Reference(output="absent"), "{absent}"),
        (Reference(output="absent", default="fallback"), "fallback"),
        (Reference(output="absent", default=""), "(none)"),
    ],
)
def test_a_setting_that_comes_from_an_output(reference: Reference, shown: str) -> None:
    settings = dags.Settings(source="dags", bucket=reference)
    made = dags.steps(Stage("dags", "dags", settings), Mode.DEPLOY, tag="")
    assert titles.in_plan(made, settings, OUTPUTS)[3] == f"upload to s3://{shown}/dags/"


def test_a_default_is_not_known_before_anything_was_applied() -> None:
    settings = dags.Settings(source="dags", bucket=Reference(output="b", default="fallback"))
    made = dags.steps(Stage("dags", "dags", settings), Mode.DEPLOY, tag="")
    assert titles.in_plan(made, settings, {})[3] == "upload to s3://{b}/dags/"


def test_while_it_runs_a_setting_is_what_it_turned_out_to_be() -> None:
    def title(resolved: Any, text: str = "ask {mwaa}, not {other}") -> str:
        before = dags.Settings(
            source="dags", bucket="b", mwaa_environment=Reference(output="mwaa", default="")
        )
        after = dags.Settings(source="dags", bucket="b", mwaa_environment=resolved)
        return titles.in_run(Step(text, Effect.READ, lambda *_: None), before, after, {})

    assert title("airflow") == "ask airflow, not {other}"
    assert title("") == "ask (none), not {other}"
    assert title(Reference(output="mwaa", default="")) == "ask {mwaa}, not {other}"


def test_what_mwaa_installs_has_steps_of_its_own() -> None:
    def writing(**settings: Any) -> list[str]:
        made = dags.Settings(source="dags", bucket="b", **settings)
        found = dags.steps(Stage("dags", "dags", made), Mode.DEPLOY, tag="")
        return [step.title for step in found if step.effect is Effect.WRITE]

    rest = ["upload to s3://b/dags/", "delete what is gone from s3://b/dags/"]
    requirements = "upload mwaa/requirements.txt as s3://b/requirements.txt"
    plugins = "zip mwaa/plugins/ and upload it as s3://b/plugins.zip"
    install = "have MWAA environment airflow install what is new"
    both = {"requirements": "mwaa/requirements.txt", "plugins": "mwaa/plugins/"}
    assert writing() == rest
    assert writing(mwaa_environment="airflow") == rest
    assert writing(**both) == [requirements, plugins, *rest]
    assert writing(**both, mwaa_environment="airflow") == [requirements, plugins, install, *rest]
    assert writing(requirements="mwaa/requirements.txt", mwaa_environment="airflow") == [
        requirements,
        install,
        *rest,
    ]


class Registry:
    """What the image stage asks of a registry that has the image already."""

    repository = URL

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def digest(self, tag: str) -> str:
        return f"sha256:{tag}"

    def retag(self, digest: str, tag: str) -> None:
        self.tags[tag] = digest


def test_each_extra_tag_of_an_image_is_a_step_that_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Registry()
    monkeypatch.setattr(login, "login", lambda *_: there)
    stage = Stage(
        "image", "image", image.Settings(context="dbt", repository=URL, tags=("latest", "stable"))
    )
    made = image.steps(stage, Mode.DEPLOY, tag="f" * 20)
    assert [step.title for step in made][-3:] == [
        f"docker push {URL}:{'f' * 20}",
        f"tag it {URL}:latest",
        f"tag it {URL}:stable",
    ]
    assert [step.effect for step in made][-3:] == [Effect.WRITE] * 3
    context = stage_context(stage=stage, fingerprint="f" * 64, line=lambda _: None)
    result = StageResult()
    for step in made[:-1]:
        step.run(context, result)
    assert there.tags == {"latest": f"sha256:{'f' * 20}"}
    made[-1].run(context, result)
    assert there.tags == dict.fromkeys(("latest", "stable"), f"sha256:{'f' * 20}")
    assert result.data["digest"] == f"sha256:{'f' * 20}"
    assert image.steps(stage, Mode.VERIFY, tag="f" * 20)[-1].title.startswith("docker build")
