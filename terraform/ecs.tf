# The cluster, the log group and the task definition that runs dbt.
# A revision names one image, by the tag derived from its content, and deployed DAGs name one revision. `skip_destroy` keeps
# older revisions runnable until the DAGs have switched; they cost nothing.

resource "aws_ecs_cluster" "this" {
  name = local.name

  setting {
    name  = "containerInsights"
    value = var.container_insights
  }
}

resource "aws_cloudwatch_log_group" "dbt" {
  name              = "/ecs/${local.task_family}"
  retention_in_days = var.log_retention_days
}

locals {
  # Where dbt_runtime, the container's entry point, finds credentials and puts artifacts. `task_environment` may override it.
  task_environment = merge(
    {
      DBT_ARTIFACTS   = "s3://${module.artifacts_bucket.name}/${local.artifacts_prefix}"
      DBT_ENVIRONMENT = var.environment # the names of schemas depend on it
    },
    var.task_reads_secret ? { DBT_CREDENTIALS_SECRET = aws_secretsmanager_secret.dbt.arn } : {},
    var.task_glue_connection == null ? {} : { DBT_CREDENTIALS_CONNECTION = var.task_glue_connection },
    var.task_environment,
  )
  secret_variable = var.task_reads_secret ? null : var.task_secret_variable

  # The only folders that dbt writes to. The image declares them as volumes, so that its user owns them.
  task_volumes = { home = "/home/dbt", tmp = "/tmp" }
}

resource "aws_ecs_task_definition" "dbt" {
  family                   = local.task_family
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_cpu
  memory                   = var.task_memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  skip_destroy             = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.task_cpu_architecture
  }

  dynamic "volume" {
    for_each = local.task_volumes

    content {
      name = volume.key
    }
  }

  container_definitions = jsonencode([{
    name        = local.container_name
    image       = "${aws_ecr_repository.dbt.repository_url}:${var.image_tag}"
    essential   = true
    cpu         = var.task_cpu # the only container gets everything that the task has
    memory      = var.task_memory
    environment = [for key, value in local.task_environment : { name = key, value = value }]
    secrets     = local.secret_variable == null ? [] : [{ name = local.secret_variable, valueFrom = aws_secretsmanager_secret.dbt.arn }]

    readonlyRootFilesystem = true
    mountPoints            = [for name, path in local.task_volumes : { sourceVolume = name, containerPath = path, readOnly = false }]
    stopTimeout            = 30 # seconds from SIGTERM to SIGKILL: dbt cancels its queries, then the artifacts are uploaded

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.dbt.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = local.container_name
      }
    }
  }])
}
