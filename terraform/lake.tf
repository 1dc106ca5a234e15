# The data lake of the DAG `athena_elt`: one bucket, and an Athena workgroup that bounds what a query may read.
# The DAG itself makes the database and the tables, so neither is here; `raw/` is filled by whoever brings the data.

locals {
  athena_database = replace("${local.name}-movies", "-", "_") # Athena takes no hyphen without quoting it everywhere

  lake_prefixes = { raw = "raw/", results = "athena-results/", staging = "staging/", exports = "exports/" }
}

resource "aws_s3_bucket" "lake" {
  bucket        = "${local.name}-lake-${var.account_id}"
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "lake" {
  bucket = aws_s3_bucket.lake.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "lake" {
  bucket = aws_s3_bucket.lake.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  count = var.sandbox ? 0 : 1

  bucket = aws_s3_bucket.lake.id

  dynamic "rule" {
    for_each = toset(["results", "staging"]) # results of queries; exports live under their own prefix, and stay

    content {
      id     = "expire-${rule.key}"
      status = "Enabled"

      filter {
        prefix = local.lake_prefixes[rule.key]
      }

      expiration {
        days = 7
      }

      abort_incomplete_multipart_upload {
        days_after_initiation = 1
      }
    }
  }
}

resource "aws_s3_bucket_policy" "lake" {
  count = var.sandbox ? 0 : 1

  bucket = aws_s3_bucket.lake.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.lake.arn, "${aws_s3_bucket.lake.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.lake]
}

resource "aws_athena_workgroup" "this" {
  name          = local.name
  description   = "Queries of DAGs"
  force_destroy = true # what would stop a destroy is the history of queries, not data

  configuration {
    enforce_workgroup_configuration    = false # the export goes where the DAG says, not where results go
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_bytes

    result_configuration {
      output_location = "s3://${aws_s3_bucket.lake.bucket}/${local.lake_prefixes.results}"
    }
  }
}
