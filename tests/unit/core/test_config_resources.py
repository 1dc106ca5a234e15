"""Resources that environments must not share, as far as cipipe.toml says which they are."""

import pytest

from support.configurations import (
    HEAD,
    LIVE,
    OTHER,
    dags,
    elsewhere,
    environment,
    image,
    line_of,
    load,
    only,
    problems,
    terraform,
)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (LIVE + dags(), "stages.dags.bucket"),
        (OTHER + dags(), "stages.dags.bucket"),  # bucket names are global
        (LIVE + dags(prefix=""), "stages.dags.bucket"),
        (OTHER + dags(bucket='"dags-{project}"'), "stages.dags.bucket"),
        (LIVE + dags(bucket='"dags-{account_id}-{region}"'), "stages.dags.bucket"),
        (LIVE + dags(prefix="dags/{project}/"), "stages.dags.bucket"),
        (
            OTHER
            + "[environments.live.values]\nb = 'x-1'\n[environments.dev.values]\nb = 'x-1'\n"
            + dags(bucket='"{values.b}"'),
            "stages.dags.bucket",
        ),
        (
            LIVE + dags(prefix="{environment}/", more='requirements = "r.txt"'),
            "stages.dags.requirements",
        ),
        (LIVE + dags(prefix="{environment}/", more='plugins = "plugins"'), "stages.dags.plugins"),
        (OTHER + terraform(key="k"), "stages.iac.backend"),
        (terraform(key="k") + terraform("net", key="k"), "stages.net.backend"),
        (
            OTHER
            + "[environments.dev.values]\nw = 'default'\nk = 'env:/b/k'\n"
            + "[environments.live.values]\nw = 'b'\nk = 'k'\n"
            + terraform(key="{values.k}")
            + 'workspace = "{values.w}"\n',
            "stages.iac.backend",
        ),
        (LIVE + elsewhere('type = "gcs", bucket = "states"'), "stages.iac.backend"),
        (LIVE + elsewhere('type = "azurerm", container_name = "states"'), "stages.iac.backend"),
        (OTHER + elsewhere('type = "cloud"'), "stages.iac.backend"),
        (LIVE + elsewhere('type = "cloud"', 'workspace = "{project}"'), "stages.iac.backend"),
        (LIVE + "[ledger]\nprefix = 'ledger/'\n" + terraform(), "ledger.prefix"),
        (
            OTHER + "[ledger]\nbucket = 'records'\nprefix = '{project}'\n" + terraform(),
            "ledger.prefix",
        ),
        (LIVE + image("1.dkr.ecr.eu-central-1.amazonaws.com/shop"), "stages.image.repository"),
        (
            environment("live", more="protected = true") + image("1.dkr.ecr/x"),
            "stages.image.repository",
        ),
    ],
)
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
        environment("live", region="cn-north-1", account="222222222222")
        + dags(),  # another partition
        OTHER
        + "[environments.live.values]\nb = 'x-1'\n[environments.dev.values]\nb = 'x-2'\n"
        + dags(bucket='"{values.b}"'),
        LIVE + dags(more='environments = ["live"]'),
        LIVE
        + dags("one", more='environments = ["live"]')
        + dags("two", prefix="x/", more='environments = ["dev"]'),
        LIVE + terraform(),
        OTHER + terraform(bucket="state-{account_id}", key="k"),
        LIVE + terraform(key="k") + 'workspace = "{environment}"\n',
        LIVE + elsewhere('type = "gcs", bucket = "states-{environment}"'),
        LIVE + elsewhere('type = "cloud"', 'workspace = "{environment}"'),
        LIVE
        + elsewhere('type = "cloud"').replace(
            'root = "terraform"', 'root = "terraform/{environment}"'
        ),
        LIVE + elsewhere('type = "http"'),  # its address may be in the environment of the job
        OTHER + image("{account_id}.dkr.ecr.{region}.amazonaws.com/shop"),
        dags()
        + dags("inner", prefix="dags/inner/"),  # of one environment: its records keep them apart
        image("x/y").replace("stages.image", "stages.a") + image("x/y"),
    ],
)
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
