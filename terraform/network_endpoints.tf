# Access to AWS without the internet: one interface endpoint for each service that a task calls, and more for MWAA.
# Nothing in this file is created unless `network_egress = "endpoints"`.

locals {
  task_endpoints = ["ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm"]

  # MWAA itself creates the endpoints of its database and web server. It and the DAGs need these in addition.
  mwaa_endpoints = ["airflow.api", "airflow.env", "airflow.ops", "athena", "ecs", "glue", "kms", "monitoring", "sqs", "sts"]

  # For the DAG that starts clusters, and for their nodes.
  emr_endpoints = ["elasticmapreduce", "glue"]

  endpoints = var.network_egress != "endpoints" ? [] : concat(
    local.task_endpoints,
    local.create_mwaa ? local.mwaa_endpoints : [],
    var.create_emr ? local.emr_endpoints : [],
  )
}

resource "aws_vpc_endpoint" "service" {
  for_each = toset(local.endpoints)

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.private : subnet.id]
  security_group_ids  = [aws_security_group.endpoints[0].id]

  tags = { Name = "${local.name}-${each.key}" }
}

resource "aws_security_group" "endpoints" {
  count = length(local.endpoints) > 0 ? 1 : 0

  name        = "${local.name}-endpoints"
  description = "Interface endpoints: HTTPS from the VPC"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${local.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = length(local.endpoints) > 0 ? 1 : 0

  security_group_id = aws_security_group.endpoints[0].id
  description       = "HTTPS from the VPC"
  cidr_ipv4         = var.vpc_cidr
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
