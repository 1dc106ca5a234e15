"""A small repository with seven stages: a network, two images, two folders of DAGs, a command, and
a default stage. It needs the pipeline files of a provider only.
"""

from pathlib import Path

from support.clone import Clone
from support.environment import shell_environment
from support.tools import require

ACCOUNT = "111111111111"
STAGES = ("network", "api", "dbt", "finance", "sales", "notify")
PROJECT = "data/shop"

_CONFIG = f"""
[project]
name = "shop"
default_environment = "dev"

[oidc]
gitlab = {{ audience = "https://gitlab.com", project = "{PROJECT}" }}
github = {{ audience = "sts.amazonaws.com", project = "{PROJECT}" }}

[environments.dev]
account_id = "{ACCOUNT}"
region = "eu-central-1"
role_arn = "arn:aws:iam::{ACCOUNT}:role/shop-deploy"
verify_role_arn = "arn:aws:iam::{ACCOUNT}:role/shop-verify"
deploy_from = {{ branches = ["main"] }}

[stages.network]
kind = "terraform"
paths = ["network/**"]
root = "network"
backend = {{ bucket = "cipipe-{{account_id}}-{{region}}", key = "terraform/shop/dev.tfstate" }}

[stages.api]
kind = "image"
paths = ["api/**"]
context = "api"
repository = {{ output = "api_repository" }}
needs = ["network"]

[stages.dbt]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = {{ output = "dbt_repository" }}
needs = ["network"]

[stages.finance]
kind = "dags"
paths = ["finance/**"]
source = "finance"
bucket = {{ output = "dags_bucket" }}
prefix = "finance/"
needs = ["network", "dbt"]

[stages.sales]
kind = "dags"
paths = ["sales/**"]
source = "sales"
bucket = {{ output = "dags_bucket" }}
prefix = "sales/"
needs = ["network"]

[stages.notify]
kind = "command"
paths = ["notify/**"]
run = [["echo", "told everybody"]]
needs = ["finance"]

[stages.default]
kind = "command"
when = "nothing-due"
run = [["echo", "nothing was due"]]
"""

_NETWORK = """
terraform {
  required_version = ">= 1.10"
  backend "s3" {}
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100" }
  }
}

provider "aws" {
  s3_use_path_style           = true
  skip_metadata_api_check     = true
  skip_credentials_validation = true
  max_retries                 = 3
}

resource "aws_ecr_repository" "api" { name = "shop-dev-api" }
resource "aws_ecr_repository" "dbt" { name = "shop-dev-dbt" }

resource "aws_s3_bucket" "dags" { bucket = "shop-dev-dags" }
resource "aws_s3_bucket_versioning" "dags" {
  bucket = aws_s3_bucket.dags.id
  versioning_configuration { status = "Enabled" }
}

output "api_repository" { value = aws_ecr_repository.api.repository_url }
output "dbt_repository" { value = aws_ecr_repository.dbt.repository_url }
output "dags_bucket" { value = aws_s3_bucket_versioning.dags.bucket }
"""

DAG = "finance/orders.py"
_DAG = "from airflow import DAG\n\nwith DAG('{}', schedule='@daily'):\n    pass\n"

_FILES = {
    "cipipe.toml": _CONFIG,
    "network/main.tf": _NETWORK,
    "api/Dockerfile": "FROM scratch\nCOPY file /\n",
    "api/file": "api\n",
    "dbt/Dockerfile": "FROM scratch\nCOPY file /\n",
    "dbt/file": "dbt\n",
    DAG: _DAG.format("orders"),
    "sales/customers.py": _DAG.format("customers"),
    "notify/who": "everybody\n",
    ".gitignore": ".cipipe/\n",
}


def seven_stages(folder: Path, **files: str) -> Clone:
    """The repository, with one commit and its sandbox. `files` come on top."""
    require("terraform", "the network")
    require("dockerd", "building images")
    require("docker-registry", "pushing images")
    made = Clone(folder, shell_environment())
    for name, text in {**_FILES, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made.git("init", "--quiet", "--initial-branch", "main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "The shop")
    up = made.cipipe("sandbox", "up", "--env", "dev")
    assert up.status == 0, up.text
    return made
