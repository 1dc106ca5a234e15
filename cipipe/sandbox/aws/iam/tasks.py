"""The permissions of requests whose resources depend on the operation: ECS's
tasks, Glue's catalogue, Athena's, and the aliases of keys.
"""

from collections.abc import Iterator
from typing import Any

from cipipe.sandbox.aws.iam.call import Call, pass_role
from cipipe.sandbox.aws.iam.evaluation import Need


def has(call: Call) -> bool:
    """Whether the request is one of these."""
    return call.service == "glue" or (call.service, call.operation) in _OPERATIONS


def needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    if call.service == "glue":
        return _glue(call)
    return _OPERATIONS[call.service, call.operation](call)


def _run_task(call: Call) -> Iterator[Need]:
    name = str(call.parameters["taskDefinition"])
    # Without a revision it is the newest one, which a policy for all
    # revisions covers.
    full = name if name.startswith("arn:") else call.arn("ecs", f"task-definition/{name}")
    yield Need(
        action="ecs:RunTask",
        resource=full if full.count(":") == 6 else f"{full}:*",
        context=_cluster(call),
    )
    overrides = call.parameters.get("overrides", {})
    for role in ("executionRoleArn", "taskRoleArn"):
        if overrides.get(role):
            yield pass_role(call, str(overrides[role]), "ecs-tasks.amazonaws.com")


def _tasks(call: Call) -> Iterator[Need]:
    cluster = str(call.parameters.get("cluster", "default")).rpartition("/")[2]
    found = call.parameters.get("tasks") or [call.parameters.get("task")]
    for task in map(str, found):
        identifier = task.rpartition("/")[2]
        yield Need(
            action=f"ecs:{call.operation}",
            resource=call.arn("ecs", f"task/{cluster}/{identifier}"),
            context=_cluster(call),
        )


def _list_tasks(call: Call) -> Iterator[Need]:
    yield Need(action="ecs:ListTasks", resource="*", context=_cluster(call))


def _cluster(call: Call) -> dict[str, tuple[str, ...]]:
    name = str(call.parameters.get("cluster", "default"))
    arn = name if name.startswith("arn:") else call.arn("ecs", f"cluster/{name}")
    return {"ecs:cluster": (arn,)}


def _alias(call: Call) -> Iterator[Need]:
    """An alias needs a permission for itself and one for its key."""
    name = str(call.parameters["AliasName"])
    yield Need(action=f"kms:{call.operation}", resource=call.arn("kms", name))
    target = str(call.parameters.get("TargetKeyId") or name)
    arn, tags = call.existing.key_of(call.account, call.region, target)
    context = {f"aws:ResourceTag/{key}".lower(): (value,) for key, value in tags.items()}
    yield Need(
        action=f"kms:{call.operation}",
        resource=arn,
        context={**context, "kms:requestalias": (name,)},
        tags_known=True,
    )


def _catalogue(call: Call) -> Iterator[Need]:
    name = call.parameters.get("CatalogName") or call.parameters.get("Name")
    resource = call.arn("athena", f"datacatalog/{name}")
    yield Need(action=f"athena:{call.operation}", resource=resource)
    if call.operation == "GetDatabase":
        database = str(call.parameters.get("DatabaseName"))
        for one in ("catalog", f"database/{database}"):
            yield Need(action="glue:GetDatabase", resource=call.arn("glue", one))


def _glue(call: Call) -> Iterator[Need]:
    """Glue checks the catalogue, the database and the table."""
    parameters: dict[str, Any] = dict(call.parameters)
    kind = call.operation
    resources = ["catalog"]
    if "Tags" in kind or kind in {"TagResource", "UntagResource"}:
        resources = []
    elif kind.endswith("Database"):
        resources.append(
            f"database/{parameters.get('Name') or parameters['DatabaseInput']['Name']}"
        )
    elif kind.endswith("Connection"):
        given = parameters.get("ConnectionInput", {}).get("Name")
        name = parameters.get("Name") or parameters.get("ConnectionName") or given
        resources.append(f"connection/{name}")
    elif "DatabaseName" in parameters:
        database = parameters["DatabaseName"]
        table = parameters.get("TableName") or parameters.get("Name")
        table = table or parameters.get("TableInput", {}).get("Name") or "*"
        resources += [f"database/{database}", f"table/{database}/{table}"]
    elif kind != "GetDatabases":
        raise call.unknown()
    for resource in resources:
        yield Need(action=f"glue:{kind}", resource=call.arn("glue", resource))
    if not resources:
        yield Need(action=f"glue:{kind}", resource=str(parameters["ResourceArn"]))


_OPERATIONS = {
    ("athena", "GetDataCatalog"): _catalogue,
    ("athena", "GetDatabase"): _catalogue,
    ("ecs", "DescribeTasks"): _tasks,
    ("ecs", "ListTasks"): _list_tasks,
    ("ecs", "RunTask"): _run_task,
    ("ecs", "StopTask"): _tasks,
    ("kms", "CreateAlias"): _alias,
    ("kms", "DeleteAlias"): _alias,
    ("kms", "UpdateAlias"): _alias,
}
