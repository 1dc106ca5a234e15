# The two roles that pipelines assume. Deploy reads and writes. Verify, for merge and pull requests, only reads, records what it
# showed, and cannot even lock the state: `terraform plan` runs with `-lock=false` there. identity.tf decides who may assume them.

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
    alarms  = aws_iam_policy.alarms.arn
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

# What a merge request showed is recorded, so that a deployment can compare with it: the only thing that the verify role may
# write. It can create these objects, and neither change nor delete one.
resource "aws_iam_policy" "review" {
  count = var.verify_role_name == null ? 0 : 1

  name        = "${local.name}-review"
  description = "Record what merge requests of ${local.name} showed"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "RecordReviews"
        Effect    = "Allow"
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_arn}/${local.ledger_prefix}reviews/*"
        Condition = { Null = { "s3:if-none-match" = "false" } }
      }],
      length(var.key_arns) == 0 ? [] : [{
        Sid       = "EncryptReviews" # through S3 only
        Effect    = "Allow"
        Action    = "kms:GenerateDataKey"
        Resource  = var.key_arns
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      }],
    )
  })
}

resource "aws_iam_role_policy_attachment" "review" {
  count = var.verify_role_name == null ? 0 : 1

  role       = aws_iam_role.verify[0].name
  policy_arn = aws_iam_policy.review[0].arn
}

resource "aws_iam_role_policy_attachment" "verify" {
  count = var.verify_role_name == null ? 0 : 1

  role       = aws_iam_role.verify[0].name
  policy_arn = aws_iam_policy.read.arn
}
