# The first five variables have no default and come from cipipe: TF_VAR_project, TF_VAR_environment, TF_VAR_region,
# TF_VAR_account_id and `-var image_tag=…`. The others are set per environment, in `environments/*.tfvars`.

variable "project" {
  description = "Project name; the first part of every resource's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project)) && length(var.project) <= 24
    error_message = "project must be lower-case letters, digits and single hyphens, at most 24 characters."
  }
}

variable "environment" {
  description = "Environment name, such as dev or live; the second part of every resource's name."
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

variable "image_tag" {
  description = "Tag of the dbt image in the task definition: the first 20 hex digits of the image's fingerprint."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{20}$", var.image_tag))
    error_message = "image_tag must be 20 lower-case hex digits, as cipipe derives it from the image's content."
  }
}

variable "sandbox" {
  description = "Deploy to local AWS services: path-style S3, few retries, and nothing that they do not support (TLS-only bucket policies, lifecycle rules, MWAA)."
  type        = bool
  default     = false
}

variable "use_permissions_boundary" {
  description = "Attach the permissions boundary from bootstrap/ to every role. The deploy role can only create roles with it. Turn it off if an administrator applies this stack without bootstrap/."
  type        = bool
  default     = true
}

variable "force_destroy" {
  description = "Allow a destroy to delete a bucket with objects and a repository with images. Leave it off: cipipe empties both first, but only of what it uploaded. The deploy role cannot delete objects in the data lake in any case."
  type        = bool
  default     = false
}

# --- network ---------------------------------------------------------------------------------------------------------

variable "vpc_cidr" {
  description = "Address range of the VPC. Two quarters become private subnets, and part of the last quarter public subnets."
  type        = string
  default     = "10.40.0.0/20"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 24
    error_message = "vpc_cidr must be an IPv4 range between /16 and /24, such as 10.40.0.0/20."
  }
}

variable "availability_zones" {
  description = "The two availability zones to use; null selects the region's first two."
  type        = list(string)
  default     = null

  validation {
    condition     = var.availability_zones == null || try(length(distinct(var.availability_zones)) == 2, false)
    error_message = "availability_zones must name two different zones; MWAA accepts neither fewer nor more."
  }
}

variable "network_egress" {
  description = "How private tasks reach AWS and the internet: nat (one NAT gateway, the cheapest), nat_per_az (one per zone, survives the loss of a zone) or endpoints (VPC endpoints only, no internet access)."
  type        = string
  default     = "nat"

  validation {
    condition     = contains(["nat", "nat_per_az", "endpoints"], var.network_egress)
    error_message = "network_egress must be nat, nat_per_az or endpoints."
  }
}

variable "task_egress_ports" {
  description = "TCP ports that dbt tasks may connect to: 443 for AWS and Snowflake; add 5439 for Redshift or 5432 for PostgreSQL."
  type        = set(number)
  default     = [443]

  validation {
    condition     = contains(var.task_egress_ports, 443) && alltrue([for port in var.task_egress_ports : port >= 1 && port <= 65535])
    error_message = "task_egress_ports must be TCP ports and include 443: without it a task cannot pull its image."
  }
}

# --- tasks -----------------------------------------------------------------------------------------------------------

variable "task_cpu" {
  description = "CPU units of a dbt task; 1024 are one vCPU."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.task_cpu)
    error_message = "task_cpu must be one of Fargate's sizes: 256, 512, 1024, 2048, 4096, 8192, 16384."
  }
}

variable "task_memory" {
  description = "Memory of a dbt task in MiB; Fargate allows two to eight times the CPU units, in steps."
  type        = number
  default     = 1024

  validation {
    condition     = var.task_memory >= 2 * var.task_cpu && var.task_memory <= (var.task_cpu >= 4096 ? 7.5 : 8) * var.task_cpu
    error_message = "task_memory must be two to eight times task_cpu (7.5 times from 4096 on), as Fargate demands."
  }

  validation {
    condition     = var.task_memory % (var.task_cpu <= 4096 ? 1024 : var.task_cpu == 8192 ? 4096 : 8192) == 0 || (var.task_cpu == 256 && var.task_memory == 512)
    error_message = "task_memory must be a multiple of 1024 MiB (4096 for 8192 CPU units, 8192 for 16384); 256 CPU units may also have 512."
  }
}

variable "task_cpu_architecture" {
  description = "CPU architecture that the image is built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.task_cpu_architecture)
    error_message = "task_cpu_architecture must be X86_64 or ARM64."
  }
}

variable "task_environment" {
  description = "Environment variables of the dbt container. Not for secrets, since they are visible in the task definition."
  type        = map(string)
  default     = {}
}

variable "task_secret_variable" {
  description = "Environment variable with the secret's value in the dbt container. dbt keeps DBT_ENV_SECRET_… out of its logs. Null omits it, for a warehouse that needs no password: a task does not start if its secret has no value."
  type        = string
  default     = "DBT_ENV_SECRET_PASSWORD"

  validation {
    condition     = var.task_secret_variable == null || can(regex("^[A-Z_][A-Z0-9_]*$", var.task_secret_variable))
    error_message = "task_secret_variable must be an upper-case environment variable name, or null."
  }
}

variable "task_reads_secret" {
  description = "Let the container read the secret itself when it starts, instead of ECS. The secret may then be a JSON object, such as one that AWS rotates, and task_secret_variable is not used."
  type        = bool
  default     = false
}

variable "task_glue_connection" {
  description = "Name of a connection in the Glue Data Catalog that the container reads the warehouse's address and credentials from. Null for none. bootstrap/ has to allow glue:GetConnection in boundary_additional_actions."
  type        = string
  default     = null

  validation {
    condition     = var.task_glue_connection == null || can(regex("^[A-Za-z0-9_.-]{1,255}$", var.task_glue_connection))
    error_message = "task_glue_connection must be the name of a connection, or null."
  }
}

variable "container_insights" {
  description = "CloudWatch Container Insights of the cluster: disabled (free), enabled or enhanced."
  type        = string
  default     = "disabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights must be disabled, enabled or enhanced."
  }
}

variable "log_retention_days" {
  description = "Days to keep the tasks' logs; one of the values that CloudWatch supports."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a retention that CloudWatch offers, such as 7, 14, 30, 90 or 365."
  }
}

variable "alarm_emails" {
  description = "Who is told about failed tasks and failed DAG runs. Each address gets a message with a link that confirms the subscription."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alarm_emails must be email addresses."
  }
}

variable "alarm_key" {
  description = "KMS key or alias for the topic of alarms, which EventBridge and CloudWatch may use. Null selects the one that bootstrap/ creates with alarm_key."
  type        = string
  default     = null
}

# --- storage ---------------------------------------------------------------------------------------------------------

variable "dag_version_days" {
  description = "Days to keep replaced and deleted DAG files. `cipipe dags rollback` cannot go back further."
  type        = number
  default     = 365

  validation {
    condition     = var.dag_version_days >= 1 && floor(var.dag_version_days) == var.dag_version_days
    error_message = "dag_version_days must be a whole number of days, at least 1."
  }
}

variable "artifact_days" {
  description = "Days to keep the artifacts of each dbt run. The latest ones are kept until they are replaced."
  type        = number
  default     = 90

  validation {
    condition     = var.artifact_days >= 1 && floor(var.artifact_days) == var.artifact_days
    error_message = "artifact_days must be a whole number of at least 1."
  }
}

variable "image_keep_count" {
  description = "Number of images to keep. Generous, because an older task definition revision can only run as long as its image exists."
  type        = number
  default     = 500

  validation {
    condition     = var.image_keep_count >= 50 && floor(var.image_keep_count) == var.image_keep_count
    error_message = "image_keep_count must be a whole number of at least 50; fewer would expire images that deployed DAGs still run."
  }
}

variable "secret_recovery_days" {
  description = "Days during which a deleted secret can be restored: 0, or 7 to 30. Its name stays reserved, so a destroyed environment cannot be created again until then. Always 0 in the sandbox."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "secret_recovery_days must be 0 or between 7 and 30."
  }
}

variable "athena_scan_limit_bytes" {
  description = "Bytes that one Athena query may read before it is cancelled; at least 10 MB, as Athena requires."
  type        = number
  default     = 10737418240

  validation {
    condition     = var.athena_scan_limit_bytes >= 10000000 && floor(var.athena_scan_limit_bytes) == var.athena_scan_limit_bytes
    error_message = "athena_scan_limit_bytes must be a whole number of at least 10000000."
  }
}

# --- MWAA ------------------------------------------------------------------------------------------------------------

variable "create_emr" {
  description = "Create the roles and security groups with which the DAG emr_elt starts clusters."
  type        = bool
  default     = false
}

variable "create_mwaa" {
  description = "Create an MWAA environment that reads the DAG bucket. Takes half an hour, and is billed by the hour. Ignored in the sandbox, which has no MWAA."
  type        = bool
  default     = false
}

variable "mwaa_airflow_version" {
  description = "Airflow version of the MWAA environment."
  type        = string
  default     = "2.10.3"

  validation {
    condition     = can(regex("^[23]\\.[0-9]+\\.[0-9]+$", var.mwaa_airflow_version))
    error_message = "mwaa_airflow_version must be a full version that MWAA offers, such as 2.10.3 or 3.0.6."
  }
}

variable "mwaa_environment_class" {
  description = "Size of the MWAA environment."
  type        = string
  default     = "mw1.small"

  validation {
    condition     = can(regex("^mw1\\.(small|medium|large|xlarge|2xlarge)$", var.mwaa_environment_class))
    error_message = "mwaa_environment_class must be mw1.small, medium, large, xlarge or 2xlarge."
  }
}

variable "mwaa_max_workers" {
  description = "Maximum number of workers. A worker only waits while a task runs on Fargate, so few are enough."
  type        = number
  default     = 2

  validation {
    condition     = var.mwaa_max_workers >= 1 && var.mwaa_max_workers <= 25 && floor(var.mwaa_max_workers) == var.mwaa_max_workers
    error_message = "mwaa_max_workers must be between 1 and 25."
  }
}

variable "mwaa_webserver_access" {
  description = "Who can reach Airflow's web server: PRIVATE_ONLY (from the VPC) or PUBLIC_ONLY (from anywhere, with an IAM login)."
  type        = string
  default     = "PRIVATE_ONLY"

  validation {
    condition     = contains(["PRIVATE_ONLY", "PUBLIC_ONLY"], var.mwaa_webserver_access)
    error_message = "mwaa_webserver_access must be PRIVATE_ONLY or PUBLIC_ONLY."
  }
}

variable "airflow_role_arn" {
  description = "Execution role of an Airflow outside this stack, which may then assume the dbt service role instead of this stack's MWAA."
  type        = string
  default     = null

  validation {
    condition     = var.airflow_role_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/", var.airflow_role_arn))
    error_message = "airflow_role_arn must be the ARN of an IAM role, or null."
  }
}
