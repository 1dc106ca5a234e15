# Read access for `terraform plan` and the ledger, which both roles have. It does not include the values of secrets, but the
# whole Terraform state, so keep secrets out of the state.
# `Resource = "*"` only for actions that support no resources (EC2's Describe actions, lists, the registry's login).

resource "aws_iam_policy" "read" {
  name        = "${local.name}-read"
  description = "Read the ${local.name} stack, its state and its ledger"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "ActionsWithoutResource"
        Effect = "Allow"
        Action = [
          "ec2:Describe*", "ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions",
          "logs:DescribeLogGroups", "sns:GetSubscriptionAttributes", "ssm:DescribeParameters",
        ]
        Resource = "*"
      },
      {
        # Not limited to a prefix: without it, S3 returns 403 instead of 404 for a missing key, and a record that cannot be
        # read must never look like one that does not exist. It only reveals key names.
        Sid      = "ListState"
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:ListBucket"]
        Resource = distinct(concat([local.bucket_arn], [for arn in local.state_arns : split("/", arn)[0]]))
      },
      {
        Sid      = "ReadStateAndLedger"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = concat(local.state_arns, local.lock_arns, [local.ledger_arn])
      },
      {
        Sid    = "ReadBuckets" # including versions: one listing shows whether the DAG bucket has changed
        Effect = "Allow"
        Action = [
          "s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration",
          "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:ListBucketVersions", "s3:ListTagsForResource",
        ]
        Resource = local.own_bucket_arn
      },
      {
        Sid      = "ReadDags" # and no other objects: pipelines have no access to the data lake
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectAttributes", "s3:GetObjectTagging", "s3:GetObjectVersion"]
        Resource = local.dags_object_arn
      },
      {
        Sid    = "ReadImages"
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImageScanFindings", "ecr:DescribeImages",
          "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer", "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy",
          "ecr:ListImages", "ecr:ListTagsForResource",
        ]
        Resource = local.repository_arn
      },
      {
        Sid    = "ReadStack"
        Effect = "Allow"
        Action = [
          "airflow:GetEnvironment", "airflow:ListTagsForResource", "athena:GetWorkGroup", "athena:ListTagsForResource", "ecs:DescribeClusters", "ecs:ListTagsForResource",
          "logs:ListTagsForResource", "secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy",
          "ssm:GetParameter", "ssm:GetParameters", "ssm:ListTagsForResource",
        ]
        Resource = [
          local.cluster_arn, local.family_arn, local.log_group_arn, local.mwaa_arn, local.parameter_arn, local.secret_arn,
          local.workgroup_arn,
        ]
      },
      {
        Sid    = "ReadAlarms"
        Effect = "Allow"
        Action = [
          "cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource", "events:DescribeRule", "events:ListTagsForResource",
          "events:ListTargetsByRule", "sns:GetTopicAttributes", "sns:ListTagsForResource",
        ]
        Resource = local.alarm_arns
      },
      {
        Sid      = "ReadRoles"
        Effect   = "Allow"
        Action   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies", "iam:ListRoleTags"]
        Resource = local.stack_role_arn
      },
      {
        # To explain a denied exchange: the trust policies, and nothing else about the roles.
        Sid      = "ReadTrustPolicies"
        Effect   = "Allow"
        Action   = "iam:GetRole"
        Resource = compact([local.deploy_role_arn, local.verify_role_arn])
      },
    ]
  })
}
