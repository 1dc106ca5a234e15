"""Approvals in pipelines: the scripts of GitLab's jobs, with the roles of `cipipe bootstrap`, real
Terraform and a sandbox.
"""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from support.component import component
from support.infrastructure import BUCKET, IAC, LEDGER, Infrastructure, infrastructure
from support.jobs import merge_request_job
from support.statements import need_of, refused

MAIN = """
terraform {{
  backend "s3" {{}}
}}
resource "terraform_data" "it" {{
  input = "{}"
}}
output "version" {{
  value = terraform_data.it.output
}}
"""
LATER = (
    IAC
    + """
[stages.later]
kind = "command"
paths = ["later/**"]
run = [["true"]]
needs = ["iac"]
"""
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infrastructure]:
    files = {"infra/main.tf": MAIN.format("one"), "later/x": ""}
    folder = tmp_path_factory.mktemp("approval") / "shop"
    with infrastructure(
        folder,
        files,
        environment='approval = "manual"',
        stages=LATER,
        CIPIPE_SANDBOX_IAM="enforce",
    ) as made:
        yield made


def handed_over(shop: Infrastructure) -> dict[str, str]:
    """The variables of the dotenv artifact, which later jobs get."""
    file = shop.folder / "cipipe-plan.env"
    found = dict(line.split("=", 1) for line in file.read_text().splitlines())
    file.unlink()
    return found


def applied(shop: Infrastructure) -> str | None:
    body = shop.object("terraform/shop/dev.tfstate")
    outputs = json.loads(body)["outputs"] if body else {}
    return outputs["version"]["value"] if outputs else None


def plans(shop: Infrastructure) -> list[str]:
    return [key for key in shop.keys("cipipe-plans/") if key.endswith(".tfplan")]


def test_the_jobs_of_the_component(shop: Infrastructure) -> None:
    jobs = component({"image": "x", "approval": "manual"})
    done = shop.push()
    assert done.status == 5, done.text
    assert "approval-required" in done.err

    save = shop.script(jobs["save-plan:dev"]["script"])
    assert save.status == 0, save.text
    assert "Created (1)" in save.out
    variables = handed_over(shop)
    assert list(variables) == ["CIPIPE_PLAN_ID"]
    assert variables["CIPIPE_PLAN_ID"] in save.out
    assert len(plans(shop)) == 1
    assert applied(shop) is None

    apply = shop.script(jobs["apply:dev"]["script"], **variables)
    assert apply.status == 0, apply.text
    assert applied(shop) == "one"
    assert plans(shop) == []
    for stage in ("iac", "later"):
        record = shop.record(stage)
        assert record is not None
        assert record["state"] == "deployed"

    # With nothing left to approve, the same jobs run what else is due.
    shop.commit({"later/x": "changed"})
    assert shop.script(jobs["save-plan:dev"]["script"]).status == 0
    variables = handed_over(shop)
    assert variables == {"CIPIPE_PLAN_ID": "none"}
    apply = shop.script(jobs["apply:dev"]["script"], **variables)
    assert apply.status == 0, apply.text
    assert "later" in apply.out


def test_the_jobs_of_a_child_pipeline(shop: Infrastructure) -> None:
    shop.commit({"infra/main.tf": MAIN.format("two")})
    planned = shop.push("plan", "--format", "gitlab")
    assert planned.status == 0, planned.text
    jobs = json.loads(planned.out)
    assert jobs["deploy:iac"]["when"] == "manual"

    save = shop.script(jobs["save-plan:iac"]["script"])
    assert save.status == 0, save.text
    variables = handed_over(shop)
    apply = shop.script(jobs["deploy:iac"]["script"], **variables)
    assert apply.status == 0, apply.text
    assert applied(shop) == "two"
    finish = shop.script(jobs["finish"]["script"])
    assert finish.status == 0, finish.text

    # What somebody starts a second time is refused, and applies nothing.
    again = shop.script(jobs["deploy:iac"]["script"], **variables)
    assert again.status == 5, again.text
    assert "saved-plan-used" in again.err


def test_no_script_without_an_id(shop: Infrastructure) -> None:
    """A job whose artifact is missing fails, instead of applying nothing with success."""
    jobs = component({"image": "x", "approval": "manual"})
    done = shop.script(jobs["apply:dev"]["script"], CIPIPE_PLAN_ID="")
    assert done.status == 5, done.text
    assert "saved-plan-unknown" in done.err


def test_only_the_deploy_role_may_read_saved_plans(shop: Infrastructure) -> None:
    """The sandbox enforces the policies that `cipipe bootstrap` gave to both roles."""
    shop.commit({"infra/main.tf": MAIN.format("three")})
    saved = shop.push("iac", "plan", "--save")
    assert saved.status == 0, saved.text
    (plan,) = plans(shop)
    verify = as_verify_role(shop)
    assert verify.get_object(Bucket=BUCKET, Key=f"{LEDGER}iac.json")["Body"].read()
    for key in (plan, plan.replace(".tfplan", ".json")):
        with pytest.raises(verify.exceptions.ClientError, match="AccessDenied"):
            verify.get_object(Bucket=BUCKET, Key=key)
        with pytest.raises(verify.exceptions.ClientError, match="AccessDenied"):
            verify.put_object(Bucket=BUCKET, Key=key, Body=b"another plan")
    with pytest.raises(verify.exceptions.ClientError, match="AccessDenied"):
        verify.list_object_versions(Bucket=BUCKET, Prefix="cipipe-plans/")


def as_verify_role(shop: Infrastructure) -> Any:
    """S3 for the role that merge requests get."""
    job = merge_request_job(shop.clone.sandbox(), "group/shop")
    session = shop.aws.client("sts").assume_role_with_web_identity(
        RoleArn="arn:aws:iam::111111111111:role/shop-verify",
        RoleSessionName="test",
        WebIdentityToken=job["AWS_ID_TOKEN"],
    )["Credentials"]
    keys = boto3.Session(
        session["AccessKeyId"],
        session["SecretAccessKey"],
        session["SessionToken"],
        region_name="eu-central-1",
    )
    return keys.client("s3", endpoint_url=shop.clone.sandbox().state.aws_url)


def test_the_deploy_role_needs_its_statement(shop: Infrastructure) -> None:
    iam = shop.aws.client("iam")
    documents = []
    for policy in iam.list_attached_role_policies(RoleName="shop-deploy")["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=arn, VersionId=version)
        documents.append(found["PolicyVersion"]["Document"])
    needs = [
        need_of(entry)
        for entry in shop.clone.sandbox().permissions()
        if entry["role"].endswith("/shop-deploy") and entry["refused"] is None
    ]
    assert refused(documents, needs) == []
    kept = [
        document
        | {"Statement": [one for one in document["Statement"] if one["Sid"] != "SavedPlans"]}
        for document in documents
    ]
    missing = {need.action for need in refused(kept, needs)}
    assert missing == {
        "s3:DeleteObjectVersion",
        "s3:GetObject",
        "s3:PutObject",
    }


def test_a_shell_with_a_sandbox_has_nobody_to_ask(shop: Infrastructure) -> None:
    shop.commit({"infra/main.tf": MAIN.format("tried")})
    done = shop.shell("run")
    assert done.status == 0, done.text
    assert applied(shop) == "tried"
