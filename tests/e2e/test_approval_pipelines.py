"""Approvals in pipelines: the scripts of GitLab's jobs, with the roles of `cipipe bootstrap`, real
Terraform and a sandbox.
"""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from support.component import component
from support.infrastructure import BUCKET, IAC, Infrastructure, infrastructure

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
    with infrastructure(folder, files, environment='approval = "manual"', stages=LATER) as made:
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
    """By the policies that `cipipe bootstrap` gave to both roles: they only allow, never deny."""
    shop.commit({"infra/main.tf": MAIN.format("three")})
    saved = shop.push("iac", "plan", "--save")
    assert saved.status == 0, saved.text
    (plan,) = plans(shop)
    described = plan.replace(".tfplan", ".json")
    for key in (plan, described):
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion"):
            assert allowed(shop, "shop-deploy", action, key)
            assert not allowed(shop, "shop-verify", action, key)
        assert not allowed(shop, "shop-verify", "s3:GetObjectVersion", key)
    # The check itself: the verify role reads the ledger.
    assert allowed(shop, "shop-verify", "s3:GetObject", "ledger/shop/dev/iac.json")


def allowed(shop: Infrastructure, role: str, action: str, key: str) -> bool:
    iam = shop.aws.client("iam")
    resource = f"arn:aws:s3:::{BUCKET}/{key}"
    found = []
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)
        found += document["PolicyVersion"]["Document"]["Statement"]
    assert found
    assert {statement["Effect"] for statement in found} == {"Allow"}
    return any(
        any(fnmatchcase(action, one) for one in _listed(statement["Action"]))
        and any(fnmatchcase(resource, one) for one in _listed(statement["Resource"]))
        for statement in found
    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_a_shell_with_a_sandbox_has_nobody_to_ask(shop: Infrastructure) -> None:
    shop.commit({"infra/main.tf": MAIN.format("tried")})
    done = shop.shell("run")
    assert done.status == 0, done.text
    assert applied(shop) == "tried"
