# What deploying adds to reading: state, ledger, DAGs, images, and the stack's own resources. Network is a file of its own.
# It withholds on purpose every way to change the roles and policies of bootstrap/, and direct access to a secret's value; who
# may create roles and run tasks with them can still have a task read what tasks may read.

resource "aws_iam_policy" "deploy" {
  name        = "${local.name}-deploy"
  description = "Change the ${local.name} stack, its state and its ledger"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "WriteStateAndLedger"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = [local.state_arn, "${local.state_arn}.tflock", local.ledger_arn]
      },
      {
        Sid      = "ReleaseLock" # and clean up in the ledger; the state itself is never deleted
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = ["${local.state_arn}.tflock", local.ledger_arn]
      },
      {
        # Whose a state or an image repository is, by all projects that use this bucket. They guard against mistakes: what a
        # role can reach is limited by its name everywhere else.
        Sid      = "Claims"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = local.claims_arn
      },
      {
        Sid       = "LedgerHistory" # `cipipe dags rollback` goes back to what an earlier version of a record says
        Effect    = "Allow"
        Action    = "s3:ListBucketVersions"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = "${local.ledger_prefix}*" } }
      },
      {
        Sid    = "Buckets"
        Effect = "Allow"
        Action = [
          "s3:CreateBucket", "s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy",
          "s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration",
          "s3:PutLifecycleConfiguration", "s3:TagResource", "s3:UntagResource",
        ]
        Resource = local.own_bucket_arn
      },
      {
        Sid      = "Dags"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"]
        Resource = local.dags_object_arn
      },
      {
        Sid    = "Images"
        Effect = "Allow"
        Action = [
          "ecr:BatchDeleteImage", "ecr:CompleteLayerUpload", "ecr:CreateRepository", "ecr:DeleteLifecyclePolicy",
          "ecr:DeleteRepository", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:PutImageScanningConfiguration",
          "ecr:PutImageTagMutability", "ecr:PutLifecyclePolicy", "ecr:TagResource", "ecr:UntagResource", "ecr:UploadLayerPart",
        ]
        Resource = local.repository_arn
      },
      {
        Sid    = "Stack"
        Effect = "Allow"
        Action = [
          "airflow:CreateEnvironment", "airflow:DeleteEnvironment", "airflow:TagResource", "airflow:UntagResource",
          "airflow:UpdateEnvironment", "athena:CreateWorkGroup", "athena:DeleteWorkGroup", "athena:TagResource",
          "athena:UntagResource", "athena:UpdateWorkGroup", "ecs:CreateCluster", "ecs:DeleteCluster", "ecs:PutClusterCapacityProviders",
          "ecs:RegisterTaskDefinition", "ecs:TagResource", "ecs:UntagResource", "ecs:UpdateCluster", "ecs:UpdateClusterSettings",
          "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteRetentionPolicy", "logs:PutRetentionPolicy",
          "logs:TagResource", "logs:UntagResource", "secretsmanager:CreateSecret", "secretsmanager:DeleteSecret",
          "secretsmanager:RestoreSecret", "secretsmanager:TagResource", "secretsmanager:UntagResource",
          "secretsmanager:UpdateSecret", "ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:DeleteParameters",
          "ssm:PutParameter", "ssm:RemoveTagsFromResource",
        ]
        Resource = [
          local.cluster_arn, local.family_arn, local.log_group_arn, local.mwaa_arn, local.parameter_arn, local.secret_arn,
          local.workgroup_arn,
        ]
      },
      {
        Sid      = "AskAirflow" # what it made of the DAGs; Airflow's role Viewer changes nothing
        Effect   = "Allow"
        Action   = "airflow:InvokeRestApi"
        Resource = local.viewer_arn
      },
      {
        Sid      = "RetireRevisions"
        Effect   = "Allow"
        Action   = "ecs:DeregisterTaskDefinition"
        Resource = "*" # the action knows no resource
      },
      {
        # The safeguard: a role, or a policy on it, only together with the boundary. No action here removes or changes it.
        Sid       = "RolesWithBoundary"
        Effect    = "Allow"
        Action    = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        Resource  = local.stack_role_arn
        Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }
      },
      {
        Sid      = "Roles" # these cannot be conditioned on the boundary, and give a role no permission
        Effect   = "Allow"
        Action   = ["iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription"]
        Resource = local.stack_role_arn
      },
      {
        Sid       = "PassRoles" # creating an MWAA environment wants it, and so does every update of one
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = local.stack_role_arn
        Condition = { StringEquals = { "iam:PassedToService" = ["airflow.amazonaws.com", "airflow-env.amazonaws.com", "ecs-tasks.amazonaws.com"] } }
      },
      {
        Sid       = "ServiceLinkedRoles" # made by AWS on an account's first cluster and first MWAA environment
        Effect    = "Allow"
        Action    = "iam:CreateServiceLinkedRole"
        Resource  = "${local.iam_arn}:role/aws-service-role/*"
        Condition = { StringEquals = { "iam:AWSServiceName" = ["airflow.amazonaws.com", "ecs.amazonaws.com"] } }
      },
    ]
  })
}
