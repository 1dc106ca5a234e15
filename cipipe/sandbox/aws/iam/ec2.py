"""The permissions of requests to EC2.

Each resource of a request has to be allowed: a new one by the tags that the
request gives it, an existing one by its own.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

import re
from collections.abc import Iterator

from cipipe.sandbox.aws.iam.call import Call, form_tags, members, request_tags, resource_tags
from cipipe.sandbox.aws.iam.evaluation import Need

# What an action creates.
_CREATES = {
    "AllocateAddress": "elastic-ip",
    "CreateInternetGateway": "internet-gateway",
    "CreateNatGateway": "natgateway",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc-endpoint",
}

# These make a rule, which only counts if it gets tags.
_RULES = {"AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"}

# The type of a resource by the start of its id.
_TYPES = {
    "eipalloc": "elastic-ip",
    "eni": "network-interface",
    "igw": "internet-gateway",
    "nat": "natgateway",
    "rtb": "route-table",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "subnet": "subnet",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
}

# Parameters that name existing resources, one or a list.
_PARAMETERS = (
    "AllocationId",
    "GroupId",
    "InternetGatewayId",
    "NatGatewayId",
    "NetworkInterfaceId",
    "ResourceId",
    "RouteTableId",
    "SecurityGroupId",
    "SecurityGroupRuleId",
    "SubnetId",
    "VpcEndpointId",
    "VpcId",
)
_ASSOCIATIONS = {"DisassociateAddress", "DisassociateRouteTable", "ReplaceRouteTableAssociation"}

# The targets of a route need no permission.
_ROUTES = {"CreateRoute", "DeleteRoute", "ReplaceRoute"}
_TARGETS = {"NatGatewayId", "NetworkInterfaceId"}


def needs(call: Call) -> Iterator[Need]:
    """Raises UndecidableError."""
    action = f"ec2:{call.operation}"
    if call.operation.startswith("Describe"):
        yield Need(action=action, resource="*")
        return

    found = list(_created(call, action)) + list(_named(call, action))
    if not found:
        raise call.unknown()
    yield from found


def _created(call: Call, action: str) -> Iterator[Need]:
    tags = form_tags(call.parameters, "TagSpecification")
    kind = _CREATES.get(call.operation)
    if call.operation in _RULES and tags:
        kind = "security-group-rule"
    if kind is None:
        return
    arn = call.arn("ec2", f"{kind}/*")
    context = request_tags(tags)
    yield Need(action=action, resource=arn, context=context, tags_known=True)
    if tags:
        creating = {**context, "ec2:createaction": (call.operation,)}
        yield Need(action="ec2:CreateTags", resource=arn, context=creating, tags_known=True)


def _named(call: Call, action: str) -> Iterator[Need]:
    # The tags that CreateTags sets are of the request; what it sets them on
    # has its own.
    asked = request_tags(form_tags(call.parameters, "Tag"))
    for identifier in sorted(set(_identifiers(call))):
        kind = _TYPES.get(identifier.partition("-")[0])
        if kind is None or not re.fullmatch(r"[a-z]+-[0-9a-f]+", identifier):
            raise call.unknown()
        tags = call.existing.ec2_tags(call.account, call.region, identifier)
        yield Need(
            action=action,
            resource=call.arn("ec2", f"{kind}/{identifier}"),
            context={**asked, **resource_tags(tags)},
            tags_known=True,
        )


def _identifiers(call: Call) -> Iterator[str]:
    for name in _PARAMETERS:
        if call.operation in _ROUTES and name in _TARGETS:
            continue
        yield from members(call.parameters, name)
    if call.operation in _ASSOCIATIONS:
        association = str(call.parameters.get("AssociationId", ""))
        yield from call.existing.ec2_association(call.account, call.region, association)
