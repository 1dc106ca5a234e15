"""Buckets of an environment that was applied before they became modules: Terraform keeps them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import servers
from support.tools import ROOT, require

PROVIDER = """
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region            = "eu-central-1"
  s3_use_path_style = true
}
"""

# A bucket as the root declared it before `modules/private_bucket` existed.
OLD_BUCKET = """
resource "aws_s3_bucket" "NAME" {
  bucket = "example-NAME"
}

resource "aws_s3_bucket_server_side_encryption_configuration" "NAME" {
  bucket = aws_s3_bucket.NAME.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "NAME" {
  bucket = aws_s3_bucket.NAME.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "NAME" {
  bucket = aws_s3_bucket.NAME.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "NAME" {
  count = 1

  bucket = aws_s3_bucket.NAME.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.NAME.arn, "${aws_s3_bucket.NAME.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.NAME]
}
"""

OLD_VERSIONING = """
resource "aws_s3_bucket_versioning" "dags" {
  bucket = aws_s3_bucket.dags.id

  versioning_configuration {
    status = "Enabled"
  }
}
"""

NEW_BUCKETS = """
module "dags_bucket" {
  source    = "./modules/private_bucket"
  name      = "example-dags"
  versioned = true
}

module "lake_bucket" {
  source = "./modules/private_bucket"
  name   = "example-lake"
}
"""


def terraform(folder: Path, url: str, *arguments: str) -> str:
    """Run Terraform in `folder` against the AWS endpoint `url`; its standard output."""
    outside = ("AWS_", "TF_VAR_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    env |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    argv = [str(require("terraform", "planning over an older state")), *arguments]

    done = subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Terraform plans with the modules, over a state that was applied without them."""
    root = tmp_path_factory.mktemp("root")
    (root / "provider.tf").write_text(PROVIDER)
    buckets = root / "buckets.tf"

    with servers.moto() as url:
        old = [OLD_BUCKET.replace("NAME", name) for name in ("dags", "lake")]
        buckets.write_text("".join(old) + OLD_VERSIONING)
        terraform(root, url, "init", "-input=false")
        terraform(root, url, "apply", "-input=false", "-auto-approve")

        buckets.write_text(NEW_BUCKETS)
        shutil.copytree(ROOT / "terraform/modules", root / "modules")
        shutil.copy(ROOT / "terraform/moved.tf", root)
        terraform(root, url, "init", "-input=false")
        terraform(root, url, "plan", "-input=false", "-out=plan")
        shown: dict[str, Any] = json.loads(terraform(root, url, "show", "-json", "plan"))
        return shown


def test_no_bucket_is_created_changed_or_replaced(planned: dict[str, Any]) -> None:
    actions = {
        change["address"]: change["change"]["actions"] for change in planned["resource_changes"]
    }
    assert len(actions) == 11
    assert {tuple(found) for found in actions.values()} == {("no-op",)}


def test_every_part_of_a_bucket_moves_into_its_module(planned: dict[str, Any]) -> None:
    moves = {
        change.get("previous_address"): change["address"] for change in planned["resource_changes"]
    }
    assert None not in moves
    assert moves["aws_s3_bucket.dags"] == "module.dags_bucket.aws_s3_bucket.this"
    assert (
        moves["aws_s3_bucket_policy.lake[0]"] == "module.lake_bucket.aws_s3_bucket_policy.this[0]"
    )
