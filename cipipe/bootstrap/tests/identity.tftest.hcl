# `terraform test` plans bootstrap/ with a mock provider: it needs no account and no network, and takes a few seconds.
# It checks that the trust policies name exactly who may assume a role, that others are refused, and that the deploy role
# cannot extend its own permissions.

mock_provider "aws" {
  override_during = plan

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws" }
  }

  # It is imported, and a mock provider can only import overridden resources.
  override_resource {
    target = aws_s3_bucket.state
    values = { arn = "arn:aws:s3:::cipipe-111111111111-eu-central-1" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::111111111111:policy/mock" }
  }
}

variables {
  project          = "dbt-deployment"
  environment      = "dev"
  region           = "eu-central-1"
  account_id       = "111111111111"
  bucket           = "cipipe-111111111111-eu-central-1"
  deploy_role_name = "dbt-deployment-deploy"
  verify_role_name = "dbt-deployment-verify"

  identity_providers = {
    github = {
      url             = "https://token.actions.githubusercontent.com/"
      client_ids      = ["sts.amazonaws.com"]
      deploy_subjects = ["repo:example/dbt-deployment:environment:dev"]
      verify_subjects = []
      create          = false
    }
    gitlab = {
      url             = "https://gitlab.com"
      client_ids      = ["https://gitlab.com"]
      deploy_subjects = ["project_path:example/dbt-deployment:ref_type:branch:ref:main"]
      verify_subjects = ["project_path:example/dbt-deployment:ref_type:branch:ref:*"]
      deploy_claims   = { ref_protected = ["true"], pipeline_source = ["push", "web"] }
    }
  }
}

run "trust_policies" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.deploy.assume_role_policy).Statement == [
      {
        Sid       = "Github"
        Effect    = "Allow"
        Principal = { Federated = "arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "token.actions.githubusercontent.com:aud" = ["sts.amazonaws.com"]
            "token.actions.githubusercontent.com:sub" = ["repo:example/dbt-deployment:environment:dev"]
          }
        }
      },
      {
        Sid       = "Gitlab"
        Effect    = "Allow"
        Principal = { Federated = "arn:aws:iam::111111111111:oidc-provider/gitlab.com" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "gitlab.com:aud" = ["https://gitlab.com"]
            "gitlab.com:sub" = ["project_path:example/dbt-deployment:ref_type:branch:ref:main"]

            "gitlab.com:pipeline_source" = ["push", "web"]
            "gitlab.com:ref_protected"   = ["true"]
          }
        }
      },
    ]
    error_message = "One statement per provider, aud and sub compared literally, with the claims that keep merge requests out."
  }

  assert {
    condition = jsondecode(aws_iam_role.verify[0].assume_role_policy).Statement[*].Condition == [{
      StringEquals = { "gitlab.com:aud" = ["https://gitlab.com"] }
      StringLike   = { "gitlab.com:sub" = ["project_path:example/dbt-deployment:ref_type:branch:ref:*"] }
    }]
    error_message = "A wildcard needs StringLike, a provider without subjects has no statement, and merge requests may verify."
  }

  assert {
    condition     = keys(aws_iam_openid_connect_provider.this) == ["gitlab"]
    error_message = "A provider that already exists must not be created."
  }
}

run "safeguards" {
  command = plan

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement :
      try(statement.Condition.StringEquals["iam:PermissionsBoundary"], "") == "arn:aws:iam::111111111111:policy/dbt-deployment-dev-boundary"
      if length(setintersection(flatten([statement.Action]), ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"])) > 0
    ])
    error_message = "Every action that gives a role permissions must require the boundary."
  }

  assert {
    condition = length(setintersection(
      flatten([for policy in [aws_iam_policy.deploy, aws_iam_policy.network, aws_iam_policy.read] : [for statement in jsondecode(policy.policy).Statement : statement.Action]]),
      ["*", "iam:*", "iam:CreatePolicyVersion", "iam:DeleteRolePermissionsBoundary", "iam:AttachRolePolicy", "iam:CreateUser", "iam:CreatePolicy", "secretsmanager:GetSecretValue"],
    )) == 0
    error_message = "The deploy role must not be able to change the boundary or read a secret."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement :
      alltrue([for resource in flatten([statement.Resource]) : startswith(resource, "arn:aws:iam::111111111111:role/dbt-deployment/dev/") || startswith(resource, "arn:aws:iam::111111111111:role/aws-service-role/")])
      if anytrue([for action in flatten([statement.Action]) : startswith(action, "iam:")])
    ])
    error_message = "The deploy role may only access roles under the stack's own path, so never itself."
  }

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_policy.read.policy).Statement : [
        for action in flatten([statement.Action]) : can(regex(":(Get|List|Describe|BatchGet|BatchCheck)", action))
      ]
    ]))
    error_message = "The verify role may only read."
  }

  assert {
    condition = length([
      for resource in flatten([for statement in jsondecode(aws_iam_policy.read.policy).Statement : statement.Resource if anytrue([for action in flatten([statement.Action]) : startswith(action, "s3:GetObject")])]) :
      resource if can(regex("cipipe-plans|cipipe-recovery|^arn:aws:s3:::(cipipe-111111111111-eu-central-1/)?\\*", resource))
    ]) == 0
    error_message = "The verify role must not read saved plans."
  }

  # In an ARN `*` crosses slashes: what names all buckets of the stack names all their objects too.
  assert {
    condition = alltrue([
      for statement in concat(jsondecode(aws_iam_policy.deploy.policy).Statement, jsondecode(aws_iam_policy.read.policy).Statement) :
      alltrue([for resource in flatten([statement.Resource]) : !startswith(resource, "arn:aws:s3:::dbt-deployment-dev-") || resource == "arn:aws:s3:::dbt-deployment-dev-dags-*/*"])
      if anytrue([for action in flatten([statement.Action]) : can(regex("^s3:(\\*|Abort|(Get|Put|Delete|Restore|List)(Object|Multipart|\\*))", action))])
    ])
    error_message = "Pipelines may access objects in the DAG bucket only, not in the data lake."
  }

  assert {
    condition     = alltrue([for policy in [aws_iam_policy.alarms, aws_iam_policy.boundary, aws_iam_policy.deploy, aws_iam_policy.network, aws_iam_policy.read] : length(policy.policy) <= 6144])
    error_message = "IAM rejects managed policies of more than 6144 characters."
  }
}

run "alarm_key" {
  command = plan

  variables {
    alarm_key = true
  }

  assert {
    condition     = aws_kms_alias.alarms[0].name == "alias/dbt-deployment-dev-alarms" && aws_kms_key.alarms[0].enable_key_rotation
    error_message = "The stack finds the key of its topic by its alias."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_kms_key.alarms[0].policy).Statement : statement.Action if !can(statement.Principal.AWS)
    ] == [["kms:Decrypt", "kms:GenerateDataKey*"]]
    error_message = "Services may encrypt and decrypt what they publish, and nothing else."
  }
}

run "existing" {
  command = plan

  variables {
    state_arns         = ["arn:aws:s3:::states/shop/dev.tfstate"]
    bucket_arns        = ["arn:aws:s3:::airflow"]
    object_arns        = ["arn:aws:s3:::airflow/dags/*"]
    repository_arns    = ["arn:aws:ecr:eu-central-1:111111111111:repository/team/dbt"]
    deploy_policy_arns = ["arn:aws:iam::111111111111:policy/rds"]
    verify_policy_arns = ["arn:aws:iam::111111111111:policy/rds-read"]
  }

  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_policy.deploy.policy).Statement : statement.Resource]), "arn:aws:s3:::states/shop/dev.tfstate.tflock")
    error_message = "The deploy role must lock the state that a stage names."
  }

  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_policy.read.policy).Statement : statement.Resource]), "arn:aws:s3:::cipipe-111111111111-eu-central-1/terraform/dbt-deployment/dev.tfstate")
    error_message = "The default state is not used, so no role needs it."
  }

  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_policy.read.policy).Statement : statement.Resource]), "arn:aws:s3:::states")
    error_message = "Both roles must list the bucket of the state."
  }

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_policy.existing_read[0].policy).Statement : [
        for action in flatten([statement.Action]) : can(regex(":(Get|List|Describe|BatchGet|BatchCheck)", action))
      ]
    ]))
    error_message = "The verify role may only read."
  }

  assert {
    condition = length(setintersection(
      flatten([for statement in jsondecode(aws_iam_policy.existing_deploy[0].policy).Statement : statement.Action]),
      ["s3:DeleteBucket", "s3:CreateBucket", "ecr:DeleteRepository", "ecr:CreateRepository"],
    )) == 0
    error_message = "What exists already is neither created nor deleted."
  }

  assert {
    condition     = keys(aws_iam_role_policy_attachment.chosen_deploy) == ["arn:aws:iam::111111111111:policy/rds"] && keys(aws_iam_role_policy_attachment.chosen_verify) == ["arn:aws:iam::111111111111:policy/rds-read"]
    error_message = "Each role gets the policies chosen for it."
  }
}

run "dags" {
  command = plan

  assert {
    condition = [
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement : statement if contains(flatten([statement.Action]), "s3:ListBucketVersions")
      ] == [{
        Sid       = "LedgerHistory"
        Effect    = "Allow"
        Action    = "s3:ListBucketVersions"
        Resource  = "arn:aws:s3:::cipipe-111111111111-eu-central-1"
        Condition = { StringLike = { "s3:prefix" = ["ledger/dbt-deployment/dev/*", "cipipe-plans/ledger/dbt-deployment/dev/*", "cipipe-recovery/ledger/dbt-deployment/dev/*"] } }
    }]
    error_message = "A rollback needs the versions of this ledger's records, saving a plan those of saved plans, writing a rescued state those of it, and of nothing else."
  }

  assert {
    condition = alltrue([
      for action in ["s3:GetObject", "s3:GetObjectVersion"] : anytrue([
        for statement in jsondecode(aws_iam_policy.read.policy).Statement :
        contains(flatten([statement.Action]), action) && contains(flatten([statement.Resource]), "arn:aws:s3:::cipipe-111111111111-eu-central-1/ledger/dbt-deployment/dev/*")
      ])
    ])
    error_message = "Current and earlier versions of records must be readable."
  }

  assert {
    condition = alltrue([
      for action in ["s3:GetEncryptionConfiguration", "s3:ListBucket", "s3:ListBucketVersions"] : anytrue([
        for statement in jsondecode(aws_iam_policy.read.policy).Statement :
        contains(flatten([statement.Action]), action) && contains(flatten([statement.Resource]), "arn:aws:s3:::dbt-deployment-dev-*")
      ])
    ])
    error_message = "Listing the DAG bucket includes versions, and MWAA reads its encryption settings on behalf of the caller."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement : statement.Resource if contains(flatten([statement.Action]), "airflow:InvokeRestApi")
    ] == ["arn:aws:airflow:eu-central-1:111111111111:role/dbt-deployment-dev/Viewer"]
    error_message = "Airflow is called with its role Viewer; with a wildcard, MWAA would choose the role."
  }

  assert {
    condition = length(setintersection(
      flatten([for statement in jsondecode(aws_iam_policy.read.policy).Statement : statement.Action]),
      ["airflow:InvokeRestApi", "airflow:UpdateEnvironment", "iam:PassRole"],
    )) == 0
    error_message = "The verify role may only read from MWAA."
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement :
      contains(try(statement.Condition.StringEquals["iam:PassedToService"], []), "airflow.amazonaws.com") && statement.Action == "iam:PassRole"
    ])
    error_message = "An update of an MWAA environment passes its role, even if the role does not change."
  }
}

run "no_verify_role" {
  command = plan

  variables {
    verify_role_name = null
  }

  assert {
    condition     = output.verify_role_arn == null && length(aws_iam_role.verify) == 0
    error_message = "Null means no verify role."
  }
}

run "refuses_everybody" {
  command = plan

  variables {
    identity_providers = {
      github = { url = "https://token.actions.githubusercontent.com", client_ids = ["sts.amazonaws.com"], deploy_subjects = ["repo:*"], verify_subjects = [] }
    }
  }

  expect_failures = [var.identity_providers]
}

run "refuses_every_owner_with_that_beginning" {
  command = plan

  variables {
    identity_providers = {
      github = { url = "https://token.actions.githubusercontent.com", client_ids = ["sts.amazonaws.com"], deploy_subjects = ["repo:example*"], verify_subjects = [] }
    }
  }

  expect_failures = [var.identity_providers]
}

run "refuses_a_state_bucket_that_the_deploy_role_could_delete" {
  command = plan

  variables {
    bucket = "dbt-deployment-dev-state"
  }

  expect_failures = [var.bucket]
}

run "refuses_a_boundary_that_is_none" {
  command = plan

  variables {
    boundary_additional_actions = ["iam:*"]
  }

  expect_failures = [var.boundary_additional_actions]
}

run "claims_of_both_roles" {
  command = plan

  variables {
    identity_providers = {
      github = {
        url             = "https://token.actions.githubusercontent.com"
        client_ids      = ["sts.amazonaws.com"]
        deploy_subjects = ["repo:example/shop:ref:refs/heads/main", "repo:example@*/shop@*:ref:refs/heads/main"]
        verify_subjects = ["repo:example/shop:pull_request"]
        claims          = { repository = ["example/shop"] }
        deploy_claims   = { ref = ["refs/heads/main", "refs/heads/release/*"] }
      }
    }
  }

  assert {
    condition = jsondecode(aws_iam_role.deploy.assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud"        = ["sts.amazonaws.com"]
        "token.actions.githubusercontent.com:repository" = ["example/shop"]
      }
      StringLike = {
        "token.actions.githubusercontent.com:ref" = ["refs/heads/main", "refs/heads/release/*"]
        "token.actions.githubusercontent.com:sub" = ["repo:example/shop:ref:refs/heads/main", "repo:example@*/shop@*:ref:refs/heads/main"]
      }
    }
    error_message = "Values with a wildcard must use StringLike, all others StringEquals."
  }

  assert {
    condition = jsondecode(aws_iam_role.verify[0].assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud"        = ["sts.amazonaws.com"]
        "token.actions.githubusercontent.com:repository" = ["example/shop"]
        "token.actions.githubusercontent.com:sub"        = ["repo:example/shop:pull_request"]
      }
    }
    error_message = "The verify role must require the claims of both roles, and none of the deploy role's."
  }
}

run "refuses_any_id_without_the_repository" {
  command = plan

  variables {
    identity_providers = {
      github = { url = "https://token.actions.githubusercontent.com", client_ids = ["sts.amazonaws.com"], deploy_subjects = ["repo:example@*/shop@*:ref:refs/heads/main"], verify_subjects = [] }
    }
  }

  expect_failures = [var.identity_providers]
}

run "refuses_claims_without_values" {
  command = plan

  variables {
    identity_providers = {
      gitlab = { url = "https://gitlab.com", client_ids = ["https://gitlab.com"], deploy_subjects = ["project_path:example/shop:ref_type:branch:ref:main"], verify_subjects = [], deploy_claims = { ref_protected = [] } }
    }
  }

  expect_failures = [var.identity_providers]
}

run "paths" {
  command = plan

  variables {
    deploy_role_path = "/team/"
    verify_role_path = "/team/read/"
  }

  assert {
    condition     = aws_iam_role.deploy.path == "/team/" && aws_iam_role.verify[0].path == "/team/read/"
    error_message = "A role must have the path that its ARN in cipipe.toml has."
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_iam_policy.read.policy).Statement :
      statement.Resource == ["arn:aws:iam::111111111111:role/team/dbt-deployment-deploy", "arn:aws:iam::111111111111:role/team/read/dbt-deployment-verify"]
      if statement.Sid == "ReadTrustPolicies"
    ])
    error_message = "An ARN of a role must include its path."
  }
}

run "refuses_a_deploy_role_that_could_change_itself" {
  command = plan

  variables {
    deploy_role_path = "/dbt-deployment/dev/ci/"
  }

  expect_failures = [var.deploy_role_path]
}

run "existing_bucket" {
  command = plan

  variables {
    bucket_statements = jsonencode([{ Sid = "Audit", Effect = "Allow", Principal = { AWS = "arn:aws:iam::222222222222:root" }, Action = "s3:ListBucket", Resource = "arn:aws:s3:::cipipe-111111111111-eu-central-1" }])
    bucket_encryption = { algorithm = "aws:kms", key = "arn:aws:kms:eu-central-1:111111111111:key/1234", bucket_key = true }
    key_arns          = ["arn:aws:kms:eu-central-1:111111111111:key/1234"]
  }

  assert {
    condition     = [for statement in jsondecode(aws_s3_bucket_policy.state[0].policy).Statement : statement.Sid] == ["Audit", "TlsOnly"]
    error_message = "Statements that somebody else wrote must stay."
  }

  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_server_side_encryption_configuration.state.rule :
      rule.bucket_key_enabled && one(rule.apply_server_side_encryption_by_default).kms_master_key_id == "arn:aws:kms:eu-central-1:111111111111:key/1234"
    ])
    error_message = "The bucket must go on encrypting with its key."
  }

  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_iam_policy.existing_read[0].policy).Statement : statement.Action]), "kms:Decrypt") && !contains(flatten([for statement in jsondecode(aws_iam_policy.existing_read[0].policy).Statement : statement.Action]), "kms:GenerateDataKey")
    error_message = "Reading a state takes the key, but the verify role must not encrypt."
  }
}

run "existing_environments_and_tables" {
  command = plan

  variables {
    mwaa_arns       = ["arn:aws:airflow:eu-central-1:111111111111:environment/team"]
    lock_table_arns = ["arn:aws:dynamodb:eu-central-1:111111111111:table/locks"]
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_policy.existing_deploy[0].policy).Statement : statement.Sid => statement.Resource
      } == {
      UpdateAirflow = ["arn:aws:airflow:eu-central-1:111111111111:environment/team"]
      AskAirflow    = ["arn:aws:airflow:eu-central-1:111111111111:role/team/Viewer"]
      LockState     = ["arn:aws:dynamodb:eu-central-1:111111111111:table/locks"]
    }
    error_message = "Airflow is called with its role Viewer, and the state is locked in its table."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_policy.existing_read[0].policy).Statement : statement.Sid] == ["ReadAirflow"]
    error_message = "The verify role locks nothing."
  }
}

run "an_environment_that_stays_is_never_emptied" {
  command = plan

  assert {
    condition     = !contains([for statement in jsondecode(aws_iam_policy.deploy.policy).Statement : statement.Sid], "EmptyBuckets")
    error_message = "Only an environment that may be destroyed has the permission to delete data."
  }
}

run "an_environment_that_may_go_is_emptied" {
  command = plan

  variables {
    destroyable = true
  }

  assert {
    condition = one([
      for statement in jsondecode(aws_iam_policy.deploy.policy).Statement : statement.Resource if statement.Sid == "EmptyBuckets"
    ]) == "arn:aws:s3:::dbt-deployment-dev-*/*"
    error_message = "Its own buckets only."
  }

  assert {
    condition     = length(aws_iam_policy.deploy.policy) <= 6144
    error_message = "IAM rejects managed policies of more than 6144 characters."
  }
}

run "guard" {
  command = plan

  variables {
    deploy_policy_arns = ["arn:aws:iam::111111111111:policy/everything"]
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_policy.guard[0].policy).Statement : statement.Effect == "Deny"])
    error_message = "The guard only denies."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_policy.guard[0].policy).Statement : statement.Sid => statement.Condition.StringNotEquals if can(statement.Condition)
    } == { RolesOnlyWithBoundary = { "iam:PermissionsBoundary" = "arn:aws:iam::111111111111:policy/dbt-deployment-dev-boundary" } }
    error_message = "Whatever a chosen policy allows, a role must get the boundary, and StringNotEquals also holds without one."
  }

  assert {
    condition = one([
      for statement in jsondecode(aws_iam_policy.guard[0].policy).Statement : toset(statement.Resource) if statement.Sid == "NotItself"
      ]) == toset([
      "arn:aws:iam::111111111111:role/dbt-deployment-deploy", "arn:aws:iam::111111111111:role/dbt-deployment-verify",
      "arn:aws:iam::111111111111:policy/dbt-deployment-dev-*", "arn:aws:iam::111111111111:policy/everything",
    ])
    error_message = "The pipeline must not change its own roles, nor the boundary, nor the policies that it has."
  }

  assert {
    condition     = length(aws_iam_policy.guard[0].policy) <= 6144
    error_message = "IAM rejects managed policies of more than 6144 characters."
  }
}

run "no_guard" {
  command = plan

  assert {
    condition     = length(aws_iam_policy.guard) == 0 && length(aws_iam_policy.existing_read) == 0
    error_message = "Without chosen policies and existing resources, there is nothing to add."
  }
}
