# The bucket for Terraform's state and cipipe's ledger. It has to exist before this state does, so it is imported instead of
# created. It outlives every environment, so Terraform refuses to destroy it. Versions are kept forever: they are small, and
# to lose a state is to lose the environment.
# A bucket that the account already had keeps its tags, its encryption and the statements of its policy.
#
# The main stack's module for buckets is not used here: this root is shipped on its own, and `prevent_destroy` cannot be set
# by a variable.

import {
  to = aws_s3_bucket.state
  id = var.bucket
}

resource "aws_s3_bucket" "state" {
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true

    # The environments of an account share the bucket, and it may be one that the account already had.
    ignore_changes = [tags, tags_all]
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    bucket_key_enabled = var.bucket_encryption.bucket_key

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.bucket_encryption.algorithm
      kms_master_key_id = var.bucket_encryption.key
    }
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket = aws_s3_bucket.state.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "state" {
  count = var.sandbox ? 0 : 1

  bucket = aws_s3_bucket.state.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(jsondecode(var.bucket_statements), [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }])
  })

  depends_on = [aws_s3_bucket_public_access_block.state]
}
