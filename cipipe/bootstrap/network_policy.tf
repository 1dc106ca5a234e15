# Network resources have generated ids, so tags limit access instead of names. The provider's default tags put `project` and
# `environment` on every new resource, and only resources with these tags may be changed or deleted.
# In a request for several resources, each must be allowed: the new one by its request tags, the VPC by its own tags.

locals {
  network_create_actions = [
    "ec2:AllocateAddress", "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateInternetGateway",
    "ec2:CreateNatGateway", "ec2:CreateRouteTable", "ec2:CreateSecurityGroup", "ec2:CreateSubnet", "ec2:CreateVpc",
    "ec2:CreateVpcEndpoint",
  ]

  network_change_actions = [
    "ec2:AssociateRouteTable", "ec2:AttachInternetGateway", "ec2:CreateRoute", "ec2:CreateTags", "ec2:DeleteInternetGateway",
    "ec2:DeleteNatGateway", "ec2:DeleteRoute", "ec2:DeleteRouteTable", "ec2:DeleteSecurityGroup", "ec2:DeleteSubnet",
    "ec2:DeleteTags", "ec2:DeleteVpc", "ec2:DeleteVpcEndpoints", "ec2:DetachInternetGateway", "ec2:DisassociateAddress",
    "ec2:DisassociateRouteTable", "ec2:ModifySecurityGroupRules", "ec2:ModifySubnetAttribute", "ec2:ModifyVpcAttribute",
    "ec2:ModifyVpcEndpoint", "ec2:ReleaseAddress", "ec2:ReplaceRoute", "ec2:ReplaceRouteTableAssociation",
    "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress",
  ]

  network_types = [
    "elastic-ip", "internet-gateway", "natgateway", "route-table", "security-group", "security-group-rule", "subnet", "vpc",
    "vpc-endpoint",
  ]

  network_arns = [for type in local.network_types : "${local.ec2_arn}:${type}/*"]
}

resource "aws_iam_policy" "network" {
  name        = "${local.name}-network"
  description = "Change the network of the ${local.name} stack"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "CreateTagged"
        Effect    = "Allow"
        Action    = local.network_create_actions
        Resource  = local.network_arns
        Condition = { StringEquals = { "aws:RequestTag/project" = var.project, "aws:RequestTag/environment" = var.environment } }
      },
      {
        Sid       = "TagWhenCreating"
        Effect    = "Allow"
        Action    = "ec2:CreateTags"
        Resource  = local.network_arns
        Condition = { StringEquals = { "ec2:CreateAction" = [for action in local.network_create_actions : trimprefix(action, "ec2:")] } }
      },
      {
        Sid       = "ChangeTagged"
        Effect    = "Allow"
        Action    = concat(local.network_create_actions, local.network_change_actions)
        Resource  = local.network_arns
        Condition = { StringEquals = { "aws:ResourceTag/project" = var.project, "aws:ResourceTag/environment" = var.environment } }
      },
      {
        Sid      = "PrivateDns" # for interface endpoints; the hosted zone belongs to AWS
        Effect   = "Allow"
        Action   = "route53:AssociateVPCWithHostedZone"
        Resource = "*"
      },
      {
        # MWAA creates endpoints and interfaces on behalf of the caller, with its own tags. Allowed only through the service.
        Sid       = "MwaaNetwork"
        Effect    = "Allow"
        Action    = ["ec2:CreateNetworkInterface", "ec2:CreateVpcEndpoint"]
        Resource  = concat(local.network_arns, ["${local.ec2_arn}:network-interface/*"])
        Condition = { Bool = { "aws:ViaAWSService" = "true" } }
      },
    ]
  })
}
