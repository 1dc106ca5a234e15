"""The permissions of requests to IAM itself and to STS.

https://docs.aws.amazon.com/service-authorization/latest/reference/,
page list_awsidentityandaccessmanagementiam.html
"""

from collections.abc import Iterator

from cipipe.sandbox.aws.iam.call import Call, Context, form_tags, request_tags
from cipipe.sandbox.aws.iam.evaluation import Need

# Actions whose condition on the boundary is about the one in the request.
_SETS_BOUNDARY = {"CreateRole", "PutRolePermissionsBoundary"}

# … and about the one that the role has.
_HAS_BOUNDARY = {
    "AttachRolePolicy",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePolicy",
}


def needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    action = f"iam:{call.operation}"
    form = call.parameters
    tags = form_tags(form, "Tags.member")
    resource = _resource(call)
    yield Need(action=action, resource=resource, context={**request_tags(tags), **_boundary(call)})

    if tags and call.operation.startswith("Create"):
        tag = f"iam:Tag{call.operation.removeprefix('Create')}"
        yield Need(action=tag, resource=resource, context=request_tags(tags))
    if call.operation == "AddRoleToInstanceProfile":
        role = call.existing.role_arn(call.account, str(form["RoleName"])) or "*"
        context = {"iam:passedtoservice": ("ec2.amazonaws.com",)}
        yield Need(action="iam:PassRole", resource=role, context=context)


def sts_needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    match call.operation:
        case "GetCallerIdentity":
            # Needs no permission.
            return
        case "AssumeRole":
            yield Need(action="sts:AssumeRole", resource=str(call.parameters.get("RoleArn", "*")))
        case _:
            raise call.unknown()


def _resource(call: Call) -> str:
    form = call.parameters
    path = str(form.get("Path", "/"))
    match call.operation:
        case "CreateRole":
            return call.iam_arn(f"role{path}{form['RoleName']}")
        case "CreatePolicy":
            return call.iam_arn(f"policy{path}{form['PolicyName']}")
        case "CreateInstanceProfile":
            return call.iam_arn(f"instance-profile{path}{form['InstanceProfileName']}")
        case "CreateServiceLinkedRole":
            service = form["AWSServiceName"]
            return call.iam_arn(f"role/aws-service-role/{service}/AWSServiceRole")

    if "InstanceProfileName" in form:
        return call.iam_arn(f"instance-profile/{form['InstanceProfileName']}")
    if "RoleName" in form:
        name = str(form["RoleName"])
        # Without a role of that name, its path is not known.
        return call.existing.role_arn(call.account, name) or call.iam_arn(f"role/{name}")
    for name in ("PolicyArn", "OpenIDConnectProviderArn"):
        if name in form:
            return str(form[name])
    raise call.unknown()


def _boundary(call: Call) -> Context:
    key = "iam:permissionsboundary"
    form = call.parameters
    found = None
    if call.operation in _SETS_BOUNDARY:
        found = form.get("PermissionsBoundary")
    elif call.operation in _HAS_BOUNDARY:
        found = call.existing.boundary_of(call.account, str(form["RoleName"]))
    context = {key: (str(found),)} if found else {}
    if call.operation == "CreateServiceLinkedRole":
        context["iam:awsservicename"] = (str(form["AWSServiceName"]),)
    return context
