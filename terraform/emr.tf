# What the DAG `emr_elt` needs to start a cluster: two roles, three security groups. The cluster itself is the DAG's: it
# lives for one run. Off by default; set create_emr, and list the actions below in `boundary_additional_actions` of bootstrap/.

locals {
  emr_service_role  = "${local.name}-emr-service"
  emr_instance_role = "${local.name}-emr-instance"
  emr_groups        = { primary = "the primary node", core = "core nodes", service = "EMR's access to both" }
  emr_arn           = "arn:${local.partition}:elasticmapreduce:${var.region}:${var.account_id}"
  ec2_arn           = "arn:${local.partition}:ec2:${var.region}:${var.account_id}"

  # EMR puts the tags of a cluster on everything that it creates for it.
  emr_request_tags  = { for key in ["project", "environment"] : "aws:RequestTag/${key}" => local.tags[key] }
  emr_resource_tags = { for key in ["project", "environment"] : "aws:ResourceTag/${key}" => local.tags[key] }

  # For Airflow's role.
  run_emr_statements = [for statement in local.emr_statements : statement if var.create_emr]

  emr_statements = [
    {
      Sid       = "StartClusters"
      Effect    = "Allow"
      Action    = ["elasticmapreduce:AddTags", "elasticmapreduce:RunJobFlow"]
      Resource  = "${local.emr_arn}:cluster/*"
      Condition = { StringEquals = local.emr_request_tags }
    },
    {
      Sid    = "UseOwnClusters"
      Effect = "Allow"
      Action = [
        "elasticmapreduce:AddJobFlowSteps", "elasticmapreduce:CancelSteps", "elasticmapreduce:DescribeCluster",
        "elasticmapreduce:DescribeStep", "elasticmapreduce:ListSteps", "elasticmapreduce:PutAutoTerminationPolicy",
        "elasticmapreduce:TerminateJobFlows",
      ]
      Resource  = "${local.emr_arn}:cluster/*"
      Condition = { StringEquals = local.emr_resource_tags }
    },
    {
      Sid      = "FindClusters" # finds the one that an earlier try has started; the action supports no resources
      Effect   = "Allow"
      Action   = "elasticmapreduce:ListClusters"
      Resource = "*"
    },
    {
      Sid       = "PassEmrRoles"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = concat(aws_iam_role.emr_service[*].arn, aws_iam_role.emr_instance[*].arn)
      Condition = { StringEquals = { "iam:PassedToService" = ["ec2.amazonaws.com", "elasticmapreduce.amazonaws.com"] } }
    },
  ]
}

resource "aws_security_group" "emr" {
  for_each = var.create_emr ? local.emr_groups : {}

  name        = "${local.name}-emr-${each.key}"
  description = "EMR: ${each.value}"
  vpc_id      = aws_vpc.this.id

  # EMR adds rules of its own, which refer to the other groups.
  revoke_rules_on_delete = true

  tags = { Name = "${local.name}-emr-${each.key}" }
}

resource "aws_vpc_security_group_egress_rule" "emr" {
  for_each = { for name in ["primary", "core"] : name => name if var.create_emr }

  security_group_id = aws_security_group.emr[each.key].id
  description       = "HTTPS to AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# EMR adds the inbound rules of the nodes' groups, but no outbound ones.
resource "aws_vpc_security_group_egress_rule" "emr_nodes" {
  for_each = { for pair in setproduct(["primary", "core"], ["primary", "core"]) : join("-", pair) => pair if var.create_emr }

  security_group_id            = aws_security_group.emr[each.value[0]].id
  description                  = "Any traffic to ${local.emr_groups[each.value[1]]}"
  referenced_security_group_id = aws_security_group.emr[each.value[1]].id
  ip_protocol                  = "-1"
}

# EMR refuses a cluster whose own group for service access does not have this rule.
resource "aws_vpc_security_group_ingress_rule" "emr_service" {
  count = var.create_emr ? 1 : 0

  security_group_id            = aws_security_group.emr["service"].id
  description                  = "The primary node to EMR"
  referenced_security_group_id = aws_security_group.emr["primary"].id
  ip_protocol                  = "tcp"
  from_port                    = 9443
  to_port                      = 9443
}

resource "aws_vpc_security_group_egress_rule" "emr_to_service" {
  count = var.create_emr ? 1 : 0

  security_group_id            = aws_security_group.emr["primary"].id
  description                  = "The primary node to EMR"
  referenced_security_group_id = aws_security_group.emr["service"].id
  ip_protocol                  = "tcp"
  from_port                    = 9443
  to_port                      = 9443
}

resource "aws_vpc_security_group_egress_rule" "emr_service" {
  for_each = { for name in ["primary", "core"] : name => name if var.create_emr }

  security_group_id            = aws_security_group.emr["service"].id
  description                  = "EMR to ${local.emr_groups[each.key]}"
  referenced_security_group_id = aws_security_group.emr[each.key].id
  ip_protocol                  = "tcp"
  from_port                    = 8443
  to_port                      = 8443
}

resource "aws_iam_role" "emr_service" {
  count = var.create_emr ? 1 : 0

  name                 = local.emr_service_role
  path                 = local.role_path
  description          = "EMR, to start the instances of a cluster"
  permissions_boundary = local.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "elasticmapreduce.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = var.account_id }
        ArnLike      = { "aws:SourceArn" = "${local.emr_arn}:*" }
      }
    }]
  })
}

# As the managed policy AmazonEMRServicePolicy_v2, but for this stack's network and tags only.
resource "aws_iam_role_policy" "emr_service" {
  count = var.create_emr ? 1 : 0

  name = "run-clusters"
  role = aws_iam_role.emr_service[0].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Look" # none of these supports resources
        Effect   = "Allow"
        Action   = ["ec2:DescribeAccountAttributes", "ec2:DescribeCapacityReservations", "ec2:DescribeDhcpOptions", "ec2:DescribeImages", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeNetworkAcls", "ec2:DescribeNetworkInterfaces", "ec2:DescribePlacementGroups", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVolumeStatus", "ec2:DescribeVolumes", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcEndpoints", "ec2:DescribeVpcs"]
        Resource = "*"
      },
      {
        Sid    = "CreateInOwnNetwork"
        Effect = "Allow"
        Action = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion", "ec2:CreateNetworkInterface", "ec2:RunInstances"]
        Resource = concat(
          [for subnet in aws_subnet.private : subnet.arn],
          [for group in aws_security_group.emr : group.arn],
          ["${local.ec2_arn}:network-interface/*", "arn:${local.partition}:ec2:${var.region}::image/*"],
        )
      },
      {
        Sid       = "CreateTagged"
        Effect    = "Allow"
        Action    = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion", "ec2:CreateVolume", "ec2:RunInstances"]
        Resource  = [for type in ["fleet", "instance", "launch-template", "volume"] : "${local.ec2_arn}:${type}/*"]
        Condition = { StringEquals = local.emr_request_tags }
      },
      {
        Sid       = "TagWhatIsCreated"
        Effect    = "Allow"
        Action    = "ec2:CreateTags"
        Resource  = [for type in ["fleet", "instance", "launch-template", "network-interface", "volume"] : "${local.ec2_arn}:${type}/*"]
        Condition = { StringEquals = { "ec2:CreateAction" = ["CreateFleet", "CreateLaunchTemplate", "CreateNetworkInterface", "CreateVolume", "RunInstances"] } }
      },
      {
        Sid       = "ChangeOwn"
        Effect    = "Allow"
        Action    = ["ec2:AttachVolume", "ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate", "ec2:DeleteNetworkInterface", "ec2:DeleteVolume", "ec2:DetachVolume", "ec2:ModifyInstanceAttribute", "ec2:RunInstances", "ec2:TerminateInstances"]
        Resource  = "*"
        Condition = { StringEquals = local.emr_resource_tags }
      },
      {
        Sid      = "RulesOfOwnGroups"
        Effect   = "Allow"
        Action   = ["ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"]
        Resource = [for group in aws_security_group.emr : group.arn]
      },
      {
        Sid       = "PassInstanceRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = aws_iam_role.emr_instance[0].arn
        Condition = { StringLike = { "iam:PassedToService" = "ec2.amazonaws.com*" } }
      },
    ]
  })
}

resource "aws_iam_role" "emr_instance" {
  count = var.create_emr ? 1 : 0

  name                 = local.emr_instance_role
  path                 = local.role_path
  description          = "The instances of a cluster: Hive and Trino"
  permissions_boundary = local.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_instance_profile" "emr" {
  count = var.create_emr ? 1 : 0

  name = local.emr_instance_role
  path = local.role_path
  role = aws_iam_role.emr_instance[0].name
}

resource "aws_iam_role_policy" "emr_instance" {
  count = var.create_emr ? 1 : 0

  name = "read-and-write-lake"
  role = aws_iam_role.emr_instance[0].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ListLake"
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
        Resource = module.lake_bucket.arn
      },
      {
        Sid      = "ReadLake"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = [for name in ["raw", "emr"] : "${module.lake_bucket.arn}/${local.lake_prefixes[name]}*"]
      },
      {
        Sid      = "WriteLake"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"]
        Resource = "${module.lake_bucket.arn}/${local.lake_prefixes.emr}*"
      },
      {
        Sid    = "OwnDatabase"
        Effect = "Allow"
        Action = [
          "glue:BatchCreatePartition", "glue:BatchGetPartition", "glue:CreateDatabase", "glue:CreatePartition",
          "glue:CreateTable", "glue:DeleteColumnStatisticsForPartition", "glue:DeleteColumnStatisticsForTable",
          "glue:DeletePartition", "glue:DeleteTable", "glue:GetColumnStatisticsForPartition",
          "glue:GetColumnStatisticsForTable", "glue:GetDatabase", "glue:GetPartition",
          "glue:GetPartitions", "glue:GetTable", "glue:GetTables", "glue:UpdateColumnStatisticsForPartition",
          "glue:UpdateColumnStatisticsForTable", "glue:UpdatePartition", "glue:UpdateTable",
        ]
        Resource = [
          "${local.glue_arn}:catalog", "${local.glue_arn}:database/default", "${local.glue_arn}:database/${local.athena_database}",
          "${local.glue_arn}:table/${local.athena_database}/*",
        ]
      },
      {
        Sid    = "ListFunctions" # Hive asks for those of every database when it starts
        Effect = "Allow"
        Action = ["glue:GetDatabases", "glue:GetUserDefinedFunctions"]
        Resource = [
          "${local.glue_arn}:catalog", "${local.glue_arn}:database/*", "${local.glue_arn}:userDefinedFunction/*",
        ]
      },
    ]
  })
}
