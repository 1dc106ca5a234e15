# The secret for the warehouse password, without a value: Terraform would keep the value in the state and in saved plans.
# Somebody sets it once (`aws secretsmanager put-secret-value`). Until then, tasks that use the secret do not start.

resource "aws_secretsmanager_secret" "dbt" {
  name                    = "${local.path}/dbt"
  description             = "Password of the warehouse user that dbt connects as"
  recovery_window_in_days = var.sandbox ? 0 : var.secret_recovery_days
}
