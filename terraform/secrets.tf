# The warehouse password's place, not its value: Terraform would keep a value in the state and in saved plans.
# A person puts it there once (`aws secretsmanager put-secret-value`); a task whose secret has no value does not start.

resource "aws_secretsmanager_secret" "dbt" {
  name                    = "${local.path}/dbt"
  description             = "Password of the warehouse user that dbt connects as"
  recovery_window_in_days = var.sandbox ? 0 : var.secret_recovery_days
}
