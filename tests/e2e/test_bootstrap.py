"""`cipipe bootstrap` by the command line, with real Terraform, in an account of a sandbox that it
takes for AWS itself.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from support.clone import Clone, Outcome
from support.environment import shell_environment
from support.tools import require

CONFIG = """\
[project]
name = "shop"
default_environment = "dev"
[oidc.gitlab]
project = "group/shop"
[oidc.github]
project = "group/shop"
[environments.dev]
account_id = "111111111111"
region = "eu-central-1"
role_arn = "arn:aws:iam::111111111111:role/shop-deploy"
deploy_from = { branches = ["main"] }
[environments.live]
account_id = "222222222222"
region = "eu-central-1"
role_arn = "arn:aws:iam::222222222222:role/shop-deploy"
deploy_from = { tags = ["v*"] }
job_environment = "live"
[environments.test]
account_id = "222222222222"
region = "eu-central-1"
role_arn = "arn:aws:iam::222222222222:role/team/ci/shop-test"
verify_role_arn = "arn:aws:iam::222222222222:role/team/shop-test-verify"
deploy_from = { branches = ["main"] }
[bootstrap]
repositories = ["team/dbt"]
deploy_policies = ["arn:aws:iam::{account_id}:policy/rds"]
[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = "airflow-{account_id}-{environment}"
[stages.hello]
kind = "command"
paths = ["hello.txt"]
run = [["cat", "hello.txt"]]
"""
BUCKET = "cipipe-222222222222-eu-central-1"

# What the administrator set on it.
KEY = "arn:aws:kms:eu-central-1:222222222222:key/3d1b1b60-6a37-4bd5-8a0a-d2e8ff7bc1a6"
TAGS = [{"Key": "cost-centre", "Value": "42"}]
ENCRYPTION = {
    "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
    "BucketKeyEnabled": True,
}


@dataclass
class Account(Clone):
    """The project, and the second account, in which nothing is bootstrapped."""

    def bootstrap(self, *arguments: str) -> Outcome:
        return self.cipipe("bootstrap", "--env", "live", *arguments)

    def client(self, service: str) -> Any:
        session: Any = boto3.Session(
            self.env["AWS_ACCESS_KEY_ID"], self.env["AWS_SECRET_ACCESS_KEY"]
        )
        url = self.env["AWS_ENDPOINT_URL"]
        return session.client(service, region_name="eu-central-1", endpoint_url=url)

    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]]

    def roles(self) -> list[str]:
        return [role["RoleName"] for role in self.client("iam").list_roles()["Roles"]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    require("terraform", "the bootstrap")
    folder = tmp_path_factory.mktemp("bootstrap") / "shop"
    folder.mkdir()
    made = Account(folder, {**shell_environment(), "CIPIPE_SANDBOX_DOCKER": "off"})
    (folder / "cipipe.toml").write_text(CONFIG)
    (folder / ".gitignore").write_text(".cipipe/\n")
    (folder / "hello.txt").write_text("hello\n")
    (folder / "dags").mkdir()
    (folder / "dags/hello.py").write_text("from airflow import DAG\n")
    made.git("init", "--quiet", "--initial-branch", "main")
    made.git("add", "-A")
    made.git("commit", "--quiet", "-m", "Start")
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    keys = made.sandbox().admin_of("222222222222")
    made.env |= {
        "AWS_ENDPOINT_URL": str(made.sandbox().state.aws_url),
        "AWS_ENDPOINT_URL_STS": str(made.sandbox().state.aws_url),
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
    }
    yield made
    made.cipipe("sandbox", "down")


def refused(outcome: Outcome) -> str:
    assert outcome.status == 5, outcome.text
    error = json.loads(outcome.out)["error"]
    assert error["id"] == "bootstrap-not-confirmed"
    assert "--yes" in error["hint"]
    return str(error["message"])


def test_wrong_settings_are_refused_before_anything_is_done(account: Account) -> None:
    file = account.folder / "cipipe.toml"
    file.write_text(CONFIG.replace("policy/rds", "policy/AdministratorAccess"))
    try:
        done = account.bootstrap("--format", "json", "--yes")
    finally:
        file.write_text(CONFIG)
    assert (done.status, done.document["error"]["id"]) == (2, "bootstrap-bad-permission")
    assert BUCKET not in account.buckets()


def test_nothing_is_created_unasked(account: Account) -> None:
    first = account.bootstrap("--format", "json")
    assert f"the bucket {BUCKET}" in refused(first)
    assert f"create the bucket {BUCKET}" in first.err
    assert BUCKET not in account.buckets()

    # An administrator's own bucket is used, and what it lacks is said.
    account.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    account.client("s3").put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": TAGS})
    account.client("s3").put_bucket_encryption(
        Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [ENCRYPTION]}
    )
    second = account.bootstrap("--format", "json")
    assert f"the bucket {BUCKET}" in refused(second)
    assert "create the bucket" not in second.err
    assert f"keep all versions in the bucket {BUCKET}" in second.err
    versioning = account.client("s3").get_bucket_versioning(Bucket=BUCKET)
    assert versioning.get("Status") != "Enabled"


def test_what_terraform_would_change_is_asked_about(account: Account) -> None:
    s3 = account.client("s3")
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(
        Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(closed, True)
    )
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    plans = {"ID": "cipipe-saved-plans", "Status": "Enabled", "Filter": {"Prefix": "cipipe-plans/"}}
    s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": [plans | {"Expiration": {"Days": 8}}]}
    )
    done = account.bootstrap("--format", "json")
    assert "the roles and OIDC providers" in refused(done)
    assert "create   aws_iam_role.deploy" in done.err
    assert "  dags (s3://airflow-222222222222-live/dags/)\n    deploy: upload, list" in done.err
    assert "deploy_policies: arn:aws:iam::{account_id}:policy/rds" in done.err
    assert "shop-deploy" not in account.roles()


def test_with_consent(account: Account) -> None:
    # Somebody else's provider is used as it is.
    account.client("iam").create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=["somebody-elses"]
    )
    # In the sandbox nobody is asked. As AWS, moto would refuse every request by the bucket's policy
    # for TLS, which the sandbox leaves out.
    done = account.bootstrap("--sandbox", "--format", "json")
    assert done.status == 0, done.text
    assert "shop-deploy" in account.roles()
    assert done.document["outputs"]["deploy_role_arn"].endswith("role/shop-deploy")
    assert "in account 222222222222 (live), the roles and OIDC providers" in done.err
    assert 'create   aws_iam_openid_connect_provider.this["github"]' in done.err
    assert 'aws_iam_openid_connect_provider.this["gitlab"]' not in done.err

    granted = {one["stage"]: one["places"] for one in done.document["permissions"]}
    assert granted == {"dags": ["s3://airflow-222222222222-live/dags/"], "hello": []}
    attached = account.client("iam").list_attached_role_policies(RoleName="shop-deploy")
    names = {one["PolicyName"] for one in attached["AttachedPolicies"]}
    assert {"shop-live-existing-read", "shop-live-existing-deploy"} < names
    assert "rds" not in names  # which a sandbox does not have

    # What it lacks is not added, but said.
    assert "does not list the audience https://gitlab.com" in done.err
    account.client("iam").delete_open_id_connect_provider(
        OpenIDConnectProviderArn="arn:aws:iam::222222222222:oidc-provider/gitlab.com"
    )
    account.client("iam").create_open_id_connect_provider(
        Url="https://gitlab.com", ClientIDList=["https://gitlab.com"]
    )

    # Nothing is left to ask about.
    again = account.bootstrap("--sandbox", "--format", "json")
    assert again.status == 0, again.text
    assert again.document == done.document
    assert "in account 222222222222" not in again.err
    assert "audience" not in again.err


def test_the_bucket_stays_as_its_owner_set_it(account: Account) -> None:
    s3 = account.client("s3")
    assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == TAGS
    found = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]
    assert found["Rules"] == [ENCRYPTION]
    iam = account.client("iam")
    arn = "arn:aws:iam::222222222222:policy/shop-live-existing-deploy"
    policy = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    (encrypt,) = [one for one in policy["Statement"] if one["Sid"] == "EncryptState"]
    assert encrypt["Resource"] == [KEY]


def test_two_environments_of_an_account_do_not_change_each_other(account: Account) -> None:
    made = account.cipipe("bootstrap", "--env", "test", "--sandbox", "--format", "json")
    assert made.status == 0, made.text
    # The roles have the paths of their ARNs: no token could assume them otherwise.
    assert made.document["outputs"]["deploy_role_arn"].endswith(":role/team/ci/shop-test")
    assert made.document["outputs"]["verify_role_arn"].endswith(":role/team/shop-test-verify")
    for name in ("live", "test"):
        again = account.cipipe("bootstrap", "--env", name, "--sandbox", "--format", "json")
        assert again.status == 0, again.text
        assert "in account 222222222222" not in again.err
    token = account.sandbox().mint(
        project="group/shop", ref="main", ref_type="branch", audience="https://gitlab.com"
    )
    job = {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_PROJECT_PATH": "group/shop",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_SHA": account.git("rev-parse", "HEAD"),
        "AWS_ID_TOKEN": token,
    }
    status = account.cipipe("status", "--env", "test", "--format", "json", **job)
    assert status.status == 0, status.text


# --- jobs that name an environment; the roles exist now ---


def github_job(account: Account, *arguments: str) -> dict[str, str]:
    """The variables of a GitHub job of the tag v1, with a token that the sandbox issues."""
    words = ("sandbox", "token", "--provider", "github", "--format", "json", *arguments)
    made = account.cipipe(*words)
    assert made.status == 0, made.text
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REPOSITORY": "group/shop",
        "GITHUB_REF": "refs/tags/v1",
        "GITHUB_REF_NAME": "v1",
        "GITHUB_REF_TYPE": "tag",
        "GITHUB_SHA": account.git("rev-parse", "HEAD"),
        "GITHUB_RUN_ID": "1",
        **made.document["environment"],
    }


@pytest.mark.parametrize(
    "job",
    [
        ("--tag", "v1"),
        ("--tag", "v1", "--job-environment", "test"),
        ("--tag", "v1", "--job-environment", "live2"),
        ("--branch", "main", "--job-environment", "live"),
        ("--tag", "v1", "--job-environment", "live", "--event", "merge-request"),
    ],
)
def test_no_other_job_gets_the_role(account: Account, job: tuple[str, ...]) -> None:
    done = account.cipipe("run", "--env", "live", "--format", "json", **github_job(account, *job))
    assert done.status == 3, done.text
    assert done.document["error"]["id"] == "oidc-access-denied"
    ledger = account.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="ledger/")
    assert ledger["KeyCount"] == 0


def test_a_job_of_the_environment_gets_the_role(account: Account) -> None:
    job = github_job(account, "--tag", "v1", "--job-environment", "live")
    account.client("s3").create_bucket(
        Bucket="airflow-222222222222-live",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
    )
    done = account.cipipe("run", "--env", "live", "--format", "json", **job)
    assert done.status == 0, done.text
    assert done.results() == {"hello": "done", "dags": "done"}
    (used,) = [entry for entry in account.sandbox().exchanges() if "github" in entry["issuer"]]
    assert used["sub"] == "repo:group/shop:environment:live"
    assert used["role"].endswith("role/shop-deploy")
    ledger = account.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="ledger/shop/live/hello")
    assert ledger["KeyCount"] == 1
