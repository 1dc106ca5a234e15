# What deploying needs in addition to reading: state, ledger, DAGs, images, and the stack's resources. network_policy.tf has
# the network. It deliberately allows no change to the roles and policies of bootstrap/, and no direct access to a secret's
# value. But whoever can create roles and run tasks with them can let a task read whatever tasks may read.

resource "aws_iam_policy" "deploy" {
  name        = "${local.name}-deploy"
  description = "Change the ${local.name} stack, its state and its ledger"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "WriteStateAndLedger"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = concat(local.state_arns, local.lock_arns, [local.ledger_arn])
      },
      {
        Sid      = "ReleaseLock" # and clean up the ledger; the state itself is never deleted
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = concat(local.lock_arns, [local.ledger_arn])
      },
      {
        # Records of who owns a state or an image repository, for all projects that use this bucket. They only guard against
        # mistakes: everywhere else, names limit what a role can access.
        Sid      = "Claims"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = local.claims_arn
      },
      {
        Sid       = "LedgerHistory" # `cipipe dags rollback` reads earlier versions of a record; old saved plans are deleted
        Effect    = "Allow"
        Action    = "s3:ListBucketVersions"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["${local.ledger_prefix}*", "${local.plans_prefix}*", "${local.recovery_prefix}*"] } }
      },
      {
        # Plans that wait to be approved, and states that an apply could not write. They have values of the state in them, and
        # nobody but this role may read them: they are not below the ledger's prefix.
        Sid      = "SavedPlans"
        Effect   = "Allow"
        Action   = ["s3:DeleteObjectVersion", "s3:GetObject", "s3:PutObject"]
        Resource = ["${local.bucket_arn}/${local.plans_prefix}*", "${local.bucket_arn}/${local.recovery_prefix}*"]
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
          "ecr:PutImageTagMutability", "ecr:PutLifecyclePolicy", "ecr:StartImageScan", "ecr:TagResource", "ecr:UntagResource", "ecr:UploadLayerPart",
        ]
        Resource = local.repository_arn
      },
      {
        Sid      = "FindImagesInUse" # for `cipipe image prune`; of all clusters in the account, as any may run the image
        Effect   = "Allow"
        Action   = ["ecs:DescribeTasks", "ecs:ListClusters", "ecs:ListTaskDefinitionFamilies", "ecs:ListTasks"]
        Resource = "*"
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
        Sid      = "AskAirflow" # whether it imported the DAGs; Airflow's role Viewer is read-only
        Effect   = "Allow"
        Action   = "airflow:InvokeRestApi"
        Resource = local.viewer_arn
      },
      {
        Sid      = "RetireRevisions"
        Effect   = "Allow"
        Action   = "ecs:DeregisterTaskDefinition"
        Resource = "*" # the action supports no resources
      },
      {
        # The safeguard: roles and their policies only together with the boundary. No action here removes or changes it.
        Sid       = "RolesWithBoundary"
        Effect    = "Allow"
        Action    = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        Resource  = local.stack_role_arn
        Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }
      },
      {
        Sid      = "Roles" # these do not support a condition on the boundary, and give a role no permissions
        Effect   = "Allow"
        Action   = ["iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription"]
        Resource = local.stack_role_arn
      },
      {
        Sid       = "PassRoles" # required to create and to update an MWAA environment
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = local.stack_role_arn
        Condition = { StringEquals = { "iam:PassedToService" = ["airflow.amazonaws.com", "airflow-env.amazonaws.com", "ecs-tasks.amazonaws.com"] } }
      },
      {
        Sid       = "ServiceLinkedRoles" # AWS creates them with an account's first cluster and first MWAA environment
        Effect    = "Allow"
        Action    = "iam:CreateServiceLinkedRole"
        Resource  = "${local.iam_arn}:role/aws-service-role/*"
        Condition = { StringEquals = { "iam:AWSServiceName" = ["airflow.amazonaws.com", "ecs.amazonaws.com"] } }
      },
      ], !var.destroyable ? [] : [{
        Sid      = "EmptyBuckets" # `cipipe destroy --empty`, and Terraform's `force_destroy`
        Effect   = "Allow"
        Action   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource = "${local.own_bucket_arn}/*"
    }])
  })
}
