# The versions of Terraform and the provider. The state is in the same bucket that this root manages: cipipe first creates the
# bucket through the API, and the first apply imports it (state_bucket.tf). The backend is partial: bucket, key and region come
# from `-backend-config`.

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
