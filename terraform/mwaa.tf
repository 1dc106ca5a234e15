# Managed Airflow, created if `create_mwaa` is true. It reads DAGs from the bucket and starts dbt tasks; mwaa_iam.tf has its
# permissions. Workers need no additional packages: MWAA's image has the Amazon provider that the DAGs import.
# When Terraform changes the environment, its workers stop at once: `worker_replacement_strategy` is an argument of version 6 of
# the provider. The pipeline's `dags` stage, which makes the frequent updates, lets them finish their tasks.

resource "aws_security_group" "mwaa" {
  count = local.create_mwaa ? 1 : 0

  name        = "${local.name}-mwaa"
  description = "MWAA: its own parts talk to each other, anything out"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-mwaa" }
}

resource "aws_vpc_security_group_ingress_rule" "mwaa" {
  count = local.create_mwaa ? 1 : 0

  security_group_id            = aws_security_group.mwaa[0].id
  description                  = "Scheduler, workers, web server and database among themselves"
  referenced_security_group_id = aws_security_group.mwaa[0].id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "mwaa" {
  count = local.create_mwaa ? 1 : 0

  security_group_id = aws_security_group.mwaa[0].id
  description       = "AWS services, and what DAGs call"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_mwaa_environment" "this" {
  count = local.create_mwaa ? 1 : 0

  name                  = local.name
  airflow_version       = var.mwaa_airflow_version
  environment_class     = var.mwaa_environment_class
  max_workers           = var.mwaa_max_workers
  webserver_access_mode = var.mwaa_webserver_access
  execution_role_arn    = aws_iam_role.mwaa[0].arn
  source_bucket_arn     = module.dags_bucket.arn
  dag_s3_path           = "dags/"

  network_configuration {
    subnet_ids         = [for subnet in aws_subnet.private : subnet.id]
    security_group_ids = [aws_security_group.mwaa[0].id]
  }

  logging_configuration {
    dag_processing_logs {
      enabled   = true
      log_level = "WARNING"
    }

    scheduler_logs {
      enabled   = true
      log_level = "WARNING"
    }

    task_logs {
      enabled   = true
      log_level = "INFO"
    }

    webserver_logs {
      enabled   = true
      log_level = "WARNING"
    }

    worker_logs {
      enabled   = true
      log_level = "WARNING"
    }
  }

  # The pipeline's `dags` stage updates the environment's requirements and plugins, if the project has any.
  lifecycle {
    ignore_changes = [
      plugins_s3_object_version, plugins_s3_path, requirements_s3_object_version, requirements_s3_path,
    ]
  }

  # MWAA checks all of these while it is created, and fails half an hour later if one is missing.
  depends_on = [
    aws_iam_role_policy.mwaa,
    aws_route.private,
    aws_vpc_endpoint.s3,
    aws_vpc_endpoint.service,
    aws_vpc_security_group_egress_rule.mwaa,
    aws_vpc_security_group_ingress_rule.mwaa,
    module.dags_bucket,
  ]
}
