# The AWS provider. `allowed_account_ids` stops a run with credentials for another account before it reads anything. The tags
# matter: the deploy role may change only network resources that have them.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  # A local AWS endpoint has no host names for buckets, and an unsupported action should fail at once, not after 25 retries.
  s3_use_path_style = var.sandbox
  max_retries       = var.sandbox ? 2 : null

  default_tags {
    tags = local.tags
  }
}
