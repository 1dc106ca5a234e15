# Names that more than one file uses. The deploy role in `bootstrap/` is limited to these prefixes and this role path: a
# pipeline cannot create a resource with any other name.

data "aws_partition" "current" {}

locals {
  name           = "${var.project}-${var.environment}"
  path           = "${var.project}/${var.environment}"
  container_name = "dbt"
  task_family    = "${local.name}-dbt"
  create_mwaa    = var.create_mwaa && !var.sandbox

  partition = data.aws_partition.current.partition
  iam_arn   = "arn:${local.partition}:iam::${var.account_id}"

  # `bootstrap/` creates it. The ARN is built from names, not looked up, so that this stack needs no access to the other state.
  permissions_boundary = var.use_permissions_boundary ? "${local.iam_arn}:policy/${local.name}-boundary" : null

  tags = {
    project     = var.project
    environment = var.environment
    managed_by  = "terraform"
  }
}
