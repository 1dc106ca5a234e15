# Which tokens the account accepts, and which of them may assume which role.
# A trust policy has one statement per provider. Its condition keys start with the issuer without `https://`, exactly as in
# the token. `sub` must match literally: StringLike is used only if a subject has a wildcard.

locals {
  issuers = { for key, provider in var.identity_providers : key => trimsuffix(trimprefix(provider.url, "https://"), "/") }

  provider_arns = { for key, issuer in local.issuers : key => "${local.iam_arn}:oidc-provider/${issuer}" }

  subjects = {
    deploy = { for key, provider in var.identity_providers : key => provider.deploy_subjects if length(provider.deploy_subjects) > 0 }
    verify = { for key, provider in var.identity_providers : key => provider.verify_subjects if length(provider.verify_subjects) > 0 }
  }

  # The claims that a token must have in addition to its subject, by role and provider. On gitlab.com they keep merge requests,
  # which can have a branch's subject, out of the deploy role; the verify role is for merge requests.
  claims = {
    deploy = { for key, provider in var.identity_providers : key => merge(provider.claims, provider.deploy_claims) }
    verify = { for key, provider in var.identity_providers : key => provider.claims }
  }

  conditions = {
    for role, providers in local.subjects : role => {
      for key, subjects in providers : key => merge(
        { for claim, values in local.claims[role][key] : "${local.issuers[key]}:${claim}" => values },
        { "${local.issuers[key]}:sub" = subjects },
      )
    }
  }

  trust_policies = {
    for role, providers in local.conditions : role => jsonencode({
      Version = "2012-10-17"
      Statement = [
        for key, conditions in providers : {
          Sid       = join("", [for word in regexall("[A-Za-z0-9]+", key) : title(word)])
          Effect    = "Allow"
          Principal = { Federated = local.provider_arns[key] }
          Action    = "sts:AssumeRoleWithWebIdentity"
          Condition = merge(
            {
              StringEquals = merge(
                { "${local.issuers[key]}:aud" = var.identity_providers[key].client_ids },
                { for name, values in conditions : name => values if !anytrue([for value in values : can(regex("[*?]", value))]) },
              )
            },
            anytrue([for value in flatten(values(conditions)) : can(regex("[*?]", value))]) ? {
              StringLike = { for name, values in conditions : name => values if anytrue([for value in values : can(regex("[*?]", value))]) }
            } : {},
          )
        }
      ]
    })
  }
}

# No thumbprints: AWS checks publicly trusted certificates, such as GitLab's and GitHub's, against its own list of CAs.
resource "aws_iam_openid_connect_provider" "this" {
  for_each = { for key, provider in var.identity_providers : key => provider if provider.create }

  url            = each.value.url
  client_id_list = each.value.client_ids
}
