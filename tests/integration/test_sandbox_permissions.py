"""A sandbox that enforces IAM: sessions of roles may do what their policies allow, and are told in
AWS's words what they may not.
"""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cipipe.sandbox import Sandbox
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.sts import RoleSession, assume_role_with_web_identity
from support.jobs import ACCOUNT, AUDIENCES, OTHER, REGION, ROLE, sandbox_with_roles

SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/session"
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster"


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


POLICY = document(
    allow(["ecs:CreateCluster", "ecs:ListClusters"], [f"{CLUSTER}/ours-*", "*"]),
    {**allow("ecs:*", f"{CLUSTER}/ours-not"), "Effect": "Deny"},
    allow("s3:*", ["arn:aws:s3:::ours", "arn:aws:s3:::ours/*"]),
    allow("ec2:*", Condition={"StringEquals": {"aws:RequestTag/team": "ours"}}),
    allow("ssm:GetParameter", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}}),
    allow(["rds:*", "sqs:*"]),
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    with sandbox_with_roles(folder, enforce_iam=True) as running:
        admin = Aws(running.endpoint(REGION), running.admin)
        admin.call(
            "iam", "put_role_policy", RoleName="deploy", PolicyName="x", PolicyDocument=POLICY
        )
        place = {"LocationConstraint": REGION}
        for bucket in ("ours", "theirs"):
            admin.call("s3", "create_bucket", Bucket=bucket, CreateBucketConfiguration=place)
        yield running


def session(sandbox: Sandbox, **more: Any) -> Credentials:
    token = sandbox.mint(
        project="group/shop", ref="main", ref_type="branch", audience=AUDIENCES["gitlab"]
    )
    asked = RoleSession(role_arn=ROLE, session_name="session", duration=3600, **more)
    return assume_role_with_web_identity(sandbox.endpoint(REGION), asked, token=token).credentials


def client(sandbox: Sandbox, service: str, keys: Credentials | None = None) -> Any:
    found = keys or session(sandbox)
    made: Any = boto3.Session(found.access_key_id, found.secret_access_key, found.session_token)
    return made.client(service, region_name=REGION, endpoint_url=sandbox.state.aws_url)


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    """Code and message."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_what_is_allowed_is_done(sandbox: Sandbox) -> None:
    assert client(sandbox, "ecs").create_cluster(clusterName="ours-1")["cluster"]
    client(sandbox, "s3").put_object(Bucket="ours", Key="k", Body=b"x")
    assert client(sandbox, "sts").get_caller_identity()["Arn"] == SESSION


def test_refusals_have_the_words_of_each_protocol(sandbox: Sandbox) -> None:
    nothing = "because no identity-based policy allows the {} action"
    denied = "with an explicit deny in an identity-based policy"
    user = f"User: {SESSION} is not authorized to perform: "
    ecs, s3 = client(sandbox, "ecs"), client(sandbox, "s3")

    assert refused(ecs.delete_cluster, cluster="ours-1") == (
        "AccessDeniedException",
        f"{user}ecs:DeleteCluster on resource: {CLUSTER}/ours-1 "
        + nothing.format("ecs:DeleteCluster"),
    )
    assert refused(ecs.create_cluster, clusterName="ours-not") == (
        "AccessDeniedException",
        f"{user}ecs:CreateCluster on resource: {CLUSTER}/ours-not {denied}",
    )
    assert refused(s3.put_object, Bucket="theirs", Key="k", Body=b"x") == (
        "AccessDenied",
        f"{user}s3:PutObject on resource: arn:aws:s3:::theirs/k " + nothing.format("s3:PutObject"),
    )
    assert refused(client(sandbox, "iam").get_role, RoleName="deploy") == (
        "AccessDenied",
        f"{user}iam:GetRole on resource: {ROLE} " + nothing.format("iam:GetRole"),
    )
    code, text = refused(client(sandbox, "ec2").create_vpc, CidrBlock="10.0.0.0/16")
    assert code == "UnauthorizedOperation"
    assert text.startswith("You are not authorized to perform this operation. " + user)
    assert refused(client(sandbox, "s3").head_object, Bucket="theirs", Key="k")[0] == "403"


def test_nothing_was_changed_by_what_was_refused(sandbox: Sandbox) -> None:
    refused(client(sandbox, "s3").put_object, Bucket="theirs", Key="left", Body=b"x")
    admin = client(sandbox, "s3", sandbox.admin)
    assert admin.list_objects_v2(Bucket="theirs")["KeyCount"] == 0


def test_a_missing_object_is_told_only_to_who_may_list(sandbox: Sandbox) -> None:
    s3 = client(sandbox, "s3")
    assert refused(s3.get_object, Bucket="ours", Key="none")[0] == "NoSuchKey"
    own = document(allow("s3:GetObject"))
    narrow = client(sandbox, "s3", session(sandbox, policy=own))
    assert "s3:ListBucket" in refused(narrow.get_object, Bucket="ours", Key="none")[1]


def test_tags_decide(sandbox: Sandbox) -> None:
    def tagged(team: str) -> dict[str, Any]:
        tags = [{"Key": "team", "Value": team}]
        return {"TagSpecifications": [{"ResourceType": "vpc", "Tags": tags}]}

    ec2 = client(sandbox, "ec2")
    assert ec2.create_vpc(CidrBlock="10.0.0.0/16", **tagged("ours"))["Vpc"]
    code, _ = refused(ec2.create_vpc, CidrBlock="10.1.0.0/16", **tagged("theirs"))
    assert code == "UnauthorizedOperation"


def test_a_session_policy_narrows(sandbox: Sandbox) -> None:
    narrow = session(sandbox, policy=document(allow("s3:GetObject")))
    _, text = refused(client(sandbox, "s3", narrow).put_object, Bucket="ours", Key="k", Body=b"x")
    assert text.endswith("because no session policy allows the s3:PutObject action")


def test_a_boundary_limits(sandbox: Sandbox) -> None:
    admin = Aws(sandbox.endpoint(REGION), sandbox.admin)
    boundary = admin.call(
        "iam",
        "create_policy",
        PolicyName="boundary",
        PolicyDocument=document(allow("s3:GetObject")),
    )["Policy"]["Arn"]
    admin.call(
        "iam",
        "put_role_permissions_boundary",
        RoleName="deploy",
        PermissionsBoundary=boundary,
    )
    try:
        _, text = refused(client(sandbox, "s3").put_object, Bucket="ours", Key="k", Body=b"x")
    finally:
        admin.call("iam", "delete_role_permissions_boundary", RoleName="deploy")
    assert text.endswith("because no permissions boundary allows the s3:PutObject action")


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "what"),
    [
        ("sqs", "list_queues", {}, "which permissions sqs ListQueues needs"),
        ("ssm", "get_parameter", {"Name": "/x"}, "StringEquals on aws:SourceVpc"),
    ],
)
def test_what_cannot_be_decided_is_refused(
    sandbox: Sandbox, service: str, operation: str, arguments: dict[str, Any], what: str
) -> None:
    _, text = refused(getattr(client(sandbox, service), operation), **arguments)
    assert text.startswith("The sandbox cannot decide ")
    assert what in text


def test_assuming_a_role_needs_a_permission(sandbox: Sandbox) -> None:
    arn = f"arn:aws:iam::{OTHER}:role/deploy"
    assume = client(sandbox, "sts").assume_role
    assert "sts:AssumeRole" in refused(assume, RoleArn=arn, RoleSessionName="next")[1]


def test_administrators_may_do_everything(sandbox: Sandbox) -> None:
    assert client(sandbox, "sqs", sandbox.admin).list_queues()["ResponseMetadata"]


def test_the_permissions_that_were_needed_are_kept(sandbox: Sandbox) -> None:
    client(sandbox, "s3").put_object(Bucket="ours", Key="kept", Body=b"x")
    refused(client(sandbox, "s3").put_object, Bucket="theirs", Key="kept", Body=b"x")
    found = {
        entry["resource"]: entry["refused"]
        for entry in sandbox.permissions()
        if entry["role"] == ROLE and entry["resource"].endswith("/kept")
    }
    assert found["arn:aws:s3:::ours/kept"] is None
    assert "s3:PutObject" in found["arn:aws:s3:::theirs/kept"]
