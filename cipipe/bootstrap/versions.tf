# Which Terraform and provider bootstrap/ is written for. Its state lies in the very bucket that it manages: cipipe creates
# the bucket by API first, and the first apply adopts it (state_bucket.tf). The backend is partial: bucket, key and region
# come from `-backend-config`.

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
