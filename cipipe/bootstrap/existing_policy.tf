# Access to what exists already, under names of its own: buckets with DAGs and repositories that the settings of a stage or
# [bootstrap] name. cipipe uploads and pushes to them, and deletes its own objects and images, never the bucket or repository.

locals {
  has_existing = length(concat(var.bucket_arns, var.repository_arns)) > 0
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

# Policies that the project chose. They limit the pipeline only: a role that it creates still has the boundary.
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
