"""Repositories as teams have them before cipipe: files, options of `cipipe init`, and the stages
that it finds.
"""

S3 = 'terraform {\n  backend "s3" {}\n}\n'
OUTPUTS = """
variable "project" {
  type = string
}
provider "aws" {
  s3_use_path_style           = true
  skip_metadata_api_check     = true
  skip_credentials_validation = true
  max_retries                 = 3
}
resource "aws_ecr_repository" "this" {
  name = var.project
}
resource "aws_s3_bucket" "dags" {
  bucket_prefix = "dags-"
}
resource "aws_s3_bucket_versioning" "dags" {
  bucket = aws_s3_bucket.dags.id
  versioning_configuration {
    status = "Enabled"
  }
}
output "registry" {
  value = aws_ecr_repository.this.repository_url
}
output "dags_bucket_name" {
  value = aws_s3_bucket_versioning.dags.bucket
}
"""
DAG = "from airflow import DAG\n\nwith DAG('x'):\n    pass\n"
DEV = 'account_id = "111111111111"\nregion = "eu-central-1"\n'
LIVE = 'account_id = "222222222222"\nregion = "eu-west-1"\n'
DOCKERFILE = "FROM scratch\nCOPY . /\n"
DBT = {"dbt/Dockerfile": DOCKERFILE, "dbt/dbt_project.yml": "name: x\n"}
FLAGS = ("--account", "111111111111", "--region", "eu-central-1")
HARD = 'terraform {\n  backend "s3" {\n    bucket = "states"\n    key    = "KEY"\n  }\n}\n'
HTTP = 'terraform {\n  backend "http" {}\n}\n'

SHAPES: dict[str, tuple[dict[str, str], tuple[str, ...], list[str]]] = {
    "one root with files of variables": (
        {
            "terraform/main.tf": S3 + OUTPUTS,
            "terraform/environments/dev.tfvars": DEV,
            "terraform/environments/live.tfvars": LIVE,
            **DBT,
            "dags/a.py": DAG,
        },
        (),
        ["iac", "image", "dags"],
    ),
    "a root per environment": (
        {
            "infra/environments/dev/main.tf": HARD.replace("KEY", "a/dev")
            + OUTPUTS
            + 'module "x" {\n  source = "../../modules/x"\n}\n',
            "infra/environments/dev/terraform.tfvars": DEV,
            "infra/environments/live/main.tf": HARD.replace("KEY", "a/live") + OUTPUTS,
            "infra/environments/live/terraform.tfvars": LIVE,
            "infra/modules/x/main.tf": 'provider "aws" {}\n',
            "dags/a.py": DAG,
        },
        (),
        ["iac", "dags"],
    ),
    "dbt at the top": (
        {
            # `COPY . /` would take what init writes, too, of which a plan warns.
            "Dockerfile": "FROM scratch\nCOPY dbt_project.yml /\nCOPY models /models\n",
            "dbt_project.yml": "name: x\n",
            "models/a.sql": "select 1\n",
            "terraform/main.tf": S3 + OUTPUTS,
        },
        FLAGS,
        ["iac", "image"],
    ),
    "a single DAG at the top": (
        {"daily.py": DAG, "helper.py": "x = 1\n", "terraform/main.tf": S3 + OUTPUTS},
        FLAGS,
        ["iac", "dags"],
    ),
    "dbt inside dags": (
        {
            "dags/a.py": DAG,
            "dags/dbt/shop/dbt_project.yml": "name: x\n",
            "dags/dbt/Dockerfile": DOCKERFILE,
            "terraform/main.tf": S3 + OUTPUTS,
        },
        FLAGS,
        ["iac", "image", "dags"],
    ),
    "a bucket without Terraform": (
        {"airflow/dags/a.py": DAG, "airflow/dags/requirements.txt": ""},
        (*FLAGS, "--dags-bucket", "team-dags"),
        ["dags"],
    ),
    "a hard-coded state": (
        {"main.tf": HARD.replace("KEY", "prod.tfstate")},
        (*FLAGS, "--environments", "prod"),
        ["iac"],
    ),
    "a state in GitLab": ({"iac/main.tf": HTTP + 'provider "aws" {}\n'}, FLAGS, ["iac"]),
    "two roots": ({"net/main.tf": S3, "app/main.tf": S3}, FLAGS, ["iac-app", "iac-net"]),
}
