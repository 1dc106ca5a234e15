# Which Terraform and provider this stack is written for, and where its state lives.
# The backend is partial on purpose: bucket, key and region come from `-backend-config`, so that one stack serves every
# environment. `use_lockfile` locks with a conditional write beside the state; no DynamoDB table is needed.

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
