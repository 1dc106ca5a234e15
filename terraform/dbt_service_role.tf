# The role that the DAG `dbt_redshift` assumes to run dbt: it may run one task definition family on one cluster, watch
# and stop what runs there, and read its log. Airflow's own role is the only one that may assume it.

resource "aws_iam_role" "dbt_service" {
  name                 = "${local.name}-dbt-service"
  path                 = local.role_path
  description          = "Runs dbt tasks; assumed by Airflow"
  permissions_boundary = local.permissions_boundary

  # The account is the principal and a condition names the role: as a principal it would have to exist already, and
  # would turn into a dead id when it is made anew.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "${local.iam_arn}:root" }
      Action    = "sts:AssumeRole"
      Condition = { ArnEquals = { "aws:PrincipalArn" = coalesce(var.airflow_role_arn, local.mwaa_role_arn) } }
    }]
  })
}

resource "aws_iam_role_policy" "dbt_service" {
  name = "run-dbt"
  role = aws_iam_role.dbt_service.name

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.run_dbt_statements
  })
}
