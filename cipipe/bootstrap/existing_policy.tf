# Access to what exists already, under names of its own: buckets with DAGs and repositories that the settings of a stage or
# [bootstrap] name. cipipe uploads and pushes to them, and deletes its own objects and images, never the bucket or repository.
# Also MWAA environments, tables that lock a state, and keys that encrypt one.

locals {
  has_existing = length(concat(var.bucket_arns, var.repository_arns, var.mwaa_arns, var.lock_table_arns, var.key_arns)) > 0

  # Airflow's own role for reading, in each MWAA environment.
  viewer_arns = [for arn in var.mwaa_arns : "${replace(arn, ":environment/", ":role/")}/Viewer"]
}

resource "aws_iam_policy" "existing_read" {
  count = local.has_existing ? 1 : 0

  name        = "${local.name}-existing-read"
  description = "Read buckets and repositories of ${local.name} that have other names"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      length(var.bucket_arns) == 0 ? [] : [
        {
          Sid      = "ListBuckets"
          Effect   = "Allow"
          Action   = ["s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:ListBucket", "s3:ListBucketVersions"]
          Resource = var.bucket_arns
        },
        {
          Sid      = "ReadDags"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:GetObjectAttributes", "s3:GetObjectTagging", "s3:GetObjectVersion"]
          Resource = var.object_arns
        },
      ],
      length(var.repository_arns) == 0 ? [] : [{
        Sid    = "ReadImages"
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImageScanFindings", "ecr:DescribeImages",
          "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer", "ecr:ListImages",
        ]
        Resource = var.repository_arns
      }],
      length(var.mwaa_arns) == 0 ? [] : [{
        Sid      = "ReadAirflow"
        Effect   = "Allow"
        Action   = "airflow:GetEnvironment"
        Resource = var.mwaa_arns
      }],
      length(var.key_arns) == 0 ? [] : [{
        Sid       = "DecryptState" # through S3 only
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = var.key_arns
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      }],
    )
  })
}

resource "aws_iam_policy" "existing_deploy" {
  count = local.has_existing ? 1 : 0

  name        = "${local.name}-existing-deploy"
  description = "Upload and push to buckets and repositories of ${local.name} that have other names"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      length(var.bucket_arns) == 0 ? [] : [{
        Sid      = "Dags"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"]
        Resource = var.object_arns
      }],
      length(var.repository_arns) == 0 ? [] : [{
        Sid    = "Images"
        Effect = "Allow"
        Action = [
          "ecr:BatchDeleteImage", "ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage",
          "ecr:StartImageScan", "ecr:UploadLayerPart",
        ]
        Resource = var.repository_arns
      }],
      length(var.mwaa_arns) == 0 ? [] : [
        {
          Sid      = "UpdateAirflow"
          Effect   = "Allow"
          Action   = "airflow:UpdateEnvironment"
          Resource = var.mwaa_arns
        },
        {
          Sid      = "AskAirflow"
          Effect   = "Allow"
          Action   = "airflow:InvokeRestApi"
          Resource = local.viewer_arns
        },
      ],
      length(var.lock_table_arns) == 0 ? [] : [{
        Sid      = "LockState"
        Effect   = "Allow"
        Action   = ["dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem"]
        Resource = var.lock_table_arns
      }],
      length(var.key_arns) == 0 ? [] : [{
        Sid       = "EncryptState"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = var.key_arns
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      }],
    )
  })
}

resource "aws_iam_role_policy_attachment" "existing_deploy" {
  for_each = local.has_existing ? {
    read   = aws_iam_policy.existing_read[0].arn
    deploy = aws_iam_policy.existing_deploy[0].arn
  } : {}

  role       = aws_iam_role.deploy.name
  policy_arn = each.value
}

resource "aws_iam_role_policy_attachment" "existing_verify" {
  count = local.has_existing && var.verify_role_name != null ? 1 : 0

  role       = aws_iam_role.verify[0].name
  policy_arn = aws_iam_policy.existing_read[0].arn
}

# Policies that the project chose. Whatever they allow, a role that the pipeline creates still has the boundary, and the
# pipeline cannot change the boundary, its own roles, or people's access.
resource "aws_iam_policy" "guard" {
  count = length(var.deploy_policy_arns) > 0 ? 1 : 0

  name        = "${local.name}-guard"
  description = "What no other policy may allow the pipeline of the ${local.name} stack"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # The condition also holds where there is no boundary.
        Sid       = "RolesOnlyWithBoundary"
        Effect    = "Deny"
        Action    = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        Resource  = "*"
        Condition = { StringNotEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }
      },
      {
        Sid      = "NoRoleWithoutBoundary"
        Effect   = "Deny"
        Action   = "iam:DeleteRolePermissionsBoundary"
        Resource = "*"
      },
      {
        Sid       = "NotItself" # its roles, and what they are allowed; not even passing them on
        Effect    = "Deny"
        NotAction = ["iam:Get*", "iam:List*"]
        Resource = concat(
          compact([local.deploy_role_arn, local.verify_role_arn]),
          ["${local.iam_arn}:policy/${local.name}-*"], var.deploy_policy_arns, var.verify_policy_arns,
        )
      },
      {
        Sid         = "TrustOfOwnRolesOnly"
        Effect      = "Deny"
        Action      = "iam:UpdateAssumeRolePolicy"
        NotResource = local.stack_role_arn
      },
      {
        Sid    = "NoOtherIdentities"
        Effect = "Deny"
        Action = [
          "iam:AddClientIDToOpenIDConnectProvider", "iam:AddUserToGroup", "iam:AttachGroupPolicy", "iam:AttachUserPolicy", "iam:CreateAccessKey",
          "iam:CreateGroup", "iam:CreateLoginProfile", "iam:CreateOpenIDConnectProvider", "iam:CreateSAMLProvider", "iam:CreateUser",
          "iam:DeleteOpenIDConnectProvider", "iam:DeleteUserPermissionsBoundary", "iam:PutGroupPolicy", "iam:PutUser*", "iam:UpdateAccessKey",
          "iam:UpdateLoginProfile", "iam:UpdateOpenIDConnectProviderThumbprint", "iam:UpdateSAMLProvider",
        ]
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "guard" {
  count = length(var.deploy_policy_arns) > 0 ? 1 : 0

  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.guard[0].arn
}

resource "aws_iam_role_policy_attachment" "chosen_deploy" {
  for_each = toset(var.deploy_policy_arns)

  role       = aws_iam_role.deploy.name
  policy_arn = each.value
}

resource "aws_iam_role_policy_attachment" "chosen_verify" {
  for_each = var.verify_role_name == null ? [] : toset(var.verify_policy_arns)

  role       = aws_iam_role.verify[0].name
  policy_arn = each.value
}
