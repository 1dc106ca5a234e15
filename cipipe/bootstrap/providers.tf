# The AWS provider, with an administrator's credentials: a person applies bootstrap/, once per account and whenever the roles
# change. A pipeline never does, because its role could then extend its own permissions.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  # A local AWS endpoint has no host names for buckets, and an unsupported action should fail at once, not after 25 retries.
  s3_use_path_style = var.sandbox
  max_retries       = var.sandbox ? 2 : null

  default_tags {
    tags = {
      project     = var.project
      environment = var.environment
      managed_by  = "terraform"
    }
  }
}
