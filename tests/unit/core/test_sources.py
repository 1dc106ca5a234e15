"""What Terraform files and Dockerfiles take from elsewhere, read from their text."""

import pytest

from cipipe.stages.base import repository_path
from cipipe.stages.sources import copied, modules

TERRAFORM = rb"""
# module "no" { source = "../comment" }
// module "no" { source = "../comment" }
/* module "no" {
  source = "../comment"
} */
resource "x" "y" {
  source = "../resource"
  text   = <<-EOT
    module "no" {
      source = "../heredoc"
    }
  EOT
}
module "one" {
  source = "../modules/one"
  count  = "${length(var.x["a"]) > 0 ? "{" : "}"}"
  nested = { source = "../nested" }
}
module "two" { source = "./two" }
module   three {
  version = "1"
  source  =    ".." # up
}
module "registry" {
  source = "terraform-aws-modules/vpc/aws"
}
module "four" {
  providers = {
    aws = aws
  }

  source = "../four//sub"
}
"""


def test_modules() -> None:
    assert list(modules(TERRAFORM)) == [
        (16, "../modules/one"),
        (20, "./two"),
        (23, ".."),
        (33, "../four//sub"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"module", b'module "x" {', b'"', b"}}}{{{", b"\xff\xfe", b"/*", b"<<X\n", b'source = "../x"']
)
def test_what_is_no_terraform_names_nothing(body: bytes) -> None:
    assert list(modules(body)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY a /x", [(1, "a")]),
        ("copy ./a b/ c/d /x/", [(1, "a"), (1, "b"), (1, "c/d")]),
        ("FROM x\n\nCOPY . .", [(3, "")]),
        ('ADD ["with space", "/x"]', [(1, "with space")]),
        ("COPY --chown=1:1 --link a /x", [(1, "a")]),
        ("COPY --from=build /out /x", []),
        ("COPY a \\\n  # comment\n  b \\\n  /x\nCOPY c /x", [(1, "a"), (1, "b"), (5, "c")]),
        ("COPY models/*.sql /x", [(1, "models")]),
        ("COPY *.txt /x", [(1, "")]),
        ("COPY ../up /absolute /x", [(1, "up"), (1, "absolute")]),
        ("COPY $FILE ${OTHER}/x /x", []),
        ("ADD https://example.org/x.tar git@example.org:x.git /x", []),
        ("COPY <<EOF /x\ntext\nEOF", []),
        ("RUN COPY a b\nCOPYING a b\n# COPY a b", []),
        ("COPY 'unfinished /x", []),
        ("COPY [1", []),
        ("COPY", []),
        ("COPY a /x \\", [(1, "a")]),
    ],
)
def test_copied(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(copied(text.encode())) == expected


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("terraform", "../modules/x"), "modules/x"),
        (("terraform/", "."), "terraform"),
        ((".",), ""),
        (("./dbt/",), "dbt"),
        (("a", "../.."), ".."),
        (("a", "../../b"), "../b"),
        (("", "x"), "x"),
    ],
)
def test_paths_seen_from_the_top(parts: tuple[str, ...], path: str) -> None:
    assert repository_path(*parts) == path
