"""The permissions of requests whose parameters name their resources: those
of the JSON protocols, of SNS and of CloudWatch's alarms.

https://docs.aws.amazon.com/service-authorization/latest/reference/, one page for each service
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cipipe.sandbox.aws.iam.call import Call, form_tags, json_tags, members, pass_role, request_tags
from cipipe.sandbox.aws.iam.evaluation import Need


class NamedResources(NamedTuple):
    """Where the requests of one service name resources."""

    # The prefix of the actions.
    prefix: str

    # Parameter → the resource in an ARN. `{}` is the value; an ARN as value
    # is taken as it is. The first one that a request has counts.
    names: Mapping[str, str]

    # Operations without a resource.
    free: frozenset[str] = frozenset()

    # The action that tags a resource while it is created.
    tagging: str = "TagResource"


SERVICES = {
    "athena": NamedResources(
        "athena",
        {"WorkGroup": "workgroup/{}", "ResourceARN": "", "Name": "workgroup/{}"},
        frozenset({"ListWorkGroups"}),
    ),
    "dynamodb": NamedResources("dynamodb", {"TableName": "table/{}"}, frozenset({"ListTables"})),
    "ecr": NamedResources(
        "ecr",
        {
            "repositoryName": "repository/{}",
            "repositoryNames": "repository/{}",
            "resourceArn": "",
        },
        frozenset({"GetAuthorizationToken"}),
    ),
    "ecs": NamedResources(
        "ecs",
        {
            "clusterName": "cluster/{}",
            "clusters": "cluster/{}",
            "family": "task-definition/{}:*",
            "resourceArn": "",
            "cluster": "cluster/{}",
        },
        frozenset(
            {
                "DeregisterTaskDefinition",
                "DescribeTaskDefinition",
                "ListClusters",
                "ListTaskDefinitionFamilies",
                "ListTaskDefinitions",
            }
        ),
    ),
    "events": NamedResources(
        "events", {"Rule": "rule/{}", "Name": "rule/{}", "ResourceARN": ""}, frozenset()
    ),
    "kms": NamedResources(
        "kms", {"KeyId": "key/{}"}, frozenset({"CreateKey", "ListAliases", "ListKeys"})
    ),
    "logs": NamedResources(
        "logs",
        {"logGroupName": "log-group:{}", "resourceArn": ""},
        frozenset({"DescribeLogGroups"}),
    ),
    "monitoring": NamedResources(
        "cloudwatch",
        {"AlarmName": "alarm:{}", "AlarmNames": "alarm:{}", "ResourceARN": ""},
        frozenset({"PutMetricData"}),
    ),
    "secretsmanager": NamedResources(
        "secretsmanager",
        {"SecretId": "secret:{}", "Name": "secret:{}-000000"},
        frozenset({"GetRandomPassword", "ListSecrets"}),
    ),
    "sns": NamedResources(
        "sns",
        {"TopicArn": "", "Name": "{}", "ResourceArn": ""},
        frozenset(
            {
                "GetSubscriptionAttributes",
                "ListSubscriptions",
                "ListTopics",
                "SetSubscriptionAttributes",
                "Unsubscribe",
            }
        ),
    ),
    "ssm": NamedResources(
        "ssm",
        {
            "Name": "parameter/{}",
            "Names": "parameter/{}",
            "Path": "parameter/{}",
            "ResourceId": "parameter/{}",
        },
        frozenset({"DescribeParameters"}),
        "AddTagsToResource",
    ),
}


# Requests to ECS whose `cluster` is the resource. Others are about something
# in it.
_ON_CLUSTERS = {
    "DeleteCluster",
    "ListContainerInstances",
    "PutClusterCapacityProviders",
    "UpdateCluster",
    "UpdateClusterSettings",
}


# Requests to CloudWatch Logs about one stream of a group.
_ON_STREAMS = {"DeleteLogStream", "GetLogEvents", "PutLogEvents"}


def needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    service = SERVICES[call.service]
    action = f"{service.prefix}:{call.operation}"
    tags = _tags(call)
    context = request_tags(tags)
    resources = ["*"] if call.operation in service.free else list(_resources(call, service))
    if not resources:
        raise call.unknown()
    for resource in resources:
        known, own = _own_tags(call)
        yield Need(
            action=action,
            resource=resource,
            context={**context, **own, **_cluster(call)},
            tags_known=known,
        )
        if tags and call.operation.startswith(("Create", "Put", "Register")):
            tagging = f"{service.prefix}:{service.tagging}"
            yield Need(action=tagging, resource=resource, context=context, tags_known=known)
    yield from _further(call)


def _resources(call: Call, service: NamedResources) -> Iterator[str]:
    if call.service == "logs" and call.operation in _ON_STREAMS:
        group, stream = (call.parameters.get(f"log{name}Name") for name in ("Group", "Stream"))
        if group and stream:
            yield call.arn("logs", f"log-group:{group}:log-stream:{stream}")
        return
    for name, form in service.names.items():
        found = call.parameters.get(name)
        values = found if isinstance(found, list) else list(members(call.parameters, name))
        if not values:
            continue
        if (call.service, name) == ("ecs", "cluster") and call.operation not in _ON_CLUSTERS:
            return
        for value in values:
            yield _arn(call, service, form, str(value))
        return
    if found := call.parameters.get("QueryExecutionId"):
        group = call.existing.query_workgroup(call.account, call.region, str(found))
        if group is not None:
            yield call.arn("athena", f"workgroup/{group}")


def _arn(call: Call, service: NamedResources, form: str, value: str) -> str:
    if call.service == "kms":
        return call.existing.key_of(call.account, call.region, value)[0]
    if value.startswith("arn:"):
        return value
    if call.service == "secretsmanager" and "SecretId" in call.parameters:
        found = call.existing.secret_arn(call.account, call.region, value)
        return found or call.arn("secretsmanager", f"secret:{value}-000000")
    if not form:
        raise call.unknown()
    value = value.lstrip("/") if call.service == "ssm" else value
    return call.arn(service.prefix, form.format(value))


def _tags(call: Call) -> dict[str, str]:
    return json_tags(call.parameters) or form_tags(call.parameters, "Tags.member")


def _own_tags(call: Call) -> tuple[bool, dict[str, tuple[str, ...]]]:
    """Whether the tags of the resource are known, and what they are."""
    if call.service != "kms":
        return False, {}
    if call.operation == "CreateKey":
        return True, {}
    name = str(call.parameters.get("KeyId") or call.parameters.get("TargetKeyId") or "")
    tags = call.existing.key_of(call.account, call.region, name)[1]
    return True, {f"aws:ResourceTag/{key}".lower(): (value,) for key, value in tags.items()}


def _cluster(call: Call) -> dict[str, tuple[str, ...]]:
    if call.service != "ecs" or "cluster" not in call.parameters:
        return {}
    name = str(call.parameters["cluster"])
    return {
        "ecs:cluster": (name if name.startswith("arn:") else call.arn("ecs", f"cluster/{name}"),)
    }


def _further(call: Call) -> Iterator[Need]:
    """What else a request needs: roles that it passes on."""
    parameters: Mapping[str, Any] = call.parameters
    if call.operation in {"RegisterTaskDefinition", "RunTask"}:
        found = {**parameters, **parameters.get("overrides", {})}
        for name in ("executionRoleArn", "taskRoleArn"):
            if found.get(name):
                yield pass_role(call, str(found[name]), "ecs-tasks.amazonaws.com")
    if call.service == "events" and call.operation == "PutTargets":
        for target in parameters.get("Targets", []):
            if target.get("RoleArn"):
                yield pass_role(call, str(target["RoleArn"]), "events.amazonaws.com")
