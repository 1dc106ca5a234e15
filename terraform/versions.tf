# The versions of Terraform and the provider, and where the state is kept.
# The backend is partial on purpose: bucket, key and region come from `-backend-config`, so that every environment can use
# this stack. `use_lockfile` locks with a conditional write next to the state; no DynamoDB table is needed.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
