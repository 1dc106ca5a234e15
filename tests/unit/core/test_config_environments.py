"""What of cipipe.toml differs by environment: values, stages that some do not have, paths."""

import pytest

from cipipe.errors import Problem, ProblemsError
from cipipe.stages.settings import Reference
from support.configurations import (
    DEFAULT,
    HEAD,
    IAC,
    IMAGE,
    LIVE,
    WHOLE,
    command,
    load,
    only,
    problems,
    terraform,
)

# --- values ---

VALUES = "[environments.dev.values]\nsize = 'small'\nowner = '{project}-{environment}'\n"


def test_values_are_filled_in() -> None:
    made = load(HEAD + VALUES + command("a", env="{ S = '{values.size}', O = '{values.owner}' }"))
    assert made.at("dev").stages["a"].settings.env == {"S": "small", "O": "{project}-{environment}"}
    assert (
        made.expanded("{values.size} {values.owner} {values.x}", "dev")
        == "small shop-dev {values.x}"
    )
    assert made.stages["a"].settings.env["S"] == "{values.size}"


def test_a_default_may_be_a_value() -> None:
    made = load(
        HEAD + VALUES + command("a", env="{ S = { env = 'S', default = '{values.size}' } }")
    )
    assert made.at("dev").stages["a"].settings.env == {"S": Reference(env="S", default="small")}


def test_a_value_that_one_environment_lacks() -> None:
    text = HEAD + VALUES + LIVE + command("a", env="{ S = '{values.size}' }")
    assert {path: problem[1:] for path, problem in problems(text).items()} == {
        "stages.a.env.S": (
            "config-value-missing",
            'Set size = "…" under [environments.live.values].',
        )
    }
    load(text + "environments = ['dev']\n")


@pytest.mark.parametrize(
    ("used", "hint"),
    [
        ("{values.sizes}", "Perhaps you meant 'values.size'."),
        ("{values.}", "Perhaps you meant 'values.size'."),
        ("{size}", "Perhaps you meant 'values.size'."),
        ("{enviroment}", "Perhaps you meant 'environment'."),
    ],
)
def test_a_placeholder_that_nothing_is_known_by(used: str, hint: str) -> None:
    text = HEAD + VALUES + terraform(key=f"{used}.tfstate")
    assert only(text) == ("config-dangling-name", hint)


def test_a_commands_own_braces_stay() -> None:
    made = load(HEAD + VALUES + command("a", run="[['awk', '{print}', '{values.size}', '{x}']]"))
    assert made.at("dev").stages["a"].settings.run == (("awk", "{print}", "small", "{x}"),)
    assert (
        only(HEAD + VALUES + command("a", run="[['{values.seize}']]"))[0] == "config-dangling-name"
    )


def test_a_value_is_a_string_with_a_name() -> None:
    assert only(HEAD + "[environments.dev.values]\nsize = 3\n" + DEFAULT)[0] == "config-wrong-type"
    assert only(HEAD + "[environments.dev.values]\n'a b' = 'x'\n" + DEFAULT)[0] == "config-bad-name"
    assert (
        only(HEAD + "[environments.dev.values]\na = '{values.b}'\nb = 'x'\n" + DEFAULT)[0]
        == "config-dangling-name"
    )


def test_the_ledger_takes_no_values() -> None:
    text = HEAD + VALUES + "[ledger]\nprefix = '{values.size}/'\n" + DEFAULT
    assert {path: problem[1] for path, problem in problems(text).items()} == {
        "ledger.prefix": "config-dangling-name"
    }


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('"terraform/**"', '"terraform/{environment}/**"', "stages.iac.paths[0]"),
        ('needs = ["iac"]', 'needs = ["iac", "{environment}"]', "stages.image.needs[1]"),
        ("role/deploy", "role/deploy-{environment}", "environments.dev.role_arn"),
        ('name = "shop"', 'name = "shop-{environment}"', "project.name"),
        (
            "[stages.iac]",
            "[oidc]\ngitlab = { project = 'g/{project}' }\n[stages.iac]",
            "oidc.gitlab.project",
        ),
        ("[stages.iac]", "[bootstrap]\nroot = '{values.x}'\n[stages.iac]", "bootstrap.root"),
    ],
)
def test_a_placeholder_where_none_is_filled_in(old: str, new: str, path: str) -> None:
    assert "config-placeholder-unexpanded" in {
        problem.id for problem in _all(WHOLE.replace(old, new, 1)) if problem.where.endswith(path)
    }


def _all(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ProblemsError) as caught:
        load(text)
    return caught.value.problems


# --- stages that some environments do not have ---


def test_a_stage_of_some_environments() -> None:
    made = load(HEAD + LIVE + command("a") + command("b", environments="['live']", needs="['a']"))
    assert list(made.at("dev").stages) == ["a"]
    assert list(made.at("live").stages) == ["a", "b"]
    assert list(made.at("dev").at("live").stages) == ["a", "b"]


def test_needs_go_on_through_a_stage_that_is_not_there() -> None:
    text = HEAD + LIVE + command("a") + command("b", environments="['live']", needs="['a']")
    made = load(text + command("c", needs="['b']"))
    assert made.at("dev").stages["c"].needs == ("a",)
    assert made.at("live").stages["c"].needs == ("b",)


def test_an_output_of_a_stage_that_is_not_there() -> None:
    here = IAC.replace('"k"', '"{environment}"') + "environments = ['dev']\n"
    text = HEAD + LIVE + here + command("c", needs="['iac']", env="{ X = { output = 'x' } }")
    assert {path: problem[1] for path, problem in problems(text).items()} == {
        "stages.c.env.X": "config-bad-reference"
    }
    load(text + "environments = ['dev']\n")


def test_a_fingerprint_of_a_stage_that_is_not_there() -> None:
    text = (
        HEAD
        + LIVE
        + command("a", environments="['dev']")
        + command("c", env="{ X = { fingerprint = 'a' } }")
    )
    assert only(text)[0] == "config-bad-reference"


def test_a_misspelt_environment_of_a_stage() -> None:
    text = HEAD + command("a", environments="['dve']")
    assert only(text) == ("config-dangling-name", "Perhaps you meant 'dev'.")


# --- paths ---


def test_paths_are_filled_in_for_an_environment() -> None:
    text = HEAD + terraform().replace('root = "iac"', 'root = "iac/{environment}"')
    assert load(text).at("dev").stages["iac"].settings.root == "iac/dev"
    assert (
        load(text).at("dev").stages["iac"].settings.backend["key"]
        == "terraform/{environment}.tfstate"
    )
    assert load(text).stages["iac"].settings.root == "iac/{environment}"


def test_a_path_that_leads_out_once_it_is_filled_in() -> None:
    text = (
        HEAD
        + "[environments.dev.values]\nup = '..'\n"
        + IMAGE.replace('"dbt"', '"{values.up}/x"')
        + IAC
    )
    assert {path: problem[1] for path, problem in problems(text).items()} == {
        "stages.image.context": "config-bad-path"
    }


def test_the_whole_configuration_is_not_changed_by_a_view() -> None:
    made = load(WHOLE)
    assert made.at("dev").whole is made
    assert (made.viewed, made.at("dev").viewed) == (None, "dev")


def test_a_wrong_setting_hides_no_others_of_its_stage() -> None:
    text = (
        '[stages.dags]\nkind = "dags"\npaths = ["dags/**"]\n'
        'source = "../dags"\nbucket = "Team_Dags"\n'
        'prefix = 3\nrequirments = "{enviroment}.txt"\nplugins = "{values.p}"\n'
        '[stages.image]\nkind = "image"\npaths = [1]\ncontext = "/app"\n'
        'repository = { fingerprint = "dag" }\n'
    )
    assert {where: problem[1] for where, problem in problems(HEAD + text).items()} == {
        "stages.dags.prefix": "config-wrong-type",
        "stages.dags.requirments": "config-unknown-key",
        "stages.dags.plugins": "config-dangling-name",
        "stages.dags.source": "dags-source",
        "stages.dags.bucket": "dags-bucket",
        "stages.image.paths[0]": "config-wrong-type",
        "stages.image.repository.fingerprint": "config-dangling-name",
        "stages.image.context": "config-bad-path",
    }


# --- the environment that jobs name ---


@pytest.mark.parametrize("name", ["", " ", "live ", "*", "li?e", "a\\nb", "x" * 256])
def test_an_environment_of_the_provider_that_no_policy_can_name(name: str) -> None:
    text = HEAD + f'job_environment = "{name}"\n' + DEFAULT
    assert only(text)[0] == "config-bad-name"
    assert set(problems(text)) == {"environments.dev.job_environment"}


@pytest.mark.parametrize("name", ["live", "eu / live", "li:ve", "größe"])
def test_an_environment_of_the_provider(name: str) -> None:
    made = load(HEAD + f'job_environment = "{name}"\n' + DEFAULT)
    assert made.environment("dev").job_environment == name
