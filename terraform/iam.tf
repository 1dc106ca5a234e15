# The two roles of a dbt task. ECS uses the execution role to start it (pull, log, read the secret); dbt itself runs with
# the task role. Both have the role path and the permissions boundary that the deploy role is restricted to.

locals {
  role_path = "/${local.path}/"

  # Against a confused deputy: without these conditions, ECS could use the roles for a cluster in another account.
  task_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = var.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${var.region}:${var.account_id}:*" }
      }
    }]
  })
}

# For Athena, or Redshift with IAM, also give this role the permissions that the adapter needs, and allow them in
# `boundary_additional_actions` of bootstrap/.
resource "aws_iam_role" "task" {
  name                 = "${local.name}-task"
  path                 = local.role_path
  description          = "dbt itself"
  assume_role_policy   = local.task_trust_policy
  permissions_boundary = local.permissions_boundary
}

resource "aws_iam_role_policy" "task" {
  name = "run-dbt"
  role = aws_iam_role.task.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "WriteArtifacts"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = "${module.artifacts_bucket.arn}/${local.artifacts_prefix}*"
      }],
      !var.task_reads_secret ? [] : [{
        Sid      = "ReadSecret"
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = aws_secretsmanager_secret.dbt.arn
      }],
      var.task_glue_connection == null ? [] : [{
        Sid    = "ReadConnection"
        Effect = "Allow"
        Action = "glue:GetConnection"
        Resource = [
          "arn:${local.partition}:glue:${var.region}:${var.account_id}:catalog",
          "arn:${local.partition}:glue:${var.region}:${var.account_id}:connection/${var.task_glue_connection}",
        ]
      }],
    )
  })
}

resource "aws_iam_role" "execution" {
  name                 = "${local.name}-execution"
  path                 = local.role_path
  description          = "ECS, to start dbt tasks"
  assume_role_policy   = local.task_trust_policy
  permissions_boundary = local.permissions_boundary
}

resource "aws_iam_role_policy" "execution" {
  name = "start-dbt"
  role = aws_iam_role.execution.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "RegistryLogin" # for the whole registry; the action supports no resources
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Sid      = "PullImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = aws_ecr_repository.dbt.arn
      },
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.dbt.arn}:*"
      },
      {
        Sid      = "ReadSecret"
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = aws_secretsmanager_secret.dbt.arn
      },
    ]
  })
}
