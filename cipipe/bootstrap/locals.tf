# The ARN patterns that the roles are limited to. They follow the names in the main stack (its locals.tf): the roles can
# access resources named `project-environment` or `project-environment-…`, and nothing else in the account.

data "aws_partition" "current" {}

locals {
  name = "${var.project}-${var.environment}"
  path = "${var.project}/${var.environment}"

  partition = data.aws_partition.current.partition
  here      = "${var.region}:${var.account_id}"
  iam_arn   = "arn:${local.partition}:iam::${var.account_id}"
  ec2_arn   = "arn:${local.partition}:ec2:${local.here}"
  ecs_arn   = "arn:${local.partition}:ecs:${local.here}"

  bucket_arn      = "arn:${local.partition}:s3:::${var.bucket}"
  state_arns      = length(var.state_arns) > 0 ? var.state_arns : ["${local.bucket_arn}/terraform/${local.path}.tfstate"]
  lock_arns       = [for arn in local.state_arns : "${arn}.tflock"]
  ledger_prefix   = coalesce(var.ledger_prefix, "ledger/${local.path}/")
  ledger_arn      = "${local.bucket_arn}/${local.ledger_prefix}*"
  recovery_prefix = "cipipe-recovery/${local.ledger_prefix}" # as in cipipe/rescued.py
  plans_prefix    = "cipipe-plans/${local.ledger_prefix}"    # as in cipipe/saved_plans.py
  claims_arn      = "${local.bucket_arn}/owners/*"

  # In an ARN, `*` crosses slashes, so this one covers objects too: use it only with actions on buckets.
  own_bucket_arn  = "arn:${local.partition}:s3:::${local.name}-*"
  dags_object_arn = "arn:${local.partition}:s3:::${local.name}-dags-*/*"
  repository_arn  = "arn:${local.partition}:ecr:${local.here}:repository/${local.name}-*"
  cluster_arn     = "${local.ecs_arn}:cluster/${local.name}"
  family_arn      = "${local.ecs_arn}:task-definition/${local.name}-*"
  log_group_arn   = "arn:${local.partition}:logs:${local.here}:log-group:/ecs/${local.name}-*"
  parameter_arn   = "arn:${local.partition}:ssm:${local.here}:parameter/${local.path}/*"
  secret_arn      = "arn:${local.partition}:secretsmanager:${local.here}:secret:${local.path}/*"
  mwaa_arn        = "arn:${local.partition}:airflow:${local.here}:environment/${local.name}"
  viewer_arn      = "arn:${local.partition}:airflow:${local.here}:role/${local.name}/Viewer" # Airflow's own role

  alarm_arns = [
    "arn:${local.partition}:cloudwatch:${local.here}:alarm:${local.name}-*",
    "arn:${local.partition}:events:${local.here}:rule/${local.name}-*",
    "arn:${local.partition}:sns:${local.here}:${local.name}-*",
  ]

  athena_arn    = "arn:${local.partition}:athena:${local.here}"
  glue_arn      = "arn:${local.partition}:glue:${local.here}"
  database      = "${replace(local.name, "-", "_")}_*" # names in Athena have no hyphens
  workgroup_arn = "${local.athena_arn}:workgroup/${local.name}"

  query_arns = [
    local.workgroup_arn, "${local.athena_arn}:datacatalog/AwsDataCatalog", "${local.glue_arn}:catalog",
    "${local.glue_arn}:database/default",
    "${local.glue_arn}:database/${local.database}", "${local.glue_arn}:table/${local.database}",
  ]

  # A separate path distinguishes the main stack's roles from the deploy role, whatever their names are.
  stack_role_arn = "${local.iam_arn}:role/${local.path}/*"
  boundary_arn   = "${local.iam_arn}:policy/${local.name}-boundary"
}
