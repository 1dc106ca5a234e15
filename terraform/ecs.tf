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

  container_definitions = jsonencode([{
    name        = local.container_name
    image       = "${aws_ecr_repository.dbt.repository_url}:${var.image_tag}"
    essential   = true
    cpu         = var.task_cpu # the only container gets everything that the task has
    memory      = var.task_memory
    environment = [for key, value in var.task_environment : { name = key, value = value }]
    secrets     = var.task_secret_variable == null ? [] : [{ name = var.task_secret_variable, valueFrom = aws_secretsmanager_secret.dbt.arn }]

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
