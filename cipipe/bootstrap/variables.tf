# `cipipe bootstrap` passes them in a file; those with a default only where they are needed.
# Variables before the first section must have the same values as in the main stack.

variable "project" {
  description = "Project name, as in the main stack."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project)) && length(var.project) <= 24
    error_message = "project must be lower-case letters, digits and single hyphens, at most 24 characters."
  }
}

variable "environment" {
  description = "Environment name, as in the main stack."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.environment)) && length(var.environment) <= 12
    error_message = "environment must be lower-case letters, digits and single hyphens, at most 12 characters."
  }
}

variable "region" {
  description = "AWS region of this environment."
  type        = string
}

variable "account_id" {
  description = "AWS account of this environment; credentials of any other account are refused."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "sandbox" {
  description = "Deploy to local AWS services: path-style S3, few retries, no TLS-only bucket policy."
  type        = bool
  default     = false
}

# --- state and ledger ------------------------------------------------------------------------------------------------

variable "bucket" {
  description = "Bucket for Terraform's state and cipipe's ledger. It already exists, because this root's state is stored in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be 3 to 63 lower-case letters, digits and hyphens; dots break TLS."
  }

  validation {
    condition     = !startswith(var.bucket, "${var.project}-${var.environment}-")
    error_message = "bucket must not start with \"${var.project}-${var.environment}-\": the deploy role may delete buckets of that prefix, and this one must outlive them."
  }
}

variable "bucket_statements" {
  description = "The statements of the bucket's policy that somebody else wrote, as JSON; they stay."
  type        = string
  default     = "[]"

  validation {
    condition     = can(tolist(jsondecode(var.bucket_statements))) || can(concat(jsondecode(var.bucket_statements), []))
    error_message = "bucket_statements must be a JSON array of statements."
  }
}

variable "bucket_encryption" {
  description = "How the bucket encrypts by default: the algorithm, the id or ARN of the KMS key (null for AWS's own), and whether a bucket key is used."
  type = object({
    algorithm  = string
    key        = optional(string)
    bucket_key = optional(bool)
  })
  default = { algorithm = "AES256" }
}

variable "state_arns" {
  description = "ARNs of the objects with the states of stages; none selects cipipe's default in the bucket."
  type        = list(string)
  default     = []
}

variable "ledger_prefix" {
  description = "Prefix of the ledger, ending in a slash; null selects cipipe's default."
  type        = string
  default     = null

  validation {
    condition     = var.ledger_prefix == null || can(regex("^[^/*?].*/$", var.ledger_prefix))
    error_message = "ledger_prefix must be a key prefix that ends in a slash, such as ledger/my-project/dev/."
  }
}

# --- roles and who may assume them -----------------------------------------------------------------------------------

variable "deploy_role_name" {
  description = "Name of the role that deploys and destroys."
  type        = string

  validation {
    condition     = can(regex("^[\\w+=,.@-]{1,64}$", var.deploy_role_name))
    error_message = "deploy_role_name must be 1 to 64 letters, digits or _+=,.@- (a role's name, not its ARN)."
  }
}

variable "verify_role_name" {
  description = "Name of the read-only role for merge and pull requests; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.verify_role_name == null || can(regex("^[\\w+=,.@-]{1,64}$", var.verify_role_name))
    error_message = "verify_role_name must be 1 to 64 letters, digits or _+=,.@- (a role's name, not its ARN)."
  }

  validation {
    condition     = var.verify_role_name != var.deploy_role_name
    error_message = "verify_role_name must differ from deploy_role_name: a merge request would deploy."
  }
}

variable "deploy_role_path" {
  description = "Path of the role that deploys, with a slash at both ends."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([\\w+=,.@-]+/)*$", var.deploy_role_path)) && !startswith(var.deploy_role_path, "/${var.project}/${var.environment}/")
    error_message = "deploy_role_path must start and end with a slash, and not be below /${var.project}/${var.environment}/: the deploy role may change the roles there."
  }
}

variable "verify_role_path" {
  description = "Path of the read-only role, with a slash at both ends."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([\\w+=,.@-]+/)*$", var.verify_role_path)) && !startswith(var.verify_role_path, "/${var.project}/${var.environment}/")
    error_message = "verify_role_path must start and end with a slash, and not be below /${var.project}/${var.environment}/: the deploy role may change the roles there."
  }
}

variable "max_session_seconds" {
  description = "Longest session of both roles."
  type        = number
  default     = 3600

  validation {
    condition     = var.max_session_seconds >= 3600 && var.max_session_seconds <= 43200
    error_message = "max_session_seconds must be between 3600 and 43200."
  }
}

variable "identity_providers" {
  description = "Who may assume the roles, by OIDC provider: its URL, the audiences, and the subjects (sub claims; * and ? are wildcards) for each role. `claims` are required values of other claims for both roles, `deploy_claims` for the deploy role only. Set `create = false` if the account already has the provider, created for another project."
  type = map(object({
    url             = string
    client_ids      = list(string)
    deploy_subjects = list(string)
    verify_subjects = list(string)
    claims          = optional(map(list(string)), {})
    deploy_claims   = optional(map(list(string)), {})
    create          = optional(bool, true)
  }))

  validation {
    condition     = alltrue([for provider in var.identity_providers : startswith(provider.url, "https://")])
    error_message = "identity_providers: every url must start with https://, as in the token's iss claim."
  }

  validation {
    condition     = alltrue([for provider in var.identity_providers : length(provider.client_ids) > 0 && !contains(provider.client_ids, "*")])
    error_message = "identity_providers: every provider needs at least one audience in client_ids, and * is not one."
  }

  validation {
    condition     = anytrue([for provider in var.identity_providers : length(provider.deploy_subjects) > 0])
    error_message = "identity_providers: at least one provider needs deploy_subjects, or nobody can assume the deploy role."
  }

  validation {
    condition = alltrue(flatten([
      for provider in var.identity_providers : [
        for name, values in merge(provider.claims, provider.deploy_claims) : length(values) > 0 && !contains(["aud", "sub"], name)
      ]
    ]))
    error_message = "identity_providers: claims and deploy_claims need at least one value each, and cannot be aud or sub."
  }

  # A shared issuer signs tokens for everybody, so the part before the first wildcard must name the owner.
  validation {
    condition = alltrue(flatten([
      for provider in var.identity_providers : [
        for subject in concat(provider.deploy_subjects, provider.verify_subjects) : can(regex("^[^*?:]+:[^*?:]+([/:]|$|@[*]/[^*?:/]+@[*]:)", subject))
      ]
    ]))
    error_message = "identity_providers: every subject must name its owner before any wildcard, such as project_path:group/project:* or repo:owner/name:*; \"*\" or \"repo:*\" would admit other people's projects."
  }

  # `*` crosses every character: without the repository, repo:owner@*/name@*:… has subjects of other repositories too.
  validation {
    condition = alltrue(flatten([
      for provider in var.identity_providers : [
        for subject in concat(provider.deploy_subjects, provider.verify_subjects) :
        !can(regex("^[^:]+:[^:]*@[^:]*[*?]", subject)) || contains(keys(provider.claims), "repository")
      ]
    ]))
    error_message = "identity_providers: a subject with any id, such as repo:owner@*/name@*:ref:refs/heads/main, needs the repository in claims."
  }
}

variable "boundary_additional_actions" {
  description = "Additional actions that roles of the main stack may have, beyond those for dbt on Fargate and MWAA, such as [\"athena:*\", \"glue:Get*\"] for dbt on Athena."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for action in var.boundary_additional_actions :
      can(regex("^[a-z0-9-]+:[A-Za-z*]+$", action)) && !can(regex("^(iam|sts|organizations|account|sso|sso-admin|identitystore):", action))
    ])
    error_message = "boundary_additional_actions must be service:Action patterns, none of iam, sts, organizations, account, sso or identitystore: those would let a role escape the boundary."
  }
}

variable "alarm_key" {
  description = "Create the KMS key for the main stack's topic of alarms. It costs a dollar a month."
  type        = bool
  default     = false
}

# --- beyond what is named after project and environment ---------------------------------------------------------------

variable "bucket_arns" {
  description = "Buckets with DAGs that have other names."
  type        = list(string)
  default     = []
}

variable "object_arns" {
  description = "What cipipe may upload, replace and delete in those buckets, such as arn:aws:s3:::bucket/dags/*."
  type        = list(string)
  default     = []
}

variable "destroyable" {
  description = "The environment may be destroyed, and so its own buckets emptied."
  type        = bool
  default     = false
}

variable "repository_arns" {
  description = "ECR repositories that have other names. Images may be pushed to them, but they are never created or deleted."
  type        = list(string)
  default     = []
}

variable "mwaa_arns" {
  description = "MWAA environments that have other names. They may be updated, but they are never created or deleted."
  type        = list(string)
  default     = []
}

variable "lock_table_arns" {
  description = "DynamoDB tables that lock the states of stages."
  type        = list(string)
  default     = []
}

variable "key_arns" {
  description = "KMS keys that encrypt the bucket or the states of stages."
  type        = list(string)
  default     = []
}

variable "deploy_policy_arns" {
  description = "Managed policies that the deploy role gets as well, for what else the stack is made of."
  type        = list(string)
  default     = []
}

variable "verify_policy_arns" {
  description = "Managed policies that the verify role gets as well. They have to be read-only: code that nobody has reviewed runs with it."
  type        = list(string)
  default     = []
}
