"""The stack with `create_emr`, which is off by default, applied and destroyed by real Terraform on
moto, with a cluster in between.

What moto does not have: EMR does not check roles, policies or groups there, and rules of a security
group that refer to another group lose their descriptions.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from support import servers
from support.tools import ROOT, require

REGION, ACCOUNT = "eu-central-1", "123456789012"
VARIABLES = {
    "project": "clusters",
    "environment": "dev",
    "region": REGION,
    "account_id": ACCOUNT,
    "image_tag": "0" * 20,
    "sandbox": "true",
    "create_emr": "true",
}
# Between the groups of primary node, core nodes and service access.
RULES = {
    ("primary", "primary", None),
    ("primary", "core", None),
    ("core", "primary", None),
    ("core", "core", None),
    ("primary", "service", 9443),
    ("service", "primary", 8443),
    ("service", "core", 8443),
}


@dataclass(frozen=True)
class Root:
    """The repository's Terraform root with its state in a file."""

    folder: Path
    url: str

    def terraform(self, *arguments: str) -> str:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "TF_VAR_"))
        }
        env = {
            **kept,
            **{f"TF_VAR_{name}": value for name, value in VARIABLES.items()},
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
        }
        argv = [str(require("terraform", "the EMR stack")), *arguments]
        done = subprocess.run(
            argv, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        found = json.loads(self.terraform("output", "-json"))
        return {name: output["value"] for name, output in found.items()}

    def planned(self) -> dict[str, set[str]]:
        """The attributes that another apply would change, by the type of resource."""
        self.terraform("plan", "-input=false", "-out=again")
        changes = json.loads(self.terraform("show", "-json", "again"))["resource_changes"]
        found: dict[str, set[str]] = {}
        for change in changes:
            if change["change"]["actions"] == ["no-op"]:
                continue
            assert change["change"]["actions"] == ["update"], change["address"]
            before, after = change["change"]["before"], change["change"]["after"]
            different = {name for name in before if before[name] != after.get(name)}
            found[change["type"]] = found.get(change["type"], set()) | different
        return found

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION)
        return session.client(service, endpoint_url=self.url)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    require("terraform", "the EMR stack")
    folder = tmp_path / "root"
    ignored = shutil.ignore_patterns(".terraform", "tests")
    shutil.copytree(ROOT / "terraform", folder, ignore=ignored)
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    with servers.moto() as url:
        made = Root(folder, url)
        made.terraform("init", "-input=false")
        made.terraform("apply", "-auto-approve", "-input=false")
        yield made


def test_a_cluster_starts_in_the_stack_and_leaves_nothing(root: Root) -> None:
    outputs = root.outputs()
    ec2, iam, emr = root.client("ec2"), root.client("iam"), root.client("emr")
    groups = dict(
        zip(("primary", "core", "service"), outputs["emr_security_group_ids"], strict=True)
    )
    assert egress(ec2, groups) == RULES
    profile = iam.get_instance_profile(InstanceProfileName=outputs["emr_instance_profile"])
    (role,) = profile["InstanceProfile"]["Roles"]
    assert role["RoleName"] == "clusters-dev-emr-instance"
    assert root.planned() == {
        "aws_vpc_security_group_egress_rule": {"description"},
        "aws_vpc_security_group_ingress_rule": {"description"},
    }

    # As the DAG `emr_elt` starts it. EMR adds rules of its own to the groups.
    cluster = emr.run_job_flow(
        Name="clusters-dev emr_elt 1",
        ReleaseLabel="emr-7.9.0",
        Instances={
            "InstanceGroups": [
                {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
            ],
            "KeepJobFlowAliveWhenNoSteps": True,
            "Ec2SubnetId": outputs["private_subnet_ids"][0],
            "EmrManagedMasterSecurityGroup": groups["primary"],
            "EmrManagedSlaveSecurityGroup": groups["core"],
            "ServiceAccessSecurityGroup": groups["service"],
        },
        ServiceRole=outputs["emr_service_role_arn"],
        JobFlowRole=outputs["emr_instance_profile"],
        Tags=[{"Key": key, "Value": value} for key, value in outputs["tags"].items()],
    )["JobFlowId"]
    found = emr.describe_cluster(ClusterId=cluster)["Cluster"]
    placed = found["Ec2InstanceAttributes"]
    assert placed["Ec2SubnetId"] in outputs["private_subnet_ids"]
    assert placed["ServiceAccessSecurityGroup"] == groups["service"]
    emr.terminate_job_flows(JobFlowIds=[cluster])

    root.terraform("destroy", "-auto-approve", "-input=false")
    # Other tests use the same moto.
    ours = [{"Name": "tag:project", "Values": [VARIABLES["project"]]}]
    assert ec2.describe_vpcs(Filters=ours)["Vpcs"] == []
    left = [
        *(group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]),
        *(one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]),
        *(role["RoleName"] for role in iam.list_roles()["Roles"]),
    ]
    assert [name for name in left if name.startswith("clusters-")] == []


def egress(ec2: Any, groups: dict[str, str]) -> set[tuple[str, str, int | None]]:
    """From which group to which, at which port."""
    names = {group: name for name, group in groups.items()}
    found = ec2.describe_security_groups(GroupIds=list(names))["SecurityGroups"]
    return {
        (names[group["GroupId"]], names[pair["GroupId"]], permission.get("FromPort"))
        for group in found
        for permission in group["IpPermissionsEgress"]
        for pair in permission["UserIdGroupPairs"]
    }
