# `terraform test` plans the stack against a mock of the provider: no account, no network, a few seconds.
# It covers what the sandbox cannot create (MWAA, bucket policies) and the mistakes that variables refuse.

mock_provider "aws" {
  override_during = plan # else nothing that a mock makes up, such as ARNs, could be looked at in a plan

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws" }
  }

  override_data {
    target = data.aws_availability_zones.available
    values = { names = ["eu-central-1c", "eu-central-1a", "eu-central-1b"] }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::dbt-deployment-live-dags-222222222222" }
  }

  mock_resource "aws_athena_workgroup" {
    defaults = { arn = "arn:aws:athena:eu-central-1:222222222222:workgroup/dbt-deployment-live" }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-central-1:222222222222:secret:dbt-deployment/live/dbt-AbCdEf" }
  }

  mock_resource "aws_ecr_repository" {
    defaults = {
      arn            = "arn:aws:ecr:eu-central-1:222222222222:repository/dbt-deployment-live-dbt"
      repository_url = "222222222222.dkr.ecr.eu-central-1.amazonaws.com/dbt-deployment-live-dbt"
    }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::222222222222:role/dbt-deployment/live/mock" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:222222222222:log-group:/ecs/dbt-deployment-live-dbt" }
  }
}

variables {
  project     = "dbt-deployment"
  environment = "live"
  region      = "eu-central-1"
  account_id  = "222222222222"
  image_tag   = "0123456789abcdef0123"
}

run "defaults" {
  command = plan

  assert {
    condition     = keys(aws_subnet.private) == ["eu-central-1a", "eu-central-1b"]
    error_message = "Two private subnets, in the first two zones whatever order AWS names them in."
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"] && length(aws_vpc_endpoint.service) == 0
    error_message = "The default way out is one NAT gateway and no interface endpoint."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].image == "222222222222.dkr.ecr.eu-central-1.amazonaws.com/dbt-deployment-live-dbt:0123456789abcdef0123"
    error_message = "The task definition must name the repository's URL and the given tag."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].secrets == [{ name = "DBT_ENV_SECRET_PASSWORD", valueFrom = "arn:aws:secretsmanager:eu-central-1:222222222222:secret:dbt-deployment/live/dbt-AbCdEf" }]
    error_message = "The secret reaches the container by ARN."
  }

  assert {
    condition     = aws_ecs_task_definition.dbt.skip_destroy && aws_ecr_repository.dbt.image_tag_mutability == "IMMUTABLE"
    error_message = "Older revisions stay, and their tags keep their meaning."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.task, aws_iam_role.execution] : role.permissions_boundary == "arn:aws:iam::222222222222:policy/dbt-deployment-live-boundary" && role.path == "/dbt-deployment/live/"])
    error_message = "Every role needs the boundary and the path that the deploy role is confined to."
  }

  assert {
    condition     = jsondecode(module.dags_bucket.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "Outside the sandbox the bucket refuses plain HTTP."
  }

  assert {
    condition     = !module.dags_bucket.force_destroy && !aws_ecr_repository.dbt.force_delete
    error_message = "Deleting what is not empty must be asked for."
  }

  assert {
    condition = jsondecode(aws_iam_role.dbt_service.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::222222222222:root" }
      Action    = "sts:AssumeRole"
      Condition = { ArnEquals = { "aws:PrincipalArn" = "arn:aws:iam::222222222222:role/dbt-deployment/live/dbt-deployment-live-mwaa" } }
    }]
    error_message = "Airflow's role, and nobody else, may become the dbt service."
  }

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.dbt_service.policy).Statement : statement.Action])) == toset([
      "ecs:DescribeTasks", "ecs:ListTasks", "ecs:RunTask", "ecs:StopTask", "iam:PassRole", "logs:GetLogEvents",
    ])
    error_message = "The dbt service runs dbt, and does nothing else."
  }

  assert {
    condition     = module.lake_bucket.policy == module.dags_bucket.policy && output.athena_database_name == "dbt_deployment_live_movies"
    error_message = "The data lake refuses plain HTTP too, and the database has a name that Athena takes unquoted."
  }

  assert {
    condition     = output.mwaa_environment_name == null
    error_message = "No MWAA unless asked for."
  }
}

run "mwaa" {
  command = plan

  variables {
    create_mwaa    = true
    network_egress = "endpoints"
  }

  assert {
    condition     = output.mwaa_environment_name == "dbt-deployment-live" && length(aws_subnet.private) == 2
    error_message = "MWAA, when asked for, and the two private subnets that it demands."
  }

  assert {
    condition     = length(setsubtract(["sqs", "athena", "glue", "sts"], keys(aws_vpc_endpoint.service))) == 0 && length(aws_nat_gateway.this) == 0
    error_message = "Without a NAT gateway MWAA needs endpoints of its own."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement if statement.Sid == "RunDbt"
      ] == [{
        Sid       = "RunDbt"
        Effect    = "Allow"
        Action    = "ecs:RunTask"
        Resource  = "arn:aws:ecs:eu-central-1:222222222222:task-definition/dbt-deployment-live-dbt:*"
        Condition = { ArnEquals = { "ecs:cluster" = "arn:aws:ecs:eu-central-1:222222222222:cluster/dbt-deployment-live" } }
    }]
    error_message = "Airflow may run this family on this cluster, nothing else."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement.Condition if statement.Action == "iam:PassRole"
    ] == [{ StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }]
    error_message = "Airflow hands roles to ECS tasks only."
  }

  assert {
    condition = toset([
      for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement.Sid if contains(flatten([try(statement.Resource, [])]), "*")
    ]) == toset(["ActionsWithoutResource", "FindDbt"])
    error_message = "Airflow gets `*` only for actions that know no resource."
  }

  assert {
    condition     = aws_iam_role.mwaa[0].permissions_boundary == "arn:aws:iam::222222222222:policy/dbt-deployment-live-boundary"
    error_message = "MWAA's role needs the boundary too."
  }
}

run "nat_per_az" {
  command = plan

  variables {
    network_egress = "nat_per_az"
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == keys(aws_subnet.private)
    error_message = "One NAT gateway in each zone."
  }
}

run "sandbox" {
  command = plan

  variables {
    sandbox     = true
    create_mwaa = true
  }

  assert {
    condition     = module.dags_bucket.policy == null && module.lake_bucket.policy == null && length(aws_mwaa_environment.this) == 0 && aws_secretsmanager_secret.dbt.recovery_window_in_days == 0
    error_message = "The sandbox leaves out what it cannot do, and keeps no deleted secret."
  }
}

run "refuses_a_tag_that_is_no_fingerprint" {
  command = plan

  variables {
    image_tag = "latest"
  }

  expect_failures = [var.image_tag]
}

run "refuses_what_fargate_refuses" {
  command = plan

  variables {
    task_cpu    = 256
    task_memory = 4096
  }

  expect_failures = [var.task_memory]
}

run "refuses_more_memory_than_the_largest_task_has" {
  command = plan

  variables {
    task_cpu    = 16384
    task_memory = 131072
  }

  expect_failures = [var.task_memory]
}

run "refuses_tasks_without_https" {
  command = plan

  variables {
    task_egress_ports = [5439]
  }

  expect_failures = [var.task_egress_ports]
}
