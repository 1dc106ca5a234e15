"""`cipipe dags diff`, `deploy` and `status`, as they are called, against S3."""

import msgspec
import pytest

from cipipe.model import Output, State
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.messages import AwsAnswer
from cipipe.tools.aws.signed import AwsCall, SignedClient
from support.shop import BUCKET, CONFIG, DAG, OUTPUTS, REGION, Cli, Shop, due


def requests(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, every request to AWS. Calling boto3 is an error."""
    made: list[str] = []
    original = SignedClient.send

    def noted(self: SignedClient, call: AwsCall) -> AwsAnswer:
        made.append(call.operation.partition(":")[2])
        return original(self, call)

    monkeypatch.setattr(SignedClient, "send", noted)
    monkeypatch.delattr(Aws, "client")
    return made


# --- deploy --------------------------------------------------------------------------------------


def test_deploy_is_a_run_of_the_stage(shop: Shop, cipipe: Cli) -> None:
    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert b"'local'" not in shop.bodies()["dags/a.py"]
    assert shop.record().state is State.DEPLOYED
    assert due(cipipe) == "unchanged"
    assert {stage["result"] for stage in cipipe.json("run")["stages"]} == {"unchanged"}


def test_deploying_again_writes_nothing_and_makes_few_requests(
    shop: Shop, cipipe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cipipe("dags", "deploy")
    before = (shop.writes(), shop.record())
    made = requests(shop, monkeypatch)
    assert cipipe.json("dags", "deploy")["stages"][0]["result"] == "unchanged"
    assert sorted(made) == ["GetCallerIdentity", *["GetObject"] * 3, "ListObjectVersions"]
    assert (shop.writes(), shop.record()) == before


def test_deploy_restores_what_others_changed(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    shop.aws.bucket(BUCKET).put("dags/a.py", b"tampered")
    assert due(cipipe) == "unchanged"
    assert cipipe("dags", "deploy") == 0
    assert b"tampered" not in shop.bodies()["dags/a.py"]
    assert [file["state"] for file in cipipe.json("dags", "status")["files"]] == ["ok", "ok"]


def test_a_dry_run_names_the_keys_and_writes_nothing(shop: Shop, cipipe: Cli) -> None:
    before = shop.writes()
    assert cipipe("dags", "deploy", "--dry-run") == 0, cipipe.err
    assert cipipe.out == (
        "+ dags/a.py\n+ dags/helper.py\n2 added, 0 changed, 0 removed, 0 unchanged in s3://dags-bucket/dags/\n"
    )
    assert shop.writes() == before


@pytest.mark.parametrize(
    ("files", "id"),
    [
        ({"dags/a.py": None}, "dags-empty"),
        ({"terraform/main.tf": "# later"}, "needed-stage-due"),
        (
            dict.fromkeys(("dags/b.py", "dags/c.py"), "from airflow import DAG\nDAG('same')\n"),
            "dag-id-duplicate",
        ),
    ],
)
def test_a_dry_run_refuses_what_a_deployment_refuses(
    shop: Shop, cipipe: Cli, files: dict[str, str | bytes | None], id: str
) -> None:
    cipipe("dags", "deploy")
    shop.commit(files)
    before = shop.writes()
    for arguments in (["--dry-run"], []):
        assert cipipe("dags", "deploy", *arguments) != 0
        assert id in cipipe.err
    assert shop.writes() == before


def test_a_dry_run_of_what_is_not_committed_or_not_due(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    assert cipipe("dags", "deploy", "--dry-run") == 0, cipipe.err
    shop.commit({"dags/a.py": None})
    assert cipipe("dags", "deploy", "--dry-run", "--allow-empty") == 0, cipipe.err
    (shop.repo.root / "dags/helper.py").write_text("# dirty")
    assert cipipe("dags", "deploy", "--dry-run") == 5
    assert "[dirty-work-tree]" in cipipe.err


def test_deploying_nothing_is_refused_unless_allowed(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    shop.commit({"dags/a.py": None})
    assert cipipe("dags", "deploy") == 5
    assert "[dags-empty]" in cipipe.err
    assert set(shop.bodies()) == {"dags/a.py", "dags/helper.py"}
    assert cipipe("dags", "deploy", "--allow-empty") == 0, cipipe.err
    assert set(shop.bodies()) == {"dags/helper.py"}
    assert due(cipipe) == "unchanged"


def test_deploy_has_the_safeguards_of_a_run(shop: Shop, cipipe: Cli) -> None:
    (shop.repo.root / "dags/a.py").write_text("# dirty")
    assert cipipe("dags", "deploy") == 5
    assert "[dirty-work-tree]" in cipipe.err
    shop.repo.git("checkout", "-q", "dags")
    shop.commit({"terraform/main.tf": "# later"})
    assert cipipe("dags", "deploy") == 5
    assert "[needed-stage-due]" in cipipe.err
    assert shop.bodies() == {}


def test_several_stages_in_one_bucket_have_to_be_named(shop: Shop, cipipe: Cli) -> None:
    more = CONFIG.replace("[stages.dags]", "[stages.team]").replace('"dags/**"', '"team/**"')
    more = more[more.index("[stages.team]") :].replace(
        'source = "dags"', 'source = "team"\nprefix = "dags/team/"'
    )
    shop.commit({"cipipe.toml": CONFIG + more, "team/b.py": DAG.format("b")})
    assert cipipe("dags", "deploy") == 2
    assert "--stage is one of: dags, team" in cipipe.err
    assert cipipe("dags", "deploy", "--stage", "nope") == 2
    assert cipipe("dags", "deploy", "--stage", "team") == 0, cipipe.err
    assert cipipe("dags", "deploy", "--stage", "dags") == 0, cipipe.err
    assert set(shop.bodies()) == {"dags/a.py", "dags/helper.py", "dags/team/b.py"}
    assert cipipe.json("dags", "status", "--stage", "dags")["foreign"] == 1
    shop.commit({"dags/helper.py": None})
    assert cipipe("run", "dags") == 0
    assert set(shop.bodies()) == {"dags/a.py", "dags/team/b.py"}


def test_stages_in_one_bucket_leave_each_others_files_alone(shop: Shop, cipipe: Cli) -> None:
    """`dags/team/b.py` belongs to `team` until `team` deletes it, then to the next uploader."""
    more = CONFIG.replace("[stages.dags]", "[stages.team]").replace('"dags/**"', '"team/**"')
    more = more[more.index("[stages.team]") :].replace(
        'source = "dags"', 'source = "team"\nprefix = "dags/team/"'
    )
    shop.commit(
        {"cipipe.toml": CONFIG + more, "team/a.py": DAG.format("a"), "team/b.py": DAG.format("b")}
    )
    assert cipipe("dags", "deploy", "--stage", "team") == 0, cipipe.err
    shop.commit({"dags/team/b.py": DAG.format("mine")})
    for command in ("deploy", "diff"):
        assert cipipe("dags", command, "--stage", "dags") == 5
        assert "[dags-key-taken]" in cipipe.err
    assert b"# b\n" in shop.bodies()["dags/team/b.py"]
    shop.commit({"team/b.py": None})
    assert cipipe("dags", "deploy", "--stage", "team") == 0, cipipe.err
    assert cipipe("dags", "deploy", "--stage", "dags") == 0, cipipe.err
    assert b"# mine\n" in shop.bodies()["dags/team/b.py"]


def test_a_key_that_two_records_name_is_deleted_by_neither(shop: Shop, cipipe: Cli) -> None:
    more = CONFIG.replace("[stages.dags]", "[stages.team]").replace('"dags/**"', '"team/**"')
    more = more[more.index("[stages.team]") :].replace(
        'source = "dags"', 'source = "team"\nprefix = "dags/team/"'
    )
    shop.commit({"cipipe.toml": CONFIG + more, "team/b.py": DAG.format("b")})
    assert cipipe("dags", "deploy", "--stage", "team") == 0, cipipe.err
    assert cipipe("dags", "deploy", "--stage", "dags") == 0, cipipe.err
    held = shop.ledger.read(["dags"])["dags"]
    assert held is not None
    both = {**held.record.data["manifest"], **shop.record("team").data["manifest"]}
    shop.ledger.write(
        msgspec.structs.replace(held.record, data={**held.record.data, "manifest": both}), held
    )
    assert cipipe("dags", "deploy", "--stage", "dags") == 0, cipipe.err
    assert "dags/team/b.py" in shop.bodies()
    assert set(shop.record().data["manifest"]) == {"dags/a.py", "dags/helper.py"}


# --- diff ----------------------------------------------------------------------------------------


def test_diff_shows_what_a_deployment_would_change(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    shop.commit({"dags/a.py": DAG.format("a 2"), "dags/helper.py": None, "dags/b.sql": "select 1"})
    before = shop.writes()
    assert cipipe("dags", "diff") == 0, cipipe.err
    assert cipipe.out == (
        "--- a/dags/a.py\n+++ b/dags/a.py\n@@ -1,3 +1,3 @@\n"
        " from airflow import DAG\n-# a 1\n+# a 2\n"
        ' CLUSTER = "prod"  # cipipe: cluster\n'
        "--- /dev/null\n+++ b/dags/b.sql\n@@ -0,0 +1 @@\n+select 1\n\\ No newline at end of file\n"
        "--- a/dags/helper.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-# helper 1\n"
        "1 added, 1 changed, 1 removed, 0 unchanged in s3://dags-bucket/dags/\n"
    )
    assert shop.writes() == before
    assert cipipe("dags", "deploy") == 0
    assert cipipe("dags", "diff") == 0
    assert cipipe.out == "0 added, 0 changed, 0 removed, 2 unchanged in s3://dags-bucket/dags/\n"


def test_diff_as_json_lists_replacements_and_changes(shop: Shop, cipipe: Cli) -> None:
    found = cipipe.json("dags", "diff")
    assert found["summary"] == {"added": 2, "changed": 0, "removed": 0, "unchanged": 0}
    assert found["replacements"] == [
        {
            "file": "dags/a.py",
            "line": 3,
            "name": "CLUSTER",
            "output": "cluster",
            "old": "'local'",
            "new": '"prod"',
        }
    ]
    assert [(change["key"], change["change"]) for change in found["changes"]] == [
        ("dags/a.py", "added"),
        ("dags/helper.py", "added"),
    ]


def test_diff_and_run_as_markdown(shop: Shop, cipipe: Cli) -> None:
    assert cipipe("dags", "diff", "--format", "markdown") == 0, cipipe.err
    assert cipipe.out.startswith("### DAGs: `s3://dags-bucket/dags/`\n\n**2 added, 0 changed")
    assert cipipe.out.count("```diff") == 2
    assert cipipe("run", "--format", "markdown") == 0, cipipe.err
    assert "| `dags` | **done** | never deployed here |" in cipipe.out


def test_diff_of_another_value_and_of_the_files_on_disk(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    shop.apply(**{**OUTPUTS, "cluster": Output(value="next")})
    cipipe("dags", "diff")
    assert (
        '-CLUSTER = "prod"  # cipipe: cluster\n+CLUSTER = "next"  # cipipe: cluster\n' in cipipe.out
    )
    (shop.repo.root / "dags/helper.py").write_text("# on disk\n")
    cipipe("dags", "diff")
    assert "on disk" not in cipipe.out
    cipipe("dags", "diff", "--worktree")
    assert "+# on disk\n" in cipipe.out


def test_diff_never_shows_a_sensitive_value(shop: Shop, cipipe: Cli) -> None:
    marked = 'from airflow import DAG\nTOKEN = "{}"  # cipipe: token (sensitive ok)\n# {}\n'
    shop.commit({"dags/a.py": marked.format("local", 1)})
    shop.aws.bucket(BUCKET).put("dags/a.py", marked.format("hunter22", 1).encode())
    assert cipipe("dags", "diff") == 0, cipipe.err
    assert "0 added" not in cipipe.out.splitlines()[0]
    assert "hunter22" not in cipipe.out + cipipe.err
    assert "whether it would change is not known" in cipipe.err
    shop.commit({"dags/a.py": marked.format("local", 2)})
    cipipe("dags", "diff")
    assert '"[redacted]"' in cipipe.out
    assert "hunter22" not in cipipe.out + cipipe.err


def test_diff_of_binary_files(shop: Shop, cipipe: Cli) -> None:
    cipipe("dags", "deploy")
    shop.aws.bucket(BUCKET).put("dags/a.py", b"\0\1")
    shop.aws.bucket(BUCKET).put("dags/helper.py", b"# helper 1\r\n")
    cipipe("dags", "diff")
    assert "Binary files a/dags/a.py and b/dags/a.py differ\n" in cipipe.out
    assert (
        "Files a/dags/helper.py and b/dags/helper.py differ in their encoding or line ends only\n"
        in cipipe.out
    )
    shop.aws.bucket(BUCKET).put("dags/helper.py", "# caf\xe9 \x1b[31m\n".encode("latin-1"))
    cipipe("dags", "diff")
    assert "-# caf\\xe9 \\x1b[31m\n" in cipipe.out


def test_a_mistake_in_a_marker_is_the_same_error_as_in_a_deployment(
    shop: Shop, cipipe: Cli
) -> None:
    shop.commit({"dags/a.py": DAG.format("x").replace("cipipe: cluster", "cipipe: clusters")})
    for command in (("diff",), ("deploy", "--dry-run"), ("deploy",)):
        assert cipipe("dags", *command) == 4
        assert "dags/a.py:3" in cipipe.err


# --- status --------------------------------------------------------------------------------------


def test_status(shop: Shop, cipipe: Cli) -> None:
    assert cipipe("dags", "status") == 0, cipipe.err
    assert cipipe.out == "dags  never-deployed\n"
    cipipe("dags", "deploy")
    bucket = shop.aws.bucket(BUCKET)
    bucket.put("dags/a.py", b"tampered")
    bucket.delete("dags/helper.py")
    bucket.put("dags/theirs.py", b"theirs")
    assert cipipe("dags", "status") == 0
    lines = cipipe.out.splitlines()
    assert lines[0].startswith(f"dags  deployed, commit {shop.head[:7]}, ")
    assert lines[1:] == [
        "  dags/a.py  changed",
        "  dags/helper.py  missing",
        "  2 files in s3://dags-bucket/dags/, 2 not as deployed, 1 objects of others",
    ]
    found = cipipe.json("dags", "status")
    assert (found["state"], found["commit"], found["foreign"]) == ("deployed", shop.head, 1)
    assert [(file["key"], file["state"]) for file in found["files"]] == [
        ("dags/a.py", "changed"),
        ("dags/helper.py", "missing"),
    ]


@pytest.mark.parametrize("status", ["Suspended", None])
def test_objects_are_read_in_a_bucket_without_versioning(
    shop: Shop, cipipe: Cli, status: str | None
) -> None:
    """`null` is the version of whatever was written last, so that it proves nothing."""
    shop.aws.call(
        "s3",
        "create_bucket",
        Bucket="plain",
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    if status is not None:
        shop.aws.call(
            "s3",
            "put_bucket_versioning",
            Bucket="plain",
            VersioningConfiguration={"Status": status},
        )
    shop.apply(**{**OUTPUTS, "dags_bucket": Output(value="plain")})
    assert cipipe("dags", "deploy") == 0, cipipe.err
    entries = shop.record().data["manifest"]
    held = shop.ledger.read(["dags"])["dags"]
    assert held is not None
    # S3 answers one or the other.
    for version in (None, "null"):
        manifest = {key: {**entry, "version": version} for key, entry in entries.items()}
        held = shop.ledger.write(
            msgspec.structs.replace(held.record, data={**held.record.data, "manifest": manifest}),
            held,
        )
        assert {file["state"] for file in cipipe.json("dags", "status")["files"]} == {"ok"}
        shop.aws.call(
            "s3", "put_object", Bucket="plain", Key="dags/helper.py", Body=b"# helper 2\n"
        )
        states = {file["key"]: file["state"] for file in cipipe.json("dags", "status")["files"]}
        assert states == {"dags/a.py": "ok", "dags/helper.py": "changed"}
        assert cipipe("dags", "deploy") == 0, cipipe.err
        stored = shop.aws.bucket("plain").get("dags/helper.py")
        assert stored is not None
        assert stored.body == b"# helper 1\n"
        held = shop.ledger.read(["dags"])["dags"]
        assert held is not None


def test_what_is_left_out_of_the_plugins_is_reported(shop: Shop, cipipe: Cli) -> None:
    config = (shop.repo.root / "cipipe.toml").read_text()
    config = config.replace('source = "dags"\n', 'source = "dags"\nplugins = "plugins"\n')
    config = config.replace('["dags/**"]', '["dags/**", "plugins/**"]')
    shop.commit(
        {
            "plugins/a.py": "",
            "plugins/tests/test_a.py": "",
            "plugins/.hidden": "",
            "cipipe.toml": config,
        }
    )
    shop.apply(**OUTPUTS)

    assert cipipe("dags", "deploy") == 0, cipipe.err
    assert "2 files left out" in cipipe.err
    assert "plugins/.hidden, plugins/tests/test_a.py" in cipipe.err
