"""Undeclared inputs: a plan shows them where a stage reads them, and nowhere else."""

import json
from pathlib import Path

import pytest

from cipipe.model import State
from cipipe.report import json as as_json
from support.deployment import CONFIG, Deployment
from support.git import HOSTILE

ROOT = Path(__file__).parents[2]

NOTHING = "a change there makes nothing due"
MODULE = 'module "x" {{\n  source = "{}"\n}}\n'


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment.make(tmp_path / "repo")


def warned(deployment: Deployment, **options: object) -> list[str]:
    found = list(deployment.plan(**options).warnings)
    assert all(line.isprintable() for line in found)
    return [line.removesuffix(f", which its paths leave out; {NOTHING}") for line in found]


def test_there_are_none_at_first(deployment: Deployment) -> None:
    assert warned(deployment) == []


def test_the_reference_project_has_none(tmp_path: Path) -> None:
    made = Deployment.make(tmp_path / "repo")
    for name in ("cipipe.toml", "terraform", "dbt", "dags"):
        for path in [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"):
            if path.is_file() and ".terraform/" not in str(path) and "/target/" not in str(path):
                made.repo.write({str(path.relative_to(ROOT)): path.read_bytes()})
    made.repo.commit()
    assert len(made.due()) == 3
    assert warned(made) == []


def test_a_link_out_of_the_paths(deployment: Deployment) -> None:
    for name, target in {
        "in": "model.sql",
        "gone": "absent",
        "page": "../docs/page.md",
        "all": "../docs",
        "abs": "/etc/passwd",
        "up": "../../elsewhere",
        "new\nline": "../docs/page.md",
    }.items():
        (deployment.repo.root / "dbt" / name).symlink_to(target)
    deployment.repo.commit({"docs/other.md": ""})
    assert warned(deployment) == [
        "stage image: the link dbt/abs takes /etc/passwd, which is not in the repository",
        "stage image: the link dbt/all takes docs: 2 files there, such as docs/other.md",
        "stage image: the link dbt/new\\nline takes docs/page.md",
        "stage image: the link dbt/page takes docs/page.md",
        "stage image: the link dbt/up takes ../elsewhere, which is not in the repository",
    ]


def test_links_are_looked_for_among_what_changed(deployment: Deployment) -> None:
    (deployment.repo.root / "dbt/old").symlink_to("../docs/page.md")
    deployment.repo.commit()
    deployment.deploy()
    assert warned(deployment) == []
    (deployment.repo.root / "dbt/deep").mkdir()
    (deployment.repo.root / "dbt/deep/new").symlink_to("../../docs/page.md")
    deployment.repo.commit()
    assert warned(deployment) == ["stage image: the link dbt/deep/new takes docs/page.md"]
    assert (
        len([line for line in warned(deployment, show_uncovered=True) if "the link" in line]) == 2
    )


def test_many_links_are_counted(deployment: Deployment) -> None:
    for number in range(15):
        (deployment.repo.root / f"dbt/{number:02}").symlink_to("../docs/page.md")
    deployment.repo.commit()
    assert len(warned(deployment)) == 11
    assert warned(deployment)[-1] == "stage image: … and 5 more like these"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"terraform/main.tf": MODULE.format("../modules/a"), "modules/a/main.tf": ""},
            ["terraform/main.tf:2 takes modules/a: 1 file there, such as modules/a/main.tf"],
        ),
        ({"terraform/main.tf": MODULE.format("./a"), "terraform/a/main.tf": ""}, []),
        ({"terraform/main.tf": MODULE.format("../modules/a"), "modules/a/README.md": ""}, []),
        ({"terraform/main.tf": MODULE.format("../modules/absent")}, []),
        (
            {"terraform/main.tf": MODULE.format("../../elsewhere")},
            ["terraform/main.tf:2 takes ../elsewhere, which is not in the repository"],
        ),
        (
            {
                "terraform/main.tf": MODULE.format("./a"),
                "terraform/a/x.tf": MODULE.format("../../b"),
                "b/x.tf": MODULE.format("../terraform"),
            },
            ["terraform/a/x.tf:2 takes b: 1 file there, such as b/x.tf"],
        ),
        ({"terraform/x.md": MODULE.format("../docs")}, []),
    ],
)
def test_modules(deployment: Deployment, files: dict[str, str], expected: list[str]) -> None:
    deployment.repo.commit(files)
    assert warned(deployment) == [f"stage iac: {line}" for line in expected]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('var_files = ["../vars/{environment}.tfvars"]', ["var_files[0] takes vars/dev.tfvars"]),
        ('var_files = ["../vars/{account_id}.tfvars"]', []),
        ('var_files = ["x"]', []),
    ],
)
def test_variable_files(deployment: Deployment, settings: str, expected: list[str]) -> None:
    text = CONFIG.replace('root = "terraform"', f'root = "terraform"\n{settings}')
    deployment.repo.commit({"cipipe.toml": text, "vars/dev.tfvars": ""})
    assert warned(deployment) == [f"stage iac: {line}" for line in expected]


def test_a_root_that_the_paths_leave_out(deployment: Deployment) -> None:
    deployment.repo.commit(
        {
            "cipipe.toml": CONFIG.replace('root = "terraform"', 'root = "infra"'),
            "infra/main.tf": "",
            "infra/x": "",
        }
    )
    assert warned(deployment) == [
        "stage iac: root takes infra: 1 file there, such as infra/main.tf"
    ]
    deployment.repo.commit(
        {
            "cipipe.toml": CONFIG.replace(
                '["terraform/**", "!terraform/**/*.md"]', '["terraform/*.tf"]'
            )
        }
    )
    assert warned(deployment) == []


@pytest.mark.parametrize(
    ("paths", "files", "expected"),
    [
        ('"dbt/**"', {"dbt/Dockerfile": "FROM x\nCOPY . /x"}, []),
        ('"dbt/**", "!dbt/**/*.md"', {"dbt/Dockerfile": "COPY . /x", "dbt/a/x.md": ""}, []),
        ('"dbt/*.sql"', {"dbt/Dockerfile": "COPY *.sql /x"}, ["dockerfile takes dbt/Dockerfile"]),
        (
            '"dbt/*"',
            {"dbt/Dockerfile": "COPY models /x", "dbt/models/a.sql": ""},
            ["dbt/Dockerfile:1 takes dbt/models: 1 file there, such as dbt/models/a.sql"],
        ),
        (
            '"dbt/*"',
            {"dbt/Dockerfile": "COPY . /x", "dbt/models/a.sql": "", "dbt/.dockerignore": "models"},
            [],
        ),
        ('"dbt/**", "!dbt/.*"', {"dbt/.dockerignore": "x"}, ["context takes dbt/.dockerignore"]),
        ('"docs/**"', {}, ["context takes dbt: 1 file there, such as dbt/model.sql"]),
    ],
)
def test_images(
    deployment: Deployment, paths: str, files: dict[str, str], expected: list[str]
) -> None:
    deployment.repo.commit({"cipipe.toml": CONFIG.replace('["dbt/**"]', f"[{paths}]"), **files})
    assert warned(deployment) == [f"stage image: {line}" for line in expected]


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("COPY models/*.sql /x", ["models/*.sql: 1 file there, such as dbt/models/b.sql"]),
        ("COPY models/a* /x", []),
        ("COPY *.txt /x", []),
        ("COPY model?/[b]* /x", ["model?/[b]*: 1 file there, such as dbt/models/b.sql"]),
        ("COPY m* /x", ["m*: 3 files there, such as dbt/model.sql"]),
        ("COPY --parents **/deep/* /x", ["**/deep/*: 1 file there, such as dbt/models/deep/c.md"]),
        ("COPY --exclude=*.sql models /x", ["models: 1 file there, such as dbt/models/deep/c.md"]),
        ("COPY --exclude=*.sql --exclude=deep models /x", []),
        ("COPY --exclude=[ models/b.sql /x", ["models/b.sql"]),
        ("COPY --from=build models /x", []),
        ("ARG WHAT=models\nCOPY $WHAT/b.sql /x", ["models/b.sql"]),
        ("COPY none/* /x", []),
        ("RUN --mount=type=bind,source=models/b.sql,target=/b true", ["models/b.sql"]),
    ],
)
def test_what_a_dockerfile_copies(deployment: Deployment, copy: str, expected: list[str]) -> None:
    paths = '["dbt/Dockerfile", "dbt/*.txt", "dbt/models/a.sql"]'
    files = {
        f"dbt/{name}": "" for name in ("x.txt", "models/a.sql", "models/b.sql", "models/deep/c.md")
    }
    dockerfile = f"FROM x\n{copy}"
    deployment.repo.commit(
        {"cipipe.toml": CONFIG.replace('["dbt/**"]', paths), **files, "dbt/Dockerfile": dockerfile}
    )
    line = dockerfile.count("\n") + 1
    assert warned(deployment) == [
        f"stage image: dbt/Dockerfile:{line} takes dbt/{what}" for what in expected
    ]


def test_paths_that_terraform_reads(deployment: Deployment) -> None:
    reads = """
a = file("../shared/a.txt")
b = filesha256("${path.module}/own.txt")
c = [for f in fileset("${path.module}/../shared", "*.json") : f]
d = templatefile("${path.root}/../../elsewhere", {})
e = file("../shared/absent")
# f = file("../shared/f.txt")
"""
    other = 'g = file("${path.module}/../../shared/g.txt")\nh = file("../shared/h.txt")\n'
    shared = {
        f"shared/{name}": ""
        for name in ("a.txt", "f.txt", "g.txt", "h.txt", "x.json", "deep/y.json", "z.txt")
    }
    main = MODULE.format("./m") + reads
    deployment.repo.commit(
        {"terraform/main.tf": main, "terraform/own.txt": "", "terraform/m/x.tf": other, **shared}
    )
    assert warned(deployment) == [
        "stage iac: terraform/main.tf:5 takes shared/a.txt",
        "stage iac: terraform/main.tf:7 takes shared/*.json: 1 file there, such as shared/x.json",
        "stage iac: terraform/main.tf:8 takes ../elsewhere, which is not in the repository",
        "stage iac: terraform/m/x.tf:1 takes shared/g.txt",
        "stage iac: terraform/m/x.tf:2 takes shared/h.txt",
    ]


def test_modules_in_json(deployment: Deployment) -> None:
    main = json.dumps(
        {"module": {"x": {"source": "../m"}}, "locals": {"a": '${file("../m/a.txt")}'}}, indent=1
    )
    inner = json.dumps({"module": [{"y": {"source": "../n"}}]})
    files = {"terraform/main.tf.json": main, "m/m.tf.json": inner, "m/a.txt": "", "n/n.tf": ""}
    deployment.repo.commit(files)
    assert warned(deployment) == [
        "stage iac: terraform/main.tf.json:4 takes m: 1 file there, such as m/m.tf.json",
        "stage iac: terraform/main.tf.json:8 takes m/a.txt",
        "stage iac: m/m.tf.json:1 takes n: 1 file there, such as n/n.tf",
    ]


def test_modules_and_files_behind_links(deployment: Deployment) -> None:
    text = CONFIG.replace(
        '["terraform/**", "!terraform/**/*.md"]', '["terraform/**", "!terraform/links/**"]'
    )
    links = deployment.repo.root / "terraform/links"
    links.mkdir(parents=True)
    (links / "modules").symlink_to("../../shared/modules")
    (links / "away").symlink_to("../../../away")
    (links / "loop").symlink_to("loop")
    (links / "top").symlink_to("/etc")
    (deployment.repo.root / "shared/modules").mkdir(parents=True)
    (deployment.repo.root / "shared/modules/b").symlink_to("a")
    (deployment.repo.root / "terraform/linked.tf").symlink_to("../shared/linked.tf")
    names = ("modules/a", "modules/b", "away/x", "loop/x", "top/x")
    files = {
        "cipipe.toml": text,
        "terraform/main.tf": "".join(MODULE.format(f"./links/{name}") for name in names),
        "shared/modules/a/main.tf": 'x = file("${path.module}/data.txt")\n',
        "shared/modules/a/data.txt": "",
        "shared/linked.tf": MODULE.format("../other"),
        "other/main.tf": "",
    }
    deployment.repo.commit(files)
    found = [line for line in warned(deployment) if "the link" not in line]
    assert found == [
        "stage iac: terraform/linked.tf:2 takes other: 1 file there, such as other/main.tf",
        (
            "stage iac: terraform/main.tf:2 takes shared/modules/a: 1 "
            "file there, such as shared/modules/a/main.tf"
        ),
        "stage iac: terraform/main.tf:8 takes ../away/x, which is not in the repository",
        "stage iac: terraform/main.tf:14 takes /etc/x, which is not in the repository",
        "stage iac: shared/modules/a/main.tf:1 takes shared/modules/a/data.txt",
    ]


def test_an_image_of_the_whole_repository(deployment: Deployment) -> None:
    """With an allow-list in `.dockerignore`, which is a good way to have several folders in one
    image.
    """
    text = CONFIG.replace('context = "dbt"', 'context = "."').replace(
        '["dbt/**"]', '["dbt/**", "Dockerfile", ".dockerignore"]'
    )
    deployment.repo.commit(
        {"cipipe.toml": text, "Dockerfile": "COPY . /x", ".dockerignore": "*\n!dbt\n"}
    )
    assert warned(deployment) == []
    deployment.repo.commit({".dockerignore": None})
    (line,) = warned(deployment)
    assert line.startswith("stage image: Dockerfile:1 takes the whole repository: ")


def test_the_source_of_dags(deployment: Deployment) -> None:
    deployment.repo.commit(
        {"cipipe.toml": CONFIG.replace('source = "dags"', 'source = "airflow"'), "airflow/x.py": ""}
    )
    assert warned(deployment) == [
        "stage dags: source takes airflow: 1 file there, such as airflow/x.py"
    ]


def test_only_stages_that_are_due_are_looked_at(deployment: Deployment) -> None:
    deployment.repo.commit(
        {"terraform/main.tf": MODULE.format("../modules/a"), "modules/a/main.tf": ""}
    )
    assert len(warned(deployment)) == 1
    assert not [
        line for line in warned(deployment, selected=frozenset({"dags"})) if "takes" in line
    ]
    deployment.deploy()
    assert warned(deployment) == []
    assert len(warned(deployment, forced=frozenset({"iac"}))) == 1
    deployment.deploy("iac", state=State.FAILED)
    assert len(warned(deployment)) == 1


def test_a_clone_without_contents_is_planned_all_the_same(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.repo.commit(
        {"terraform/main.tf": MODULE.format("../modules/a"), "modules/a/main.tf": ""}
    )
    deployment.repo.git("config", "uploadpack.allowFilter", "true")
    partial = Deployment(
        deployment.repo.clone(tmp_path / "partial", "--filter=blob:none", "--no-checkout"),
        deployment.ledger,
    )
    partial.repo.write({"cipipe.toml": CONFIG})
    assert partial.reasons() == deployment.reasons()


def test_uncovered_files(deployment: Deployment) -> None:
    assert warned(deployment, show_uncovered=True) == [
        "1 file is covered by no stage: docs/page.md"
    ]
    deployment.repo.commit({b"docs/" + name: "" for name in HOSTILE} | {b"terraform/README.md": ""})
    (line,) = warned(deployment, show_uncovered=True)
    assert line.startswith("13 files are covered by no stage: ")
    assert line.endswith(" and 3 more")
    assert warned(deployment) == []
    deployment.repo.commit({"cipipe.toml": CONFIG.replace('["dbt/**"]', '["**"]')})
    assert warned(deployment, show_uncovered=True) == []


def test_warnings_are_in_the_document(deployment: Deployment) -> None:
    (deployment.repo.root / "dbt/page").symlink_to("../docs/page.md")
    deployment.repo.commit()
    document = json.loads(as_json.plan(deployment.plan()))
    assert document["warnings"] == [
        f"stage image: the link dbt/page takes docs/page.md, which its paths leave out; {NOTHING}"
    ]
