# The repository of dbt images. Tags are immutable, so a task definition revision always runs the same image.
# Images are kept long after they are replaced, because DAGs that have not switched yet still run an older revision.

resource "aws_ecr_repository" "dbt" {
  name                 = "${local.name}-dbt"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_destroy

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "dbt" {
  repository = aws_ecr_repository.dbt.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged images: leftovers of interrupted pushes"
        selection = {
          tagStatus   = "untagged"
          countType   = "sinceImagePushed"
          countUnit   = "days"
          countNumber = 30
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The newest images stay; older revisions may run them"
        selection = {
          tagStatus   = "any"
          countType   = "imageCountMoreThan"
          countNumber = var.image_keep_count
        }
        action = { type = "expire" }
      },
    ]
  })
}
