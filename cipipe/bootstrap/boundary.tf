# The most that any role of the main stack can do, whatever policies it has.
# The deploy role may create roles. Without a boundary it could make itself administrator: create a role, pass it to a task,
# and run the task. It may create roles only with this boundary (deploy_policy.tf), and cannot change the boundary.

resource "aws_iam_policy" "boundary" {
  name        = "${local.name}-boundary"
  description = "The most that roles of the ${local.name} stack can do"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "ActionsWithoutResource" # none of these supports resources
        Effect   = "Allow"
        Action   = ["cloudwatch:PutMetricData", "ecr:GetAuthorizationToken", "logs:DescribeLogGroups", "s3:GetAccountPublicAccessBlock"]
        Resource = "*"
      },
      {
        Sid      = "PullImages"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = concat([local.repository_arn], var.repository_arns)
      },
      {
        Sid    = "Logs"
        Effect = "Allow"
        Action = [
          "logs:CreateLogGroup", "logs:CreateLogStream", "logs:GetLogEvents", "logs:GetLogGroupFields", "logs:GetLogRecord",
          "logs:GetQueryResults", "logs:PutLogEvents",
        ]
        Resource = [local.log_group_arn, "arn:${local.partition}:logs:${local.here}:log-group:airflow-${local.name}-*"]
      },
      {
        Sid    = "OwnBuckets"
        Effect = "Allow"
        Action = [
          "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetObject*",
          "s3:List*", "s3:PutObject",
        ]
        Resource = [local.own_bucket_arn, "${local.own_bucket_arn}/*"]
      },
      {
        Sid      = "OwnSecretsAndParameters"
        Effect   = "Allow"
        Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
        Resource = [local.secret_arn, local.parameter_arn]
      },
      {
        Sid      = "RunTasks"
        Effect   = "Allow"
        Action   = ["ecs:DescribeTasks", "ecs:RunTask", "ecs:StopTask"]
        Resource = [local.family_arn, "${local.ecs_arn}:task/${local.name}/*"]
      },
      {
        Sid       = "FindTasks" # the action does not support tasks as resources
        Effect    = "Allow"
        Action    = "ecs:ListTasks"
        Resource  = "*"
        Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
      },
      {
        Sid      = "AssumeOwnRoles"
        Effect   = "Allow"
        Action   = "sts:AssumeRole"
        Resource = local.stack_role_arn
      },
      {
        Sid    = "OwnQueries"
        Effect = "Allow"
        Action = [
          "athena:Get*", "athena:StartQueryExecution", "athena:StopQueryExecution", "glue:CreateDatabase", "glue:CreateTable",
          "glue:Get*", "glue:UpdateTable",
        ]
        Resource = local.query_arns
      },
      {
        Sid       = "PassTaskRoles"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = local.stack_role_arn
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
      {
        Sid      = "Airflow"
        Effect   = "Allow"
        Action   = "airflow:PublishMetrics"
        Resource = local.mwaa_arn
      },
      {
        Sid    = "AirflowQueue"
        Effect = "Allow"
        Action = [
          "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl",
          "sqs:ReceiveMessage", "sqs:SendMessage",
        ]
        Resource = "arn:${local.partition}:sqs:${var.region}:*:airflow-celery-*"
      },
      {
        Sid         = "AirflowQueueKey" # an AWS-owned key, never one of this account
        Effect      = "Allow"
        Action      = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*"]
        NotResource = "arn:${local.partition}:kms:*:${var.account_id}:key/*"
        Condition   = { StringLike = { "kms:ViaService" = "sqs.${var.region}.amazonaws.com" } }
      },
      ],
      length(var.boundary_additional_actions) == 0 ? [] : [{
        Sid      = "ChosenByTheProject"
        Effect   = "Allow"
        Action   = var.boundary_additional_actions
        Resource = "*"
      }],
    )
  })
}
