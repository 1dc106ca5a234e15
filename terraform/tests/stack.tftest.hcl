# `terraform test` plans the stack with a mock provider: it needs no account and no network, and takes a few seconds.
# It covers what the sandbox cannot create (MWAA, bucket policies) and the values that the variables reject.

mock_provider "aws" {
  override_during = plan # without it, a plan would not contain mocked values such as ARNs

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

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:222222222222:dbt-deployment-live-alarms" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:222222222222:cluster/dbt-deployment-live" }
  }

  mock_resource "aws_subnet" {
    defaults = { arn = "arn:aws:ec2:eu-central-1:222222222222:subnet/subnet-1" }
  }

  mock_resource "aws_security_group" {
    defaults = { arn = "arn:aws:ec2:eu-central-1:222222222222:security-group/sg-1" }
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
    error_message = "There are two private subnets, in the first two zones by name."
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"] && length(aws_vpc_endpoint.service) == 0
    error_message = "By default there is one NAT gateway and no interface endpoint."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].image == "222222222222.dkr.ecr.eu-central-1.amazonaws.com/dbt-deployment-live-dbt:0123456789abcdef0123"
    error_message = "The task definition must have the repository's URL and the given tag."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].secrets == [{ name = "DBT_ENV_SECRET_PASSWORD", valueFrom = "arn:aws:secretsmanager:eu-central-1:222222222222:secret:dbt-deployment/live/dbt-AbCdEf" }]
    error_message = "The container must get the secret by its ARN."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].environment == [{ name = "DBT_ARTIFACTS", value = "s3://dbt-deployment-live-artifacts-222222222222/live/dbt-deployment/" }, { name = "DBT_ENVIRONMENT", value = "live" }]
    error_message = "The container must know its environment and where its artifacts go, and nothing else."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].readonlyRootFilesystem && toset(aws_ecs_task_definition.dbt.volume[*].name) == toset(jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].mountPoints[*].sourceVolume)
    error_message = "The root file system must be read-only, with a volume for each folder that dbt writes to."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.task.policy).Statement : statement.Sid] == ["WriteArtifacts"] && endswith(jsondecode(aws_iam_role_policy.task.policy).Statement[0].Resource, "/live/dbt-deployment/*")
    error_message = "By default, a task may only write its artifacts."
  }

  assert {
    condition     = aws_ecs_task_definition.dbt.skip_destroy && aws_ecr_repository.dbt.image_tag_mutability == "IMMUTABLE"
    error_message = "Older revisions must be kept, and tags must be immutable."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.task, aws_iam_role.execution] : role.permissions_boundary == "arn:aws:iam::222222222222:policy/dbt-deployment-live-boundary" && role.path == "/dbt-deployment/live/"])
    error_message = "Every role needs the boundary and the path that the deploy role is restricted to."
  }

  assert {
    condition     = jsondecode(module.dags_bucket.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "Outside the sandbox, the bucket must refuse plain HTTP."
  }

  assert {
    condition     = !module.dags_bucket.force_destroy && !aws_ecr_repository.dbt.force_delete
    error_message = "Deleting a bucket or repository that is not empty must be off by default."
  }

  assert {
    condition = jsondecode(aws_iam_role.dbt_service.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::222222222222:root" }
      Action    = "sts:AssumeRole"
      Condition = { ArnEquals = { "aws:PrincipalArn" = "arn:aws:iam::222222222222:role/dbt-deployment/live/dbt-deployment-live-mwaa" } }
    }]
    error_message = "Only Airflow's role may assume the dbt service role."
  }

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.dbt_service.policy).Statement : statement.Action])) == toset([
      "ecs:DescribeTasks", "ecs:ListTasks", "ecs:RunTask", "ecs:StopTask", "iam:PassRole", "logs:GetLogEvents",
    ])
    error_message = "The dbt service role may only run dbt."
  }

  assert {
    condition     = module.lake_bucket.policy == module.dags_bucket.policy && output.athena_database_name == "dbt_deployment_live_movies"
    error_message = "The data lake must refuse plain HTTP too, and the database's name must not need quotes in Athena."
  }

  assert {
    condition     = output.mwaa_environment_name == null
    error_message = "There must be no MWAA by default."
  }
}

run "alarms" {
  command = plan

  variables {
    alarm_emails = ["data@example.com"]
  }

  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == "alias/dbt-deployment-live-alarms" && keys(aws_sns_topic_subscription.alarms) == ["data@example.com"]
    error_message = "The topic is encrypted with the key of bootstrap/, and the addresses are subscribed."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.task_failed.event_pattern) == {
      source      = ["aws.ecs"]
      detail-type = ["ECS Task State Change"]
      detail = {
        clusterArn = ["arn:aws:ecs:eu-central-1:222222222222:cluster/dbt-deployment-live"]
        lastStatus = ["STOPPED"]
        "$or" = [
          { stopCode = ["EssentialContainerExited"], containers = { exitCode = [{ anything-but = 0 }] } },
          { stopCode = ["TaskFailedToStart", "TerminationNotice"] },
        ]
      }
    }
    error_message = "Tasks of this cluster that end with an error or do not start are failures; those that somebody stopped are not."
  }

  assert {
    condition     = toset(flatten([for statement in jsondecode(aws_sns_topic_policy.alarms.policy).Statement : statement.Action])) == toset(["sns:Publish"])
    error_message = "Services may publish to the topic, and nothing else."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.dag_failed) == 0
    error_message = "Without MWAA there are no metrics of DAG runs."
  }
}

run "refuses_what_is_no_address" {
  command = plan

  variables {
    alarm_emails = ["data at example.com"]
  }

  expect_failures = [var.alarm_emails]
}

run "mwaa" {
  command = plan

  variables {
    create_mwaa    = true
    network_egress = "endpoints"
  }

  assert {
    condition     = output.mwaa_environment_name == "dbt-deployment-live" && length(aws_subnet.private) == 2
    error_message = "With create_mwaa there must be an MWAA environment and the two private subnets that it requires."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.dag_failed[0].alarm_actions == toset(["arn:aws:sns:eu-central-1:222222222222:dbt-deployment-live-alarms"])
    error_message = "Failed DAG runs are reported to the topic."
  }

  assert {
    condition     = length(setsubtract(["sqs", "athena", "glue", "sts"], keys(aws_vpc_endpoint.service))) == 0 && length(aws_nat_gateway.this) == 0
    error_message = "Without a NAT gateway, MWAA needs additional endpoints."
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
    error_message = "Airflow may only run this family on this cluster."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement.Condition if statement.Action == "iam:PassRole"
    ] == [{ StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }]
    error_message = "Airflow may pass roles to ECS tasks only."
  }

  assert {
    condition = toset([
      for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement.Sid if contains(flatten([try(statement.Resource, [])]), "*")
    ]) == toset(["ActionsWithoutResource", "FindDbt"])
    error_message = "Airflow may have `*` only for actions that do not support resources."
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
    error_message = "There must be one NAT gateway in each zone."
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
    error_message = "The sandbox must omit what it does not support, and keep no deleted secrets."
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

run "container_reads_its_credentials" {
  command = plan

  variables {
    task_reads_secret    = true
    task_glue_connection = "warehouse"
    task_environment     = { DBT_TARGET = "redshift" }
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].secrets == []
    error_message = "ECS must not put the secret into the environment as well."
  }

  assert {
    condition = { for variable in jsondecode(aws_ecs_task_definition.dbt.container_definitions)[0].environment : variable.name => variable.value } == {
      DBT_ARTIFACTS              = "s3://dbt-deployment-live-artifacts-222222222222/live/dbt-deployment/"
      DBT_CREDENTIALS_CONNECTION = "warehouse"
      DBT_CREDENTIALS_SECRET     = "arn:aws:secretsmanager:eu-central-1:222222222222:secret:dbt-deployment/live/dbt-AbCdEf"
      DBT_ENVIRONMENT            = "live"
      DBT_TARGET                 = "redshift"
    }
    error_message = "The container must get the names of its secret and connection."
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.task.policy).Statement : statement.Sid => statement.Action } == {
      ReadConnection = "glue:GetConnection"
      ReadSecret     = "secretsmanager:GetSecretValue"
      WriteArtifacts = "s3:PutObject"
    }
    error_message = "The task must be allowed to read exactly these."
  }
}

run "emr" {
  command = plan

  variables {
    create_emr  = true
    create_mwaa = true
  }

  assert {
    condition     = keys(aws_security_group.emr) == ["core", "primary", "service"] && length(output.emr_security_group_ids) == 3
    error_message = "A cluster must have its three security groups."
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.mwaa[0].policy).Statement : statement.Sid => statement.Condition if contains(["StartClusters", "UseOwnClusters"], statement.Sid) } == {
      StartClusters  = { StringEquals = { "aws:RequestTag/environment" = "live", "aws:RequestTag/project" = "dbt-deployment" } }
      UseOwnClusters = { StringEquals = { "aws:ResourceTag/environment" = "live", "aws:ResourceTag/project" = "dbt-deployment" } }
    }
    error_message = "Airflow may only start clusters with this stack's tags, and only use those."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.emr_service[0].policy).Statement : statement.Sid if statement.Resource == "*" && !can(statement.Condition)] == ["Look"]
    error_message = "EMR's role may change nothing outside of this stack."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.emr_service : "${rule.from_port}-${rule.to_port}"] == ["9443-9443"]
    error_message = "EMR refuses a group for service access without the inbound port 9443."
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.emr_nodes) == ["core-core", "core-primary", "primary-core", "primary-primary"]
    error_message = "The nodes of a cluster must reach each other."
  }
}

run "emr_without_nat" {
  command = plan

  variables {
    create_emr     = true
    create_mwaa    = true
    network_egress = "endpoints"
  }

  assert {
    condition     = length(setsubtract(["elasticmapreduce", "glue"], keys(aws_vpc_endpoint.service))) == 0
    error_message = "Without a NAT gateway, a DAG must reach EMR, and a cluster Glue."
  }
}
