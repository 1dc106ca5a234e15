output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "policy" {
  description = "The bucket policy as JSON; null when plain HTTP is allowed."
  value       = one(aws_s3_bucket_policy.this[*].policy)
}

output "force_destroy" {
  description = "Whether a destroy deletes the bucket while it has objects."
  value       = aws_s3_bucket.this.force_destroy
}
