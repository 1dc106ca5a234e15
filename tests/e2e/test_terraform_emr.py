"""The stack with `create_emr`, which is off by default, applied and destroyed by real Terraform on
moto, with a cluster in between.

What moto does not have: EMR does not check roles, policies or groups there, and rules of a security
group that refer to another group lose their descriptions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import servers
from support.stack_root import StackRoot, copied
from support.tools import require

VARIABLES = {"project": "clusters", "environment": "dev", "create_emr": "true"}
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


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StackRoot]:
    require("terraform", "the EMR stack")
    with servers.moto() as url:
        made = StackRoot(copied(tmp_path / "root"), url, VARIABLES)
        made.create()
        yield made


def test_a_cluster_starts_in_the_stack_and_leaves_nothing(root: StackRoot) -> None:
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
