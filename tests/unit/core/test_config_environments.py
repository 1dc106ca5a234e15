"""What of cipipe.toml differs by environment: places that they must not share, values, stages that
some do not have.
"""

import pytest

from cipipe.errors import Problem, ProblemsError
from cipipe.stages.settings import Reference
from support.configurations import (
    DEFAULT,
    HEAD,
    IAC,
    IMAGE,
    WHOLE,
    command,
    line_of,
    load,
    only,
    problems,
)

ACCOUNT = "111111111111"


def environment(
    name: str, *, account: str = ACCOUNT, region: str = "eu-central-1", more: str = ""
) -> str:
    arn = "aws-cn" if region.startswith("cn-") else "aws"
    return (
        f'\n[environments.{name}]\naccount_id = "{account}"\nregion = "{region}"\n'
        f'role_arn = "arn:{arn}:iam::{account}:role/deploy"\n{more}\n'
    )


def dags(
    name: str = "dags", *, bucket: str = '"team-dags"', prefix: str = "dags/", more: str = ""
) -> str:
    return (
        f'\n[stages.{name}]\nkind = "dags"\npaths = ["dags/**"]\nsource = "dags"\nbucket = {bucket}\n'
        f'prefix = "{prefix}"\n{more}\n'
    )


def terraform(
    name: str = "iac", *, bucket: str = "state", key: str = "terraform/{environment}.tfstate"
) -> str:
    return (
        f'\n[stages.{name}]\nkind = "terraform"\npaths = ["{name}/**"]\nroot = "{name}"\n'
        f'backend = {{ bucket = "{bucket}", key = "{key}" }}\n'
    )


def elsewhere(backend: str, more: str = "") -> str:
    """A Terraform stage with another backend than S3."""
    head = '\n[stages.iac]\nkind = "terraform"\npaths = ["terraform/**"]\nroot = "terraform"\n'
    return f"{head}backend = {{ {backend} }}\n{more}\n"


def image(repository: str) -> str:
    return f'\n[stages.image]\nkind = "image"\npaths = ["dbt/**"]\ncontext = "dbt"\nrepository = "{repository}"\n'


LIVE = environment("live")
OTHER = environment("live", account="222222222222", region="us-east-1")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (LIVE + dags(), "stages.dags.bucket"),
        (OTHER + dags(), "stages.dags.bucket"),  # bucket names are global
        (LIVE + dags(prefix=""), "stages.dags.bucket"),
        (OTHER + dags(bucket='"dags-{project}"'), "stages.dags.bucket"),
        (LIVE + dags(bucket='"dags-{account_id}-{region}"'), "stages.dags.bucket"),
        (LIVE + dags(prefix="dags/{project}/"), "stages.dags.bucket"),
        (OTHER + "[environments.live.values]\nb = 'x-1'\n[environments.dev.values]\nb = 'x-1'\n"
         + dags(bucket='"{values.b}"'), "stages.dags.bucket"),
        (LIVE + dags(prefix="{environment}/", more='requirements = "r.txt"'), "stages.dags.requirements"),
        (LIVE + dags(prefix="{environment}/", more='plugins = "plugins"'), "stages.dags.plugins"),
        (OTHER + terraform(key="k"), "stages.iac.backend"),
        (terraform(key="k") + terraform("net", key="k"), "stages.net.backend"),
        (OTHER + "[environments.dev.values]\nw = 'default'\nk = 'env:/b/k'\n[environments.live.values]\nw = 'b'\nk = 'k'\n"
         + terraform(key="{values.k}") + 'workspace = "{values.w}"\n', "stages.iac.backend"),
        (LIVE + elsewhere('type = "gcs", bucket = "states"'), "stages.iac.backend"),
        (LIVE + elsewhere('type = "azurerm", container_name = "states"'), "stages.iac.backend"),
        (OTHER + elsewhere('type = "cloud"'), "stages.iac.backend"),
        (LIVE + elsewhere('type = "cloud"', 'workspace = "{project}"'), "stages.iac.backend"),
        (LIVE + "[ledger]\nprefix = 'ledger/'\n" + terraform(), "ledger.prefix"),
        (OTHER + "[ledger]\nbucket = 'records'\nprefix = '{project}'\n" + terraform(), "ledger.prefix"),
        (LIVE + image("1.dkr.ecr.eu-central-1.amazonaws.com/shop"), "stages.image.repository"),
        (environment("live", more="protected = true") + image("1.dkr.ecr/x"), "stages.image.repository"),
    ],
)  # fmt: skip
def test_two_environments_share_a_place(text: str, path: str) -> None:
    found = problems(HEAD + text)
    assert {where: problem[1] for where, problem in found.items()} == {path: "config-shared-place"}


@pytest.mark.parametrize(
    "text",
    [
        LIVE + dags(bucket='"dags-{environment}"'),
        LIVE + dags(prefix="{environment}/"),
        LIVE + dags(prefix="dags{environment}/"),
        OTHER + dags(bucket='"dags-{account_id}"', more='requirements = "r.txt"'),
        LIVE + dags(bucket='{ env = "BUCKET" }'),
        environment("live", region="cn-north-1", account="222222222222") + dags(),  # another partition
        OTHER + "[environments.live.values]\nb = 'x-1'\n[environments.dev.values]\nb = 'x-2'\n"
        + dags(bucket='"{values.b}"'),
        LIVE + dags(more='environments = ["live"]'),
        LIVE + dags("one", more='environments = ["live"]') + dags("two", prefix="x/", more='environments = ["dev"]'),
        LIVE + terraform(),
        OTHER + terraform(bucket="state-{account_id}", key="k"),
        LIVE + terraform(key="k") + 'workspace = "{environment}"\n',
        LIVE + elsewhere('type = "gcs", bucket = "states-{environment}"'),
        LIVE + elsewhere('type = "cloud"', 'workspace = "{environment}"'),
        LIVE + elsewhere('type = "cloud"').replace('root = "terraform"', 'root = "terraform/{environment}"'),
        LIVE + elsewhere('type = "http"'),  # its address may be in the environment of the job
        OTHER + image("{account_id}.dkr.ecr.{region}.amazonaws.com/shop"),
        dags() + dags("inner", prefix="dags/inner/"),  # of one environment: its records keep them apart
        image("x/y").replace("stages.image", "stages.a") + image("x/y"),
    ],
)  # fmt: skip
def test_places_of_their_own(text: str) -> None:
    load(HEAD + text)


def test_one_repository_for_environments_that_are_never_destroyed() -> None:
    kept = HEAD.replace("role_arn", "protected = true\nrole_arn")
    load(kept + environment("live", more="protected = true") + image("1.dkr.ecr/x"))
    text = (
        kept
        + environment("live", more="protected = true\nallow_destroy = true")
        + image("1.dkr.ecr/x")
    )
    assert only(text)[0] == "config-shared-place"


@pytest.mark.parametrize("inner", ["dags/{values.p}", "{values.p}"])
def test_a_folder_inside_the_other_environments(inner: str) -> None:
    values = "[environments.dev.values]\np = ''\n[environments.live.values]\np = 'deep/er/'\n"
    text = HEAD + LIVE + values + dags(prefix=inner)
    assert {path: problem[1] for path, problem in problems(text).items()} == {
        "stages.dags.bucket": "config-shared-place"
    }


def test_different_stages_of_two_environments_in_one_folder() -> None:
    text = (
        HEAD
        + LIVE
        + dags("a", more='environments = ["dev"]')
        + dags("b", more='environments = ["live"]')
    )
    assert only(text)[0] == "config-shared-place"


def test_all_shared_places_are_told_at_once_with_their_lines() -> None:
    text = (
        HEAD
        + LIVE
        + "[ledger]\nprefix = 'x'\n"
        + terraform(key="k")
        + dags()
        + image("1.dkr.ecr/x")
    )
    assert {path: place for path, (place, _, _) in problems(text).items()} == {
        "ledger.prefix": line_of(text, "prefix = 'x'"),
        "stages.iac.backend": line_of(text, "backend"),
        "stages.dags.bucket": line_of(text, "bucket = "),
        "stages.image.repository": line_of(text, "repository"),
    }


def test_three_environments_in_one_place_are_one_problem() -> None:
    assert set(problems(HEAD + LIVE + environment("test") + dags())) == {"stages.dags.bucket"}


def test_what_is_wrong_only_once_placeholders_are_filled_in() -> None:
    text = HEAD + environment("UPPER") + dags(bucket='"dags-{environment}"')
    assert only(text)[0] == "dags-bucket"
    text = HEAD + dags("one", prefix="{environment}/") + dags("two", prefix="dev/")
    assert {path: problem[1] for path, problem in problems(text).items()} == {
        "stages.two.prefix": "dags-prefix-shared"
    }


# --- values ------------------------------------------------------------------------------------------------------------------

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


# --- stages that some environments do not have ------------------------------------------------------------------------------


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


# --- paths -------------------------------------------------------------------------------------------------------------------


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
        '[stages.dags]\nkind = "dags"\npaths = ["dags/**"]\nsource = "../dags"\nbucket = "Team_Dags"\n'
        'prefix = 3\nrequirments = "{enviroment}.txt"\nplugins = "{values.p}"\n'
        '[stages.image]\nkind = "image"\npaths = [1]\ncontext = "/app"\nrepository = { fingerprint = "dag" }\n'
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
