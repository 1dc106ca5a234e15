"""`cipipe drift` of a whole environment: real Terraform, Docker and a registry, in a sandbox."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe.tools.registry.client import Manifest, Registry
from support.clone import Aws, Clone, Outcome
from support.image_project import AUTH
from support.seven_stages import seven_stages

LEDGER = "cipipe-111111111111-eu-central-1"
SECRETS = ("swordfish-before-1234", "swordfish-after-5678")
MORE = f"""
resource "aws_ssm_parameter" "plain" {{
  name  = "/shop/plain"
  type  = "String"
  value = "before"
}}

resource "aws_ssm_parameter" "secret" {{
  name  = "/shop/secret"
  type  = "SecureString"
  value = "{SECRETS[0]}"
}}

resource "aws_ssm_parameter" "follows" {{
  name  = "/shop/follows"
  type  = "String"
  value = aws_ssm_parameter.plain.arn
}}

output "plain" {{ value = aws_ssm_parameter.plain.arn }}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Everything is deployed, from a commit before the last one."""
    made = seven_stages(tmp_path_factory.mktemp("drift") / "shop", **{"network/more.tf": MORE})
    done = made.run()
    assert done.status == 0, done.text
    yield made
    made.cipipe("sandbox", "down")


@pytest.fixture
def aws(shop: Clone) -> Aws:
    return Aws(shop.sandbox())


def drift(shop: Clone, *arguments: str, **env: str) -> Outcome:
    options = ("--sandbox", "--env", "dev", "--format", "json")
    return shop.cipipe("drift", *options, *arguments, **env)


def found(shop: Clone, *arguments: str, status: int = 6, **env: str) -> list[dict[str, Any]]:
    done = drift(shop, *arguments, **env)
    assert done.status == status, done.text
    return list(done.document["findings"])


def named(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(finding["stage"], finding["kind"], finding["what"]) for finding in findings]


def versions(aws: Aws, bucket: str) -> int:
    answer = aws.client("s3").list_object_versions(Bucket=bucket)
    return len(answer.get("Versions", [])) + len(answer.get("DeleteMarkers", []))


def test_a_clean_deployment_has_none_and_nothing_is_written(shop: Clone, aws: Aws) -> None:
    before = [versions(aws, bucket) for bucket in (LEDGER, "shop-dev-dags")]
    done = drift(shop)
    assert done.status == 0, done.text
    stages = {stage["name"]: stage["state"] for stage in done.document["stages"]}
    assert stages == dict.fromkeys(("network", "api", "dbt", "finance", "sales"), "deployed")
    assert done.document["findings"] == []
    assert [versions(aws, bucket) for bucket in (LEDGER, "shop-dev-dags")] == before
    # What was checked out, and the plan, are gone.
    assert list((shop.folder / ".cipipe/run").iterdir()) == []


def registry(shop: Clone, name: str) -> Registry:
    host = str(shop.sandbox().state.registry)
    return Registry(
        repository=f"{host}/{name}",
        url=f"http://{host}",
        username=AUTH["username"],
        password=AUTH["password"],
    )


@contextlib.contextmanager
def parameter(aws: Aws, name: str, before: str, after: str) -> Iterator[None]:
    """A parameter with another value, and with its own again afterwards."""
    ssm = aws.client("ssm")
    ssm.put_parameter(Name=name, Value=after, Overwrite=True)
    yield
    ssm.put_parameter(Name=name, Value=before, Overwrite=True)


@contextlib.contextmanager
def without_object(aws: Aws, key: str) -> Iterator[None]:
    """The bucket of the DAGs without an object, which is there again afterwards."""
    s3 = aws.client("s3")
    deleted = s3.delete_object(Bucket="shop-dev-dags", Key=key)
    yield
    s3.delete_object(Bucket="shop-dev-dags", Key=key, VersionId=deleted["VersionId"])


@contextlib.contextmanager
def policy(aws: Aws) -> Iterator[None]:
    """The provider reads a bucket's policy into an attribute that nobody configured."""
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteBucket",
        "Resource": "arn:aws:s3:::shop-dev-dags",
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    s3 = aws.client("s3")
    s3.put_bucket_policy(Bucket="shop-dev-dags", Policy=text)
    yield
    s3.delete_bucket_policy(Bucket="shop-dev-dags")


def test_each_change_is_one_finding_and_none_tells_a_secret(shop: Clone, aws: Aws) -> None:
    dbt, api = registry(shop, "shop-dev-dbt"), registry(shop, "shop-dev-api")
    (moved,), (gone,) = dbt.tags(), api.tags()
    deployed, kept = dbt.manifest(moved), api.manifest(gone)
    assert deployed is not None
    assert kept is not None
    changed = {**deployed.document(), "annotations": {"by": "somebody"}}
    with (
        parameter(aws, "/shop/plain", "before", "after"),
        parameter(aws, "/shop/secret", *SECRETS),
        policy(aws),
        without_object(aws, "finance/orders.py"),
    ):
        body = json.dumps(changed).encode()
        dbt.put_manifest(moved, Manifest(body, deployed.media_type, ""))
        api.delete([gone])
        text = shop.cipipe("drift", "-v", "--sandbox", "--env", "dev")
        done = drift(shop)
        newest = dbt.digest(moved)
        dbt.put_manifest(moved, deployed)
        api.put_manifest(gone, kept)

    for outcome in (text, done):
        assert outcome.status == 6, outcome.text
        assert [secret for secret in SECRETS if secret in outcome.text] == []
    assert "aws_ssm_parameter.secret" in text.out
    findings = done.document["findings"]
    assert sorted(named(findings)) == [
        ("api", "tag-missing", f"{api.repository}:{gone}"),
        ("dbt", "tag-moved", f"{dbt.repository}:{moved}"),
        ("finance", "object-missing", "s3://shop-dev-dags/finance/orders.py"),
        ("network", "resource-changed", "aws_ssm_parameter.plain"),
        ("network", "resource-changed", "aws_ssm_parameter.secret"),
    ]
    (digests,) = [
        (finding["expected"], finding["actual"])
        for finding in findings
        if finding["kind"] == "tag-moved"
    ]
    assert digests == (deployed.digest, newest)


def test_a_deleted_resource_is_one_finding(shop: Clone, aws: Aws) -> None:
    """What is only known when it is there again is no finding of its own."""
    ssm = aws.client("ssm")
    ssm.delete_parameter(Name="/shop/plain")
    findings = found(shop, "network")
    ssm.put_parameter(Name="/shop/plain", Value="before", Type="String")
    wanted = [("network", "resource-deleted", "aws_ssm_parameter.plain")]
    assert named(findings) == wanted, findings


def shallow(shop: Clone, folder: Path) -> Clone:
    """A clone with the last commit only, which uses the same sandbox."""
    argv = ["git", "clone", "--quiet", "--depth", "1", f"file://{shop.folder}", str(folder)]
    subprocess.run(argv, check=True)
    return Clone(folder, {**shop.env, "CIPIPE_SANDBOX_DIR": str(shop.folder / ".cipipe/sandbox")})


def test_a_clone_of_depth_1(shop: Clone, aws: Aws, tmp_path: Path) -> None:
    """The deployed commit is needed only where HEAD has other content."""
    shop.commit("notify/who", "and everybody else\n")
    assert found(shallow(shop, tmp_path / "same"), "network", status=0) == []

    shop.commit("network/more.tf", "\n# another comment\n")
    assert found(shop, "network", status=0) == []

    key = "sales/customers.py"
    with without_object(aws, key):
        findings = found(shallow(shop, tmp_path / "other"), status=4)
    assert named(findings) == [
        ("network", "unchecked", "network"),
        ("sales", "object-missing", f"s3://shop-dev-dags/{key}"),
    ]
    assert "this clone does not have the deployed commit" in findings[0]["actual"]
    assert "fetch-depth" in findings[0]["hint"]
    assert "GIT_DEPTH" in findings[0]["hint"]


def test_an_interrupt_stops_terraform_and_leaves_nothing(shop: Clone) -> None:
    child = shop.start("drift", "network", "--sandbox", "--env", "dev")
    assert child.stderr is not None
    for line in child.stderr:
        if "Initializing" in line:
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "[interrupted]" in err
    assert list((shop.folder / ".cipipe/run").iterdir()) == []


def test_a_scheduled_job_gets_the_verify_role_and_no_other(shop: Clone) -> None:
    sandbox = shop.sandbox()
    before = len(sandbox.exchanges())
    token = sandbox.mint(
        project="data/shop", ref="main", ref_type="branch", audience="https://gitlab.com"
    )
    job = {
        **sandbox.child_env(),
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "schedule",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_BRANCH": "main",
        "AWS_ID_TOKEN": token,
    }
    done = shop.cipipe("drift", "api", "--env", "dev", "--format", "json", **job)
    assert done.status == 0, done.text
    roles = [exchange["role"] for exchange in sandbox.exchanges()[before:]]
    assert roles
    assert {role.rpartition("/")[2] for role in roles} == {"shop-verify"}
    assert msgspec.json.decode(done.out)["findings"] == []
