"""The paths that Terraform files and Dockerfiles refer to."""

import pytest

from cipipe.stages.image import dockerfile
from cipipe.stages.image.dockerfile_syntax import without_frontend
from cipipe.stages.paths import repository_path
from cipipe.stages.terraform.files import hcl
from support.budget import cpu_seconds

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
    assert [(found.line, found.path) for found in hcl.references_in(TERRAFORM)] == [
        (16, "../modules/one"),
        (20, "./two"),
        (23, ".."),
        (33, "../four//sub"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"module",
        b'module "x" {',
        b'"',
        b"}}}{{{",
        b"\xff\xfe",
        b"/*",
        b"<<X\n",
        b'source = "../x"',
    ],
)
def test_a_text_that_is_not_terraform_has_no_references(body: bytes) -> None:
    assert list(hcl.references_in(body)) == []


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
        ("COPY models/*.sql /x", [(1, "models/*.sql")]),
        ("COPY *.txt /x", [(1, "*.txt")]),
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
    assert [
        (found.line, found.path) for found in dockerfile.copy_sources(text.encode(), {})
    ] == expected


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nRUN <<EOF\nCOPY no /x\nEOF\nCOPY yes /x", [(5, "yes")]),
        ("RUN <<-'END' cat\n\tCOPY no /x\n\tEND\nCOPY yes /x", [(4, "yes")]),
        ("RUN cat <<A 3<<B >/x\nCOPY 1 /x\nA\nCOPY 2 /x\nB\nCOPY yes /x", [(6, "yes")]),
        ("COPY <<A <<B yes /x/\nCOPY 1 /x\nA\nB\nCOPY more /x", [(1, "yes"), (5, "more")]),
        ('RUN echo "<<EOF"\nCOPY yes /x', [(2, "yes")]),
        ("RUN echo a<<EOF\nCOPY yes /x", [(2, "yes")]),
        ("RUN <<EOF\nCOPY no /x", []),
        ("RUN <<'T H E' <<\"E\"ND\nCOPY no /x\nT H E\nCOPY no /x\nEND\nCOPY yes /x", [(6, "yes")]),
        ("ONBUILD RUN <<EOF\nCOPY no /x\nEOF\nCOPY yes /x", [(4, "yes")]),
        ("COPY a \\\n\n  \n# comment\n  b /x", [(1, "a"), (1, "b")]),
        ("# escape=`\nCOPY a `\n  b\\c /x\nCOPY d /x", [(2, "a"), (2, "b\\c"), (4, "d")]),
        ("# syntax=docker/dockerfile:1\n# escape = `\nCOPY a `\n b /x", [(3, "a"), (3, "b")]),
        ("# a comment\n# escape=`\nCOPY a \\\n b /x", [(3, "a"), (3, "b")]),
        ("\n# escape=`\nCOPY a \\\n b /x", [(3, "a"), (3, "b")]),
        ("COPY a\\\\\nCOPY b /x", [(2, "b")]),
        ('COPY ["a b", "c*", "/x"]', [(1, "a b"), (1, "c*")]),
        ('COPY --chown=1 ["a", \\\n "b", "/x"]', [(1, "a"), (1, "b")]),
        ("ONBUILD COPY no /x", []),
        ("COPY\ta\t/x\r\nCOPY b /x\r\n", [(1, "a"), (2, "b")]),
        ("\ufeffCOPY a /x", [(1, "a")]),
        ("COPY --parents ./x/./y/**/*.txt /x", [(1, "x/y/**/*.txt")]),
        (
            "RUN --mount=type=bind,source=req.txt,target=/r --mount=type=cache,target=/c true",
            [(1, "req.txt")],
        ),
        ("RUN --mount=target=. true\nRUN --mount=from=build,source=a,target=b true", [(1, "")]),
    ],
)
def test_dockerfiles_as_docker_reads_them(text: str, expected: list[tuple[int, str]]) -> None:
    assert [
        (found.line, found.path) for found in dockerfile.copy_sources(text.encode(), {})
    ] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nARG DIR=src\nCOPY $DIR/a ${DIR}/b /x", ["src/a", "src/b"]),
        ("FROM x\nARG DIR\nCOPY $DIR/a /x", []),
        ("ARG DIR=src\nFROM x\nCOPY $DIR/a /x\nARG DIR\nCOPY $DIR/b /x", ["src/b"]),
        ("FROM x\nARG DIR=src\nFROM y\nCOPY $DIR/a b /x", ["b"]),
        ("FROM x\nARG GIVEN=src\nCOPY $GIVEN/a /x", ["set/a"]),
        ("FROM x\nARG SECRET=src\nCOPY $SECRET/a b /x", ["b"]),
        ("FROM x\nCOPY $GIVEN/a /x", []),
        (
            "FROM x\nENV A=one B='two three'\nENV C four\nCOPY $A $B ${C} /x",
            ["one", "two three", "four"],
        ),
        ("FROM x\nCOPY ${NO:-a} ${NO:+b} ${GIVEN} /x", ["a"]),
        ("FROM x\nARG A=1\nCOPY '$A' \"$A\" \\$A a\\ /x", ["$A", "1", "$A", "a"]),
        ("FROM x\nENV A=old\nENV A=$B\nCOPY $A/a b /x", ["b"]),
        ("FROM x\nENV A=env\nARG A=arg\nCOPY $A /x", ["env"]),
        ("FROM x\nENV A=\nCOPY ${A-no}a ${A:-b} ${B-c} ${A:+no}d ${A+e} /x", ["a", "b", "c", "e"]),
        ("FROM x\nCOPY ${A /x\nCOPY ${A:-${B}} /x", []),
    ],
)
def test_arguments_are_filled_in(text: str, expected: list[str]) -> None:
    given = {"GIVEN": "set", "SECRET": None}
    assert [found.path for found in dockerfile.copy_sources(text.encode(), given)] == expected


def test_what_a_copy_excludes() -> None:
    (found,) = dockerfile.copy_sources(b"COPY --exclude=*.md --exclude=**/test src /x", {})
    assert found.exclude == ("*.md", "**/test")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a/b", ("a/b", "")),
        ("a/*.x", ("a", "*.x")),
        ("*", ("", "*")),
        ("a/[b]/c/*", ("a", "[b]/c/*")),
        ("", ("", "")),
    ],
)
def test_wildcards_are_split_off(source: str, expected: tuple[str, str]) -> None:
    assert dockerfile.split_wildcards(source) == expected


PATHS = rb"""
locals {
  a = file("../a")
  b = templatefile("${path.module}/../b.tpl", { x = "../no" })
  c = filebase64sha256( "${path.root}/c" )
  d = [for f in fileset("${path.module}/../d", "**/*.json") : file("${path.module}/../d/${f}")]
  e = fileset(path.module, "e/*")
  # f = file("../f")
  g = <<EOT
    file("../no") and "${path.module}/no"
    ${templatefile("../g", {})} %{ if true }${path.module}/no%{ endif }
  EOT
  h = "text file(\"../no\") $${file("../no")}"
  i = "${file("../i")}-${file("${path.cwd}/i2")}"
  j = upper("../no")
  k = file(var.name)
  l = file("../${var.name}")
  m = "../no"
}
data "archive_file" "n" {
  source_dir = "${path.module}/../n"
}
module "o" {
  source = "${path.module}/o"
  text   = filemd5("../p")
}
"""


def test_paths_that_expressions_read() -> None:
    assert [(t.line, t.base, t.path, t.pattern) for t in hcl.references_in(PATHS)] == [
        (3, "root", "../a", None),
        (4, "module", "../b.tpl", None),
        (5, "root", "c", None),
        (6, "module", "../d", "**/*.json"),
        (7, "module", ".", "e/*"),
        (11, "root", "../g", None),
        (14, "root", "../i", None),
        (14, "root", "i2", None),
        (21, "module", "../n", None),
        (25, "root", "../p", None),
    ]


def test_paths_that_are_written_in_other_ways() -> None:
    body = rb"""
a = fileset(path.module, ".././x/*.{sql,csv}")
b = provider::tool::file("../no")
c = file("\u002e\U0000002e/c")
d = true ? file("../d") : file("../d2")
"""
    assert [(t.line, t.path, t.pattern) for t in hcl.references_in(body)] == [
        (2, "./../.", "x/*.{sql,csv}"),
        (4, "../c", None),
        (5, "../d", None),
        (5, "../d2", None),
    ]
    (module,) = hcl.references_in_json(rb'{"module": {"a": {"source": "\u002e./a"}}}')
    assert module.path == "../a"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.sql", ["**/*.sql"]),
        ("*.{sql,csv}", ["*.csv", "*.sql"]),
        ("{a,b{c,d}}/x", ["a/x", "bc/x", "bd/x"]),
        ("{a", ["{a"]),
        ("{a,b}" * 30, []),
    ],
)
def test_braces_of_a_fileset(pattern: str, expected: list[str]) -> None:
    assert hcl.alternatives(pattern) == expected


JSON = rb"""{
  "//": "${file(\"../no\")}",
  "module": {
    "a": {"source": "../a", "x": {"source": "../no"}},
    "b": [{"source": "./b", "text": "${file(\"${path.module}/../c\")}"}]
  },
  "resource": {"x": {"module": {"source": "../no", "y": "${path.root}/d", "z": "file(\"../no\")"}}},
  "locals": {"broken": "\ud8zz", "source": "../no", "e": ["${fileset(\"../e\", \"*.{a,b}\")}"]}
}"""


def test_terraform_as_json() -> None:
    assert [
        (t.line, t.is_module, t.base, t.path, t.pattern) for t in hcl.references_in_json(JSON)
    ] == [
        (4, True, "module", "../a", None),
        (5, True, "module", "./b", None),
        (5, False, "module", "../c", None),
        (7, False, "root", "d", None),
        (8, False, "root", "../e", "*.{a,b}"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[[[[", b"]}", b'"', b'{"module": {"a": {"source": 1}}}', b"\xff", b"nul"]
)
def test_a_text_that_is_not_json_has_no_references(body: bytes) -> None:
    assert list(hcl.references_in_json(body)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{" * 50_000,
        b'"${' * 30_000,
        b'"' * 50_000,
        b"/*" * 50_000,
        b"<<A\n" * 20_000,
        b'x = file("../a")\n' * 5_000,
        b'"a' + b"\\" * 50_000,
        b"[" * 20_000 + b'"a",' * 20_000,
        b'{"a":' * 20_000,
        b"COPY a \\\n" * 10_000,
        b"RUN <<A" + b" <<A" * 10_000,
        b"COPY --a=" + b"b --a=" * 10_000,
        b'RUN "' + b"\\" * 50_000,
        b"FROM x\n" + b"ARG A=1\n" * 5_000 + b"COPY " + b"$A " * 5_000,
    ],
    ids=lambda body: body[:12].decode().strip(),
)
def test_hostile_files_are_read_in_linear_time(body: bytes) -> None:
    readers = (
        hcl.references_in,
        hcl.references_in_json,
        lambda text: dockerfile.copy_sources(text, {}),
    )
    with cpu_seconds(10):
        for reader in readers:
            for _ in reader(body + b'"../x" path.root'):
                pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\n# syntax=b\n", "FROM a\n# syntax=b\n"),
        ("# syntax=b\nFROM a\n", "#\nFROM a\n"),
        ("#SYNTAX = b\r\n# escape=`\r\n\r\nFROM a", "# escape=`\r\n#\n\r\nFROM a"),
        ("\ufeff# check=skip=all\n# syntax=b\nFROM a", "\ufeff# check=skip=all\n#\nFROM a"),
        ("", ""),
    ],
)
def test_a_dockerfile_without_its_frontend(text: str, expected: str) -> None:
    assert without_frontend(text.encode()).decode() == expected
