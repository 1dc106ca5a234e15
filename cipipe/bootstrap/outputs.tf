# What goes into cipipe.toml.

output "bucket" {
  description = "Bucket for state and ledger."
  value       = aws_s3_bucket.state.bucket
}

output "deploy_role_arn" {
  description = "role_arn of the environment."
  value       = aws_iam_role.deploy.arn
}

output "verify_role_arn" {
  description = "verify_role_arn of the environment; null if there is none."
  value       = one(aws_iam_role.verify[*].arn)
}
