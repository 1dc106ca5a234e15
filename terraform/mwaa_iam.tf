# Airflow's permissions: those of any MWAA environment (the first statements follow AWS's page on the execution role), to run
# dbt, and for the other DAGs. In ECS they cover one task definition family on one cluster, and only the two task roles can
# be passed. In the data lake they allow reading raw data, and writing results and exports.
# https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-create-role.html

locals {
  mwaa_arn    = "arn:${local.partition}:airflow:${var.region}:${var.account_id}:environment/${local.name}"
  ecs_arn     = "arn:${local.partition}:ecs:${var.region}:${var.account_id}"
  logs_arn    = "arn:${local.partition}:logs:${var.region}:${var.account_id}"
  cluster_arn = "${local.ecs_arn}:cluster/${local.name}"
  athena_arn  = "arn:${local.partition}:athena:${var.region}:${var.account_id}"
  glue_arn    = "arn:${local.partition}:glue:${var.region}:${var.account_id}"

  mwaa_role_name = "${local.name}-mwaa"
  mwaa_role_arn  = "${local.iam_arn}:role${local.role_path}${local.mwaa_role_name}"

  mwaa_service_statements = [
    {
      Sid      = "PublishMetrics"
      Effect   = "Allow"
      Action   = "airflow:PublishMetrics"
      Resource = local.mwaa_arn
    },
    {
      Sid      = "ReadDags"
      Effect   = "Allow"
      Action   = ["s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetObject*", "s3:List*"]
      Resource = [module.dags_bucket.arn, "${module.dags_bucket.arn}/*"]
    },
    {
      Sid    = "WriteAirflowLogs"
      Effect = "Allow"
      Action = [
        "logs:CreateLogGroup", "logs:CreateLogStream", "logs:GetLogEvents", "logs:GetLogGroupFields", "logs:GetLogRecord",
        "logs:GetQueryResults", "logs:PutLogEvents",
      ]
      Resource = "${local.logs_arn}:log-group:airflow-${local.name}-*"
    },
    {
      Sid      = "ActionsWithoutResource" # none of these three supports resources
      Effect   = "Allow"
      Action   = ["cloudwatch:PutMetricData", "logs:DescribeLogGroups", "s3:GetAccountPublicAccessBlock"]
      Resource = "*"
    },
    {
      Sid    = "CeleryQueue" # the queue is in an AWS-owned account
      Effect = "Allow"
      Action = [
        "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl",
        "sqs:ReceiveMessage", "sqs:SendMessage",
      ]
      Resource = "arn:${local.partition}:sqs:${var.region}:*:airflow-celery-*"
    },
    {
      Sid         = "CeleryQueueKey" # an AWS-owned key with an unknown ARN; never a key of this account
      Effect      = "Allow"
      Action      = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*"]
      NotResource = "arn:${local.partition}:kms:*:${var.account_id}:key/*"
      Condition   = { StringLike = { "kms:ViaService" = "sqs.${var.region}.amazonaws.com" } }
    },
  ]

  run_dbt_statements = [
    {
      Sid       = "RunDbt"
      Effect    = "Allow"
      Action    = "ecs:RunTask"
      Resource  = "${local.ecs_arn}:task-definition/${local.task_family}:*"
      Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
    },
    {
      Sid       = "WatchDbt"
      Effect    = "Allow"
      Action    = ["ecs:DescribeTasks", "ecs:StopTask"]
      Resource  = "${local.ecs_arn}:task/${local.name}/*"
      Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
    },
    {
      Sid       = "FindDbt" # finds a task that an earlier try left running; the action does not support tasks as resources
      Effect    = "Allow"
      Action    = "ecs:ListTasks"
      Resource  = "*"
      Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
    },
    {
      Sid       = "PassTaskRoles"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = [aws_iam_role.execution.arn, aws_iam_role.task.arn]
      Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
    },
    {
      Sid      = "ShowDbtLogs"
      Effect   = "Allow"
      Action   = "logs:GetLogEvents"
      Resource = "${aws_cloudwatch_log_group.dbt.arn}:*"
    },
  ]

  mwaa_dag_statements = [
    {
      Sid      = "BecomeDbtService"
      Effect   = "Allow"
      Action   = "sts:AssumeRole"
      Resource = aws_iam_role.dbt_service.arn
    },
    {
      Sid      = "ReadParameters"
      Effect   = "Allow"
      Action   = "ssm:GetParameters"
      Resource = "arn:${local.partition}:ssm:${var.region}:${var.account_id}:parameter/${local.path}/*"
    },
    {
      Sid    = "Query"
      Effect = "Allow"
      Action = [
        "athena:GetQueryExecution", "athena:GetQueryResults", "athena:GetWorkGroup", "athena:StartQueryExecution",
        "athena:StopQueryExecution",
      ]
      Resource = aws_athena_workgroup.this.arn
    },
    {
      Sid      = "FindDatabase"
      Effect   = "Allow"
      Action   = ["athena:GetDataCatalog", "athena:GetDatabase"]
      Resource = "${local.athena_arn}:datacatalog/AwsDataCatalog"
    },
    {
      # Athena requires these two for every database:
      # https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html
      Sid      = "DefaultDatabase"
      Effect   = "Allow"
      Action   = ["glue:CreateDatabase", "glue:GetDatabase", "glue:GetDatabases"]
      Resource = ["${local.glue_arn}:catalog", "${local.glue_arn}:database/default"]
    },
    {
      Sid    = "OwnDatabase"
      Effect = "Allow"
      Action = [
        "glue:CreateDatabase", "glue:CreateTable", "glue:GetDatabase", "glue:GetPartitions", "glue:GetTable", "glue:GetTables",
        "glue:UpdateTable",
      ]
      Resource = [
        "${local.glue_arn}:catalog", "${local.glue_arn}:database/${local.athena_database}",
        "${local.glue_arn}:table/${local.athena_database}/*",
      ]
    },
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
      Resource = [for prefix in values(local.lake_prefixes) : "${module.lake_bucket.arn}/${prefix}*"]
    },
    {
      Sid    = "WriteLake"
      Effect = "Allow"
      Action = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"]
      Resource = [
        for name, prefix in local.lake_prefixes : "${module.lake_bucket.arn}/${prefix}*" if name != "raw"
      ]
    },
  ]
}

resource "aws_iam_role" "mwaa" {
  count = local.create_mwaa ? 1 : 0

  name                 = local.mwaa_role_name
  path                 = local.role_path
  description          = "Airflow, for its DAGs"
  permissions_boundary = local.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = ["airflow.amazonaws.com", "airflow-env.amazonaws.com"] }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = var.account_id }
        ArnLike      = { "aws:SourceArn" = local.mwaa_arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "mwaa" {
  count = local.create_mwaa ? 1 : 0

  name = "run-dags"
  role = aws_iam_role.mwaa[0].name

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.mwaa_service_statements, local.run_dbt_statements, local.run_emr_statements, local.mwaa_dag_statements)
  })
}
