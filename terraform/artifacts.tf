# What a dbt run leaves behind: manifest, results, catalog, docs and log, below ENVIRONMENT/PROJECT/. The task may write
# there and nowhere else, and cannot read or delete what is there.

locals {
  artifacts_prefix = "${var.environment}/${var.project}/"
}

module "artifacts_bucket" {
  source = "./modules/private_bucket"

  name          = "${local.name}-artifacts-${var.account_id}"
  force_destroy = var.force_destroy
  tls_only      = !var.sandbox
}

resource "aws_s3_bucket_lifecycle_configuration" "artifacts" {
  count = var.sandbox ? 0 : 1

  bucket = module.artifacts_bucket.name

  rule {
    id     = "expire-runs" # the latest artifacts are kept
    status = "Enabled"

    filter {
      prefix = "${local.artifacts_prefix}runs/"
    }

    expiration {
      days = var.artifact_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}
