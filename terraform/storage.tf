# The bucket that Airflow reads its DAGs from. It is versioned because MWAA requires it and because `cipipe dags rollback`
# restores object versions. It is private and encrypted because DAGs name everything in the environment.

module "dags_bucket" {
  source = "./modules/private_bucket"

  name          = "${local.name}-dags-${var.account_id}"
  force_destroy = var.force_destroy
  versioned     = true
  tls_only      = !var.sandbox
}

resource "aws_s3_bucket_lifecycle_configuration" "dags" {
  count = var.sandbox ? 0 : 1

  bucket = module.dags_bucket.name

  rule {
    id     = "expire-replaced-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.dag_version_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  # A rule about versions needs versioning to be enabled first.
  depends_on = [module.dags_bucket]
}
