# The one AWS provider, with an administrator's credentials: bootstrap/ is applied by a person, once per account and
# whenever the roles change, never by a pipeline. A pipeline's role could otherwise widen itself.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  # A local AWS endpoint has no per-bucket host names, and an action that it lacks must fail now, not after 25 retries.
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
