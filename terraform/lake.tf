# The data lake of the DAG `athena_elt`: one bucket, and an Athena workgroup that limits how much a query may read.
# The DAG itself creates the database and the tables, so they are not here. Whoever provides the data uploads it to `raw/`.

locals {
  athena_database = replace("${local.name}-movies", "-", "_") # in Athena, a hyphen would have to be quoted everywhere

  lake_prefixes = { raw = "raw/", results = "athena-results/", staging = "staging/", exports = "exports/", emr = "emr/" }
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
    for_each = toset(["results", "staging", "emr"]) # query results, and logs and tables of clusters; exports are kept

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
  force_destroy = true # only the query history would block a destroy, not data

  configuration {
    enforce_workgroup_configuration    = false # the DAG chooses where its export goes
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_bytes

    result_configuration {
      output_location = "s3://${module.lake_bucket.name}/${local.lake_prefixes.results}"
    }
  }
}
