# The two roles that pipelines assume. Deploy reads and writes. Verify, for merge and pull requests, only reads and cannot even
# lock the state: `terraform plan` runs with `-lock=false` there. identity.tf decides who may assume them.

locals {
  deploy_role_arn = "${local.iam_arn}:role${var.deploy_role_path}${var.deploy_role_name}"
  verify_role_arn = var.verify_role_name == null ? null : "${local.iam_arn}:role${var.verify_role_path}${var.verify_role_name}"
}

resource "aws_iam_role" "deploy" {
  name                 = var.deploy_role_name
  path                 = var.deploy_role_path
  description          = "Pipelines of ${var.project} that deploy ${var.environment}"
  assume_role_policy   = local.trust_policies.deploy
  max_session_duration = var.max_session_seconds

  depends_on = [aws_iam_openid_connect_provider.this]
}

resource "aws_iam_role_policy_attachment" "deploy" {
  for_each = {
    read    = aws_iam_policy.read.arn
    deploy  = aws_iam_policy.deploy.arn
    network = aws_iam_policy.network.arn
  }

  role       = aws_iam_role.deploy.name
  policy_arn = each.value
}

resource "aws_iam_role" "verify" {
  count = var.verify_role_name == null ? 0 : 1

  name                 = var.verify_role_name
  path                 = var.verify_role_path
  description          = "Merge and pull requests of ${var.project} that are checked against ${var.environment}"
  assume_role_policy   = local.trust_policies.verify
  max_session_duration = var.max_session_seconds

  depends_on = [aws_iam_openid_connect_provider.this]

  lifecycle {
    precondition {
      condition     = length(local.subjects.verify) > 0
      error_message = "verify_role_name is set, but no identity provider has verify_subjects: nobody could assume the role."
    }
  }
}

resource "aws_iam_role_policy_attachment" "verify" {
  count = var.verify_role_name == null ? 0 : 1

  role       = aws_iam_role.verify[0].name
  policy_arn = aws_iam_policy.read.arn
}
