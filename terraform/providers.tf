# The one AWS provider. `allowed_account_ids` stops a run whose credentials belong to another account before it reads
# anything; the tags are more than decoration, since the deploy role may change only network resources that carry them.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  # A local AWS endpoint has no per-bucket host names, and an action that it lacks must fail now, not after 25 retries.
  s3_use_path_style = var.sandbox
  max_retries       = var.sandbox ? 2 : null

  default_tags {
    tags = local.tags
  }
}
