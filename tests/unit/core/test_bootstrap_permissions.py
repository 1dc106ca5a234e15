"""What the roles of `cipipe bootstrap` get beyond the usual names, and what is said of them."""

import msgspec
import pytest

from cipipe.errors import UsageError
from cipipe.pipeline.bootstrap.permissions import by_stage, extra
from cipipe.pipeline.bootstrap.root import refuse_names, refuse_own_roles
from support.configurations import HEAD, load

ACCOUNT = "111111111111"
STAGES = """
[stages.iac]
kind = "terraform"
paths = ["terraform/**"]
root = "terraform"
backend = { bucket = "states", key = "team/{environment}.tfstate" }

[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = "{account_id}.dkr.ecr.{region}.amazonaws.com/team/dbt"

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = "airflow"
prefix = "team/"

[stages.later]
kind = "dags"
paths = ["more/**"]
source = "more"
bucket = { output = "dags_bucket" }
needs = ["iac"]
"""


def test_what_settings_name_is_granted() -> None:
    found = extra(load(HEAD + STAGES), "dev")
    assert found.state_arns == ["arn:aws:s3:::states/team/dev.tfstate"]
    assert found.bucket_arns == ["arn:aws:s3:::airflow"]
    assert found.object_arns == ["arn:aws:s3:::airflow/team/*"]
    assert found.repository_arns == [
        f"arn:aws:ecr:eu-central-1:{ACCOUNT}:repository/team/dbt",
    ]


@pytest.mark.parametrize(
    ("settings", "destroyable"),
    [("", True), ("protected = true", False), ("protected = true\nallow_destroy = true", True)],
)
def test_only_an_environment_that_may_be_destroyed_is_emptied(
    settings: str, destroyable: bool
) -> None:
    found = extra(load(f"{HEAD}{settings}\n{STAGES}"), "dev")
    assert found.destroyable is destroyable


def test_what_locks_and_encrypts_a_state_is_granted() -> None:
    backend = 'tfstate", dynamodb_table = "locks", kms_key_id = "1234-abcd" }'
    found = extra(load(HEAD + STAGES.replace('tfstate" }', backend)), "dev")
    assert found.lock_table_arns == [f"arn:aws:dynamodb:eu-central-1:{ACCOUNT}:table/locks"]
    assert found.key_arns == [f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234-abcd"]
    whole = "arn:aws:kms:eu-central-1:222222222222:key/1"
    backend = f'tfstate", kms_key_id = "{whole}" }}'
    assert extra(load(HEAD + STAGES.replace('tfstate" }', backend)), "dev").key_arns == [whole]


def test_an_mwaa_environment_with_another_name_is_granted() -> None:
    named = STAGES.replace('bucket = "airflow"', 'bucket = "airflow"\nmwaa_environment = "{}"')
    found = extra(load(HEAD + named.replace("{}", "team")), "dev")
    assert found.mwaa_arns == [f"arn:aws:airflow:eu-central-1:{ACCOUNT}:environment/team"]
    assert extra(load(HEAD + named.replace("{}", "{project}-{environment}")), "dev").mwaa_arns == []


def test_the_usual_names_need_nothing() -> None:
    stages = STAGES.replace('"airflow"', '"{project}-{environment}-dags-{account_id}"')
    stages = stages.replace("amazonaws.com/team/dbt", "amazonaws.com/{project}-{environment}-dbt")
    found = extra(load(HEAD + stages), "dev")
    assert (found.bucket_arns, found.object_arns, found.repository_arns) == ([], [], [])


def test_repositories_elsewhere_are_no_business_of_this_account() -> None:
    for other in ("222222222222.dkr.ecr.{region}.amazonaws.com/a", "registry.example/a"):
        stages = STAGES.replace("{account_id}.dkr.ecr.{region}.amazonaws.com/team/dbt", other)
        assert extra(load(HEAD + stages), "dev").repository_arns == []


def test_what_is_listed_is_granted() -> None:
    listed = """
[bootstrap]
buckets = ["shared-{account_id}"]
repositories = ["a/b"]
deploy_policies = ["arn:aws:iam::{account_id}:policy/rds"]
verify_policies = ["arn:aws:iam::aws:policy/AmazonRDSReadOnlyAccess"]
boundary_actions = ["athena:*"]
"""
    found = extra(load(HEAD + listed + STAGES), "dev")
    assert f"arn:aws:s3:::shared-{ACCOUNT}" in found.bucket_arns
    assert f"arn:aws:s3:::shared-{ACCOUNT}/*" in found.object_arns
    assert f"arn:aws:ecr:eu-central-1:{ACCOUNT}:repository/a/b" in found.repository_arns
    assert found.deploy_policy_arns == [f"arn:aws:iam::{ACCOUNT}:policy/rds"]
    assert found.verify_policy_arns == ["arn:aws:iam::aws:policy/AmazonRDSReadOnlyAccess"]
    assert found.boundary_additional_actions == ["athena:*"]


@pytest.mark.parametrize(
    ("line", "where", "message"),
    [
        ('deploy_policies = ["rds"]', "bootstrap.deploy_policies[0]", "not the ARN of a managed"),
        (
            'verify_policies = ["arn:aws-cn:iam::aws:policy/X"]',
            "bootstrap.verify_policies[0]",
            "in partition aws",
        ),
        (
            'deploy_policies = ["arn:aws:iam::aws:policy/AdministratorAccess"]',
            "bootstrap.deploy_policies[0]",
            "give itself every permission",
        ),
        (
            'verify_policies = ["arn:aws:iam::222222222222:policy/b"]',
            "bootstrap.verify_policies[0]",
            "is in account 222222222222",
        ),
        ('buckets = ["arn:aws:s3:::x"]', "bootstrap.buckets", "is not a bucket"),
        ('repositories = ["*"]', "bootstrap.repositories", "is not the name of a repository"),
    ],
)
def test_what_is_no_permission(line: str, where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        extra(load(f"{HEAD}[bootstrap]\n{line}\n{STAGES}"), "dev")
    assert (raised.value.id, raised.value.where) == ("bootstrap-bad-permission", where)


def test_every_stage_says_what_the_roles_may_do() -> None:
    found = {one.stage: one for one in by_stage(load(HEAD + STAGES), "dev")}
    assert list(found) == ["iac", "image", "dags", "later"]
    assert found["iac"].places == ("s3://states/team/dev.tfstate",)
    assert "roles below shop/dev/" in found["iac"].deploy
    assert found["dags"].places == ("s3://airflow/team/",)
    assert found["later"].places == ()
    assert not [one for one in found.values() if "delete" in one.verify or "push" in one.verify]


@pytest.mark.parametrize(
    ("project", "environment", "where"),
    [
        ("a" * 25, "dev", "project.name"),
        ("Shop", "dev", "project.name"),
        ("my_shop", "dev", "project.name"),
        ("shop", "development-1", "environments.development-1"),
    ],
)
def test_names_that_no_resource_may_have(project: str, environment: str, where: str) -> None:
    with pytest.raises(UsageError) as raised:
        refuse_names(project, environment)
    assert (raised.value.id, raised.value.where) == ("bootstrap-bad-name", where)
    refuse_names("a" * 24, "production-1")


@pytest.mark.parametrize("key", ["role_arn", "verify_role_arn"])
def test_a_role_that_the_pipeline_could_change_is_refused(key: str) -> None:
    environment = load(HEAD + STAGES).environment("dev")
    for path, refused in (
        ("shop/dev/ci", True),
        ("shop/dev2/ci", False),
        ("team/shop/dev/ci", False),
    ):
        arn = f"arn:aws:iam::{ACCOUNT}:role/{path}"
        changed = msgspec.structs.replace(environment, **{key: arn})
        if not refused:
            refuse_own_roles("shop", "dev", changed)
            continue
        with pytest.raises(UsageError) as raised:
            refuse_own_roles("shop", "dev", changed)
        found = (raised.value.id, raised.value.where)
        assert found == ("bootstrap-role-path", f"environments.dev.{key}")
