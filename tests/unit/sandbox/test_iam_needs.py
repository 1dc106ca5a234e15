"""Which permissions a request needs."""

from collections.abc import Mapping
from typing import Any

import pytest

from cipipe.sandbox.aws.iam.call import Call
from cipipe.sandbox.aws.iam.enforcement import needs_of
from cipipe.sandbox.aws.iam.evaluation import Need, UndecidableError

ACCOUNT, REGION = "111111111111", "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/shop/dev/task"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/shop-dev-boundary"


class World:
    """What exists."""

    def role_arn(self, account: str, name: str) -> str | None:
        return ROLE if name == "task" else None

    def boundary_of(self, account: str, name: str) -> str | None:
        return BOUNDARY if name == "task" else None

    def ec2_tags(self, account: str, region: str, identifier: str) -> Mapping[str, str]:
        return {"project": "shop"} if identifier == "vpc-1" else {}

    def ec2_association(self, account: str, region: str, identifier: str) -> tuple[str, ...]:
        return ("rtb-1", "subnet-1") if identifier == "rtbassoc-1" else ()

    def secret_arn(self, account: str, region: str, name: str) -> str | None:
        return None

    def query_workgroup(self, account: str, region: str, identifier: str) -> str | None:
        return "shop-dev"

    def key_of(self, account: str, region: str, name: str) -> tuple[str, Mapping[str, str]]:
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", {"project": "shop"}

    def has_object(self, account: str, bucket: str, key: str, version: str | None) -> bool:
        return key != "missing"


def needs(service: str, operation: str = "", **more: Any) -> list[Need]:
    call = Call(
        service=service,
        operation=operation,
        account=ACCOUNT,
        region=REGION,
        existing=World(),
        **more,
    )
    return list(needs_of(call))


def shown(found: list[Need]) -> list[str]:
    """Action and the end of the ARN."""
    return [f"{need.action} {need.resource.split(':', 5)[-1]}" for need in found]


def s3(method: str, path: str, **more: Any) -> list[str]:
    return shown(needs("s3", method=method, path=path, **more))


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/", {}, ["s3:ListAllMyBuckets *"]),
        ("GET", "/b", {"list-type": "2"}, ["s3:ListBucket b"]),
        ("HEAD", "/b", {}, ["s3:ListBucket b"]),
        ("GET", "/b", {"versions": ""}, ["s3:ListBucketVersions b"]),
        ("GET", "/b", {"encryption": ""}, ["s3:GetEncryptionConfiguration b"]),
        ("DELETE", "/b", {"encryption": ""}, ["s3:PutEncryptionConfiguration b"]),
        ("DELETE", "/b", {"policy": ""}, ["s3:DeleteBucketPolicy b"]),
        ("PUT", "/b", {}, ["s3:CreateBucket b"]),
        ("DELETE", "/b", {}, ["s3:DeleteBucket b"]),
        ("GET", "/b/k/l", {}, ["s3:GetObject b/k/l"]),
        ("HEAD", "/b/k", {"versionId": "1"}, ["s3:GetObjectVersion b/k"]),
        ("GET", "/b/missing", {}, ["s3:GetObject b/missing", "s3:ListBucket b"]),
        ("GET", "/b/k", {"tagging": ""}, ["s3:GetObjectTagging b/k"]),
        ("GET", "/b/k", {"attributes": ""}, ["s3:GetObjectAttributes b/k", "s3:GetObject b/k"]),
        ("PUT", "/b/k", {}, ["s3:PutObject b/k"]),
        ("POST", "/b/k", {"uploads": ""}, ["s3:PutObject b/k"]),
        ("DELETE", "/b/k", {"uploadId": "1"}, ["s3:AbortMultipartUpload b/k"]),
        ("DELETE", "/b/k", {"versionId": "1"}, ["s3:DeleteObjectVersion b/k"]),
    ],
)
def test_s3(method: str, path: str, query: dict[str, str], expected: list[str]) -> None:
    assert s3(method, path, query=query) == expected


def test_s3_copies_and_deletes_several_objects() -> None:
    copied = s3("PUT", "/b/k", headers={"x-amz-copy-source": "/other/a%20b?versionId=1"})
    assert copied == ["s3:PutObject b/k", "s3:GetObjectVersion other/a b"]
    body = (
        b"<Delete><Object><Key>a</Key></Object>"
        b"<Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>"
    )
    deleted = s3("POST", "/b", query={"delete": ""}, body=body)
    assert deleted == ["s3:DeleteObject b/a", "s3:DeleteObjectVersion b/b"]


def test_s3_keys_are_read_as_xml() -> None:
    body = b"<Delete><Object><Key>a&amp;b</Key></Object></Delete>"
    assert s3("POST", "/b", query={"delete": ""}, body=body) == ["s3:DeleteObject b/a&b"]


def test_s3_checks_what_a_new_object_is_given() -> None:
    headers = {"x-amz-acl": "public-read", "x-amz-tagging": "a=b"}
    assert s3("PUT", "/b/k", headers=headers) == [
        "s3:PutObject b/k",
        "s3:PutObjectAcl b/k",
        "s3:PutObjectTagging b/k",
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("PUT", "/b/k", {"acl": ""}, b""),
        ("PUT", "/b/k", {"retention": ""}, b""),
        ("GET", "/b/k", {"legal-hold": ""}, b""),
        ("GET", "/b", {"analytics": "", "id": "1"}, b""),
        ("POST", "/b", {"delete": ""}, b""),
        ("POST", "/b", {"delete": ""}, b'<Object xmlns="x"><Key>a</Key></Object>'),
        ("POST", "/b", {"delete": ""}, b"<Object>a</Object>"),
    ],
)
def test_s3_requests_that_are_not_known_are_errors(
    method: str, path: str, query: dict[str, str], body: bytes
) -> None:
    with pytest.raises(UndecidableError):
        s3(method, path, query=query, body=body)


def test_the_prefix_of_a_listing_is_a_condition_key() -> None:
    (listed,) = needs("s3", method="GET", path="/b", query={"prefix": "dags/"})
    assert listed.context == {"s3:prefix": ("dags/",)}
    (whole,) = needs("s3", method="GET", path="/b")
    assert whole.context == {}


def test_a_conditional_write_has_a_condition_key() -> None:
    (write,) = needs("s3", method="PUT", path="/b/k", headers={"if-none-match": "*"})
    assert write.context == {"s3:if-none-match": ("*",)}
    (plain,) = needs("s3", method="PUT", path="/b/k")
    assert plain.context == {}


def ec2(operation: str, **form: str) -> list[Need]:
    dotted = {name.replace("_", "."): value for name, value in form.items()}
    return needs("ec2", operation, parameters=dotted)


def test_ec2_checks_what_is_new_by_its_tags_and_what_exists_by_its_own() -> None:
    subnet, tags, vpc = ec2(
        "CreateSubnet",
        VpcId="vpc-1",
        TagSpecification_1_ResourceType="subnet",
        TagSpecification_1_Tag_1_Key="project",
        TagSpecification_1_Tag_1_Value="shop",
    )
    assert shown([subnet, tags, vpc]) == [
        "ec2:CreateSubnet subnet/*",
        "ec2:CreateTags subnet/*",
        "ec2:CreateSubnet vpc/vpc-1",
    ]
    asked = {"aws:requesttag/project": ("shop",), "aws:tagkeys": ("project",)}
    assert subnet.context == asked
    assert tags.context == {**asked, "ec2:createaction": ("CreateSubnet",)}
    assert vpc.context == {"aws:resourcetag/project": ("shop",)}
    assert all(need.tags_known for need in (subnet, tags, vpc))


def test_ec2_finds_what_an_association_connects() -> None:
    found = ec2("DisassociateRouteTable", AssociationId="rtbassoc-1")
    assert shown(found) == [
        "ec2:DisassociateRouteTable route-table/rtb-1",
        "ec2:DisassociateRouteTable subnet/subnet-1",
    ]


def test_ec2_does_not_check_the_target_of_a_route() -> None:
    found = ec2("CreateRoute", RouteTableId="rtb-1", NatGatewayId="nat-1")
    assert shown(found) == ["ec2:CreateRoute route-table/rtb-1"]


def test_ec2_describes_without_resources() -> None:
    assert shown(ec2("DescribeVpcs", VpcId_1="vpc-1")) == ["ec2:DescribeVpcs *"]


def test_iam_sees_the_boundary_of_the_request_or_of_the_role() -> None:
    form = {"RoleName": "new", "Path": "/shop/dev/", "PermissionsBoundary": "arn:b"}
    (created,) = needs("iam", "CreateRole", parameters=form)
    assert created.resource.endswith(":role/shop/dev/new")
    assert created.context == {"iam:permissionsboundary": ("arn:b",)}
    (put,) = needs("iam", "PutRolePolicy", parameters={"RoleName": "task", "PolicyName": "x"})
    assert (put.resource, put.context) == (ROLE, {"iam:permissionsboundary": (BOUNDARY,)})
    (read,) = needs("iam", "GetRole", parameters={"RoleName": "task"})
    assert (read.resource, read.context) == (ROLE, {})


def test_tags_of_a_new_resource_need_a_permission() -> None:
    form = {"RoleName": "new", "Tags.member.1.Key": "project", "Tags.member.1.Value": "shop"}
    assert shown(needs("iam", "CreateRole", parameters=form)) == [
        "iam:CreateRole role/new",
        "iam:TagRole role/new",
    ]
    for service, operation, parameters, tagging in (
        ("ecr", "CreateRepository", {"repositoryName": "x"}, "ecr:TagResource repository/x"),
        ("ssm", "PutParameter", {"Name": "/a/b"}, "ssm:AddTagsToResource parameter/a/b"),
        ("logs", "CreateLogGroup", {"logGroupName": "/x"}, "logs:TagResource log-group:/x"),
    ):
        tagged = {**parameters, "tags": {"project": "shop"}}
        assert shown(needs(service, operation, parameters=tagged))[-1] == tagging


def test_events_are_in_a_stream_of_a_log_group() -> None:
    one = {"logGroupName": "/ecs/dbt", "logStreamName": "dbt/1"}
    assert shown(needs("logs", "GetLogEvents", parameters=one)) == [
        "logs:GetLogEvents log-group:/ecs/dbt:log-stream:dbt/1"
    ]
    assert shown(needs("logs", "CreateLogStream", parameters=one)) == [
        "logs:CreateLogStream log-group:/ecs/dbt"
    ]


def test_a_role_is_passed_on() -> None:
    parameters = {"family": "shop-dev-dbt", "taskRoleArn": ROLE}
    registered, passed = needs("ecs", "RegisterTaskDefinition", parameters=parameters)
    assert registered.resource.endswith(":task-definition/shop-dev-dbt:*")
    assert passed.resource == ROLE
    assert passed.context == {"iam:passedtoservice": ("ecs-tasks.amazonaws.com",)}


def test_tasks_know_their_cluster() -> None:
    cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/shop-dev"
    for operation, parameters, resource in (
        ("RunTask", {"taskDefinition": "dbt"}, "task-definition/dbt:*"),
        ("RunTask", {"taskDefinition": "dbt:3"}, "task-definition/dbt:3"),
        ("StopTask", {"task": "abc"}, "task/shop-dev/abc"),
        ("ListTasks", {}, "*"),
    ):
        found = needs("ecs", operation, parameters={**parameters, "cluster": "shop-dev"})
        assert found[0].resource.split(":", 5)[-1] == resource
        assert found[0].context == {"ecs:cluster": (cluster,)}


def test_glue_checks_catalogue_database_and_table() -> None:
    parameters = {"DatabaseName": "movies", "TableInput": {"Name": "ratings"}}
    assert shown(needs("glue", "CreateTable", parameters=parameters)) == [
        "glue:CreateTable catalog",
        "glue:CreateTable database/movies",
        "glue:CreateTable table/movies/ratings",
    ]


def test_athena_finds_the_workgroup_of_a_query() -> None:
    found = needs("athena", "GetQueryExecution", parameters={"QueryExecutionId": "1"})
    assert shown(found) == ["athena:GetQueryExecution workgroup/shop-dev"]


def test_a_caller_may_always_ask_who_it_is() -> None:
    assert needs("sts", "GetCallerIdentity") == []


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("rds", "DescribeDBInstances", {}),
        ("ecs", "PutAttributes", {}),
        # Needs a permission for the service, not for its cluster.
        ("ecs", "UpdateService", {"cluster": "c", "service": "s"}),
        ("ec2", "RunInstances", {"ImageId": "ami-1"}),
        ("iam", "CreateUser", {"UserName": "x"}),
        ("sts", "GetFederationToken", {}),
    ],
)
def test_what_is_not_known_is_an_error(
    service: str, operation: str, parameters: dict[str, str]
) -> None:
    with pytest.raises(UndecidableError, match=operation):
        needs(service, operation, parameters=parameters)
