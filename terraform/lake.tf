# The data lake of the DAG `athena_elt`: one bucket, and an Athena workgroup that bounds what a query may read.
# The DAG itself makes the database and the tables, so neither is here; `raw/` is filled by whoever brings the data.

locals {
  athena_database = replace("${local.name}-movies", "-", "_") # Athena takes no hyphen without quoting it everywhere

  lake_prefixes = { raw = "raw/", results = "athena-results/", staging = "staging/", exports = "exports/" }
}

module "lake_bucket" {
  source = "./modules/private_bucket"

  name          = "${local.name}-lake-${var.account_id}"
  force_destroy = var.force_destroy
  tls_only      = !var.sandbox
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  count = var.sandbox ? 0 : 1

  bucket = module.lake_bucket.name

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

resource "aws_athena_workgroup" "this" {
  name          = local.name
  description   = "Queries of DAGs"
  force_destroy = true # what would stop a destroy is the history of queries, not data

  configuration {
    enforce_workgroup_configuration    = false # the export goes where the DAG says, not where results go
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_bytes

    result_configuration {
      output_location = "s3://${module.lake_bucket.name}/${local.lake_prefixes.results}"
    }
  }
}
