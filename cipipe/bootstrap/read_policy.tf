# What `terraform plan` and the ledger need: reading. No secret's value, but the whole Terraform state, so that no secret
# belongs into it. Both roles have it.
# `Resource = "*"` stands only where AWS knows no resource for the action (EC2 describes, lists, the registry's login).

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
          "logs:DescribeLogGroups", "ssm:DescribeParameters",
        ]
        Resource = "*"
      },
      {
        # Not limited to a prefix: without it S3 answers 403 instead of 404 for a key that is not there, and a record
        # that cannot be read must never look like one that does not exist. It shows key names only.
        Sid      = "ListState"
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:ListBucket"]
        Resource = local.bucket_arn
      },
      {
        Sid      = "ReadStateAndLedger"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = [local.state_arn, "${local.state_arn}.tflock", local.ledger_arn]
      },
      {
        Sid    = "ReadBuckets" # versions too: one listing tells whether the DAG bucket is as it was left
        Effect = "Allow"
        Action = [
          "s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration",
          "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:ListBucketVersions", "s3:ListTagsForResource",
        ]
        Resource = local.own_bucket_arn
      },
      {
        Sid      = "ReadDags" # and no other objects: what lies in the data lake is no pipeline's business
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
        Sid      = "ReadRoles"
        Effect   = "Allow"
        Action   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies", "iam:ListRoleTags"]
        Resource = local.stack_role_arn
      },
      {
        # So that a denied exchange can be explained: the trust policies, and nothing else of the roles.
        Sid      = "ReadTrustPolicies"
        Effect   = "Allow"
        Action   = "iam:GetRole"
        Resource = compact([local.deploy_role_arn, local.verify_role_arn])
      },
    ]
  })
}
