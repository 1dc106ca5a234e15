# The role that the DAG `dbt_redshift` assumes to run dbt. It may run one task definition family on one cluster, watch and
# stop its tasks, and read their log. Only Airflow's own role may assume it.

resource "aws_iam_role" "dbt_service" {
  name                 = "${local.name}-dbt-service"
  path                 = local.role_path
  description          = "Runs dbt tasks; assumed by Airflow"
  permissions_boundary = local.permissions_boundary

  # The principal is the account, and a condition names the role. A role as principal would have to exist already, and IAM
  # would replace its name with an id that no longer works once the role is created again.
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
