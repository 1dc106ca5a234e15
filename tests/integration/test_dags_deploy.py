"""The `dags` stage against S3: what is uploaded and deleted, in which order, and what an
interruption leaves.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto.server import ThreadedMotoServer

from cipipe import tree_files
from cipipe.errors import ConflictError, InterruptedRun, ProblemsError, RefusedError, StageError
from cipipe.model import Effect, Environment, Mode, Output
from cipipe.pace import Pace
from cipipe.patterns import Patterns
from cipipe.redact import Redactor
from cipipe.stages import dags
from cipipe.stages.context import StageContext, StageResult, Step
from cipipe.stages.dags.bucket import manifest
from cipipe.stages.settings import Reference, Stage
from cipipe.tools import http, process
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.messages import AwsAnswer
from cipipe.tools.aws.s3 import Bucket
from cipipe.tools.aws.signed import AwsCall
from cipipe.tools.git.client import Entry, Repository

BUCKET = "dags-bucket"
REGION = "eu-central-1"
DAG = "from airflow import DAG\n{comment}CLUSTER = 'local'  # cipipe: cluster\n"
HELPER = "# a helper\n"
GIT_ENV = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{
        f"GIT_{who}_{what}": "x@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


@dataclass
class Run:
    """A run that executes its steps one at a time."""

    context: StageContext[Any]
    result: StageResult

    def do(self, step: Step) -> None:
        step.run(self.context, self.result)

    def change(self, **given: Any) -> None:
        """Replace fields of the context."""
        self.context = msgspec.structs.replace(self.context, **given)


class World:
    """A repository, a bucket, and the record that runs hand to each other."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.aws = Aws(Endpoint(REGION, url), Credentials("testing", "testing"))
        self.record: dict[str, Any] = {}
        self.lines: list[str] = []
        self.redactor = Redactor()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        return process.run(["git", *arguments], env=GIT_ENV, cwd=self.root).stdout.decode().strip()

    def entries(self) -> list[Entry]:
        tree = self.git("rev-parse", "HEAD^{tree}")
        return list(tree_files.files(Repository(self.root, os.environ), tree, Patterns(["**"])))

    def commit(self, files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x", "--allow-empty")

    def start(
        self, mode: Mode = Mode.DEPLOY, outputs: dict[str, Output] | None = None, **settings: Any
    ) -> tuple[Run, tuple[Step, ...]]:
        table: dict[str, Any] = {"source": "dags", "bucket": BUCKET, **settings}
        stage = Stage("dags", "dags", dags.Settings(**table), paths=("dags/**",))
        repository = Repository(self.root, os.environ)
        self.lines.clear()
        context = StageContext(
            project="p",
            environment_name="dev",
            environment=Environment("111111111111", REGION, "arn:aws:iam::111111111111:role/x"),
            mode=mode,
            stage=stage,
            repository=repository,
            commit=self.git("rev-parse", "HEAD"),
            commit_time=0,
            tree=self.git("rev-parse", "HEAD^{tree}"),
            entries=tuple(entry for entry in self.entries() if entry.path.startswith(b"dags/")),
            fingerprint="0" * 64,
            aws=self.aws,
            child_env={},
            outputs={"cluster": Output(value="prod")} if outputs is None else outputs,
            previous=None,
            redactor=self.redactor,
            line=self.lines.append,
            scratch=self.root / "nowhere",
        )
        return Run(context, StageResult(data=dict(self.record))), dags.steps(
            stage, mode, tag="0" * 20
        )

    def run(self, mode: Mode = Mode.DEPLOY, **given: Any) -> StageResult:
        """Run all steps, recording as the runner does: before the first effect, and at the end,
        however it ends.
        """
        run, steps = self.start(mode, **given)
        try:
            for step in steps:
                if step.effect is not Effect.READ:
                    self.record = dict(run.result.data)
                run.do(step)
        finally:
            if mode is not Mode.VERIFY:
                self.record = dict(run.result.data)
        return run.result

    def bodies(self) -> dict[str, bytes]:
        bucket = self.aws.bucket(BUCKET)
        return {key: stored.body for key in bucket.keys("") if (stored := bucket.get(key))}

    def versions(self) -> int:
        answer = self.aws.call("s3", "list_object_versions", Bucket=BUCKET)
        return len(answer.get("Versions", ())) + len(answer.get("DeleteMarkers", ()))

    def check_manifest(self) -> None:
        """The manifest says exactly what is there: keys, hashes and versions."""
        manifest = self.record["manifest"]
        bodies = {key: body for key, body in self.bodies().items() if key in manifest}
        assert {key: entry["sha256"] for key, entry in manifest.items()} == {
            key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()
        }
        for key, entry in manifest.items():
            stored = self.aws.bucket(BUCKET).get(key)
            assert stored is not None
            assert entry["version"] == stored.version


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A moto server of its own: moto inside this process is not safe with calls from several
    threads.
    """
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> World:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    http.request("POST", f"{server}/moto-api/reset")
    made = World(tmp_path, server)
    make_bucket(made.aws, BUCKET)
    made.commit(
        {
            "dags/a.py": DAG.format(comment="# a\n"),
            "dags/lib/helper.py": HELPER,
            "dags/sql/q.sql": "select 1",
            "dags/tests/test_a.py": "airflow dag",
            "dags/.airflowignore": "lib",
            "other/b.py": "airflow dag",
        }
    )
    return made


def make_bucket(aws: Aws, name: str) -> None:
    aws.call(
        "s3", "create_bucket", Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    aws.call(
        "s3", "put_bucket_versioning", Bucket=name, VersioningConfiguration={"Status": "Enabled"}
    )


OURS = {"dags/a.py", "dags/lib/helper.py", "dags/sql/q.sql", "dags/.airflowignore"}


def test_first_deployment(world: World) -> None:
    result = world.run()
    bodies = world.bodies()
    assert set(bodies) == OURS
    assert (
        bodies["dags/a.py"]
        == b'from airflow import DAG\n# a\nCLUSTER = "prod"  # cipipe: cluster\n'
    )
    assert result.summary == "4 uploaded, 0 unchanged, 0 deleted in s3://dags-bucket/dags/"
    assert world.lines.index("uploaded dags/a.py") > world.lines.index(
        "uploaded dags/lib/helper.py"
    )
    assert result.data["bucket"] == BUCKET
    world.check_manifest()


def test_the_work_tree_does_not_count(world: World) -> None:
    (world.root / "dags" / "a.py").write_text("nonsense (")
    (world.root / "dags" / "new.py").write_text("nonsense (")
    world.run()
    assert set(world.bodies()) == OURS


def test_again_without_a_change_writes_nothing(world: World) -> None:
    world.run()
    before = (world.versions(), world.record)
    result = world.run()
    assert result.summary == "0 uploaded, 4 unchanged, 0 deleted in s3://dags-bucket/dags/"
    assert (world.versions(), world.record) == before


def counted(aws: Aws) -> list[str]:
    """From now on, the names of the S3 requests that are made."""
    made: list[str] = []
    send = aws.signed.send

    def counting(call: AwsCall) -> AwsAnswer:
        made.append(call.operation.removeprefix("s3:"))
        return send(call)

    aws.signed.send = counting  # type: ignore[method-assign]
    return made


def test_a_look_costs_one_listing_and_a_question_for_each_key_that_is_not_as_the_manifest_has_it(
    world: World,
) -> None:
    world.run()
    asked = counted(world.aws)
    run, steps = world.start()
    for step in steps[:3]:
        run.do(step)
    assert run.result.up_to_date
    assert asked == ["ListObjectVersions"]
    world.aws.bucket(BUCKET).put(
        "dags/sql/q.sql", b"select 1"
    )  # the same again, as another version
    asked.clear()
    result = world.run()
    assert asked == [
        "ListObjectVersions",
        "HeadObject",
        "ListObjectVersions",
    ]  # again once the record is written
    assert result.up_to_date
    world.check_manifest()


def test_what_others_uploaded_without_a_checksum_is_read(world: World) -> None:
    world.run()
    world.aws.call("s3", "put_object", Bucket=BUCKET, Key="dags/sql/q.sql", Body=b"select 1")
    world.aws.call("s3", "put_object", Bucket=BUCKET, Key="dags/.airflowignore", Body=b"bil")
    asked = counted(world.aws)
    result = world.run()
    looks = [
        "GetObject",
        "GetObject",
        "HeadObject",
        "HeadObject",
        "ListObjectVersions",
        "ListObjectVersions",
    ]
    assert sorted(asked) == [*looks, "PutObject"]
    assert result.summary.startswith("1 uploaded, 3 unchanged")
    world.check_manifest()


def test_what_differs_is_uploaded_and_what_is_gone_deleted_last(world: World) -> None:
    world.run()
    world.commit(
        {"dags/a.py": DAG.format(comment="# b\n"), "dags/sql/q.sql": None, "dags/c.py": HELPER}
    )
    result = world.run()
    assert result.summary == "2 uploaded, 2 unchanged, 1 deleted in s3://dags-bucket/dags/"
    assert [line for line in world.lines if line.startswith(("uploaded", "deleted"))] == [
        "uploaded dags/c.py",
        "uploaded dags/a.py",
        "deleted dags/sql/q.sql",
    ]
    assert set(world.bodies()) == OURS - {"dags/sql/q.sql"} | {"dags/c.py"}
    world.check_manifest()


def test_size_and_time_count_for_nothing(world: World) -> None:
    world.run()
    file = world.root / "dags/sql/q.sql"
    file.touch()
    assert world.run().summary.startswith("0 uploaded, 4 unchanged")
    world.commit({"dags/sql/q.sql": "select 2"})
    os.utime(file, (0, 0))
    assert world.run().summary.startswith("1 uploaded, 3 unchanged")
    assert world.bodies()["dags/sql/q.sql"] == b"select 2"


def test_another_value_alone_makes_an_upload(world: World) -> None:
    world.run()
    result = world.run(outputs={"cluster": Output(value="next")})
    assert result.summary.startswith("1 uploaded, 3 unchanged")
    assert b'"next"' in world.bodies()["dags/a.py"]


def test_what_somebody_changed_in_the_bucket_is_put_right(world: World) -> None:
    world.run()
    world.aws.bucket(BUCKET).put("dags/a.py", b"tampered")
    world.aws.bucket(BUCKET).delete("dags/sql/q.sql")
    assert world.run().summary.startswith("2 uploaded, 2 unchanged")
    world.check_manifest()


def test_a_lost_record_costs_nothing_but_the_look(world: World) -> None:
    world.run()
    world.record = {}
    assert world.run().summary.startswith("0 uploaded, 4 unchanged")
    assert set(world.record["manifest"]) == OURS


def test_foreign_keys_survive(world: World) -> None:
    foreign = {"dags/theirs.py", "dags/a.py.bak", "dags/a.pyc", "elsewhere"}
    for key in foreign:
        world.aws.bucket(BUCKET).put(key, b"theirs")
    world.run()
    world.commit({"dags/a.py": None, "dags/b.py": DAG.format(comment="")})
    world.run()
    assert foreign <= set(world.bodies())
    world.run(Mode.DESTROY)
    assert set(world.bodies()) == foreign


def test_replacing_what_others_put_there_is_said(world: World) -> None:
    world.aws.bucket(BUCKET).put("dags/a.py", b"theirs")
    world.run()
    assert any(line.startswith("warning: dags/a.py is there already") for line in world.lines)


def failing(monkeypatch: pytest.MonkeyPatch, method: str, fail: Callable[[str], bool]) -> None:
    original = getattr(Bucket, method)

    def wrapped(self: Bucket, key: str, *rest: Any, **named: Any) -> Any:
        if fail(key):
            raise StageError("aws-refused", f"no {method} of {key} today")
        return original(self, key, *rest, **named)

    monkeypatch.setattr(Bucket, method, wrapped)


def test_a_failed_helper_keeps_the_dags_back_and_a_rerun_finishes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "put", lambda key: key.endswith("helper.py"))
        with pytest.raises(StageError, match=r"helper\.py today"):
            world.run()
    assert "dags/a.py" not in world.bodies()
    assert set(world.record["manifest"]) == OURS
    assert world.record["manifest"]["dags/a.py"]["sha256"] is None
    world.run()
    assert set(world.bodies()) == OURS
    world.check_manifest()


@pytest.mark.parametrize("crash_after", range(7))
def test_cut_off_anywhere_and_run_again(
    world: World, monkeypatch: pytest.MonkeyPatch, crash_after: int
) -> None:
    """A process that is killed writes no record: all that is left is the one from before its first
    effect.
    """
    world.run()
    world.aws.bucket(BUCKET).put("dags/theirs.py", b"theirs")
    world.commit(
        {
            "dags/a.py": None,
            "dags/b.py": DAG.format(comment=""),
            "dags/c.py": HELPER,
            "dags/sql/q.sql": None,
        }
    )
    run, steps = world.start()
    effects = 0

    class Killed(BaseException):
        pass

    def cut(key: str) -> bool:
        nonlocal effects
        effects += 1
        if effects > crash_after:
            raise Killed
        return False

    with monkeypatch.context() as patched:
        failing(patched, "put", cut)
        failing(patched, "delete", cut)
        try:
            for step in steps:
                if step.title.startswith("upload"):
                    world.record = {
                        key: (dict(v) if isinstance(v, dict) else v)
                        for key, v in run.result.data.items()
                    }
                run.do(step)
        except Killed:
            pass
    assert set(world.bodies()) - {"dags/theirs.py"} <= set(world.record["manifest"])
    world.run()
    assert set(world.bodies()) == {
        "dags/b.py",
        "dags/c.py",
        "dags/lib/helper.py",
        "dags/.airflowignore",
        "dags/theirs.py",
    }
    assert world.bodies()["dags/theirs.py"] == b"theirs"
    world.check_manifest()


def test_a_problem_in_any_file_writes_nothing(world: World) -> None:
    world.commit({"dags/z.py": "A = 1  # cipipe: nope\n"})
    with pytest.raises(ProblemsError) as caught:
        world.run()
    assert caught.value.problems[0].where == "dags/z.py:1"
    assert world.bodies() == {}
    assert world.record == {}


def test_no_dags_is_refused_unless_allowed(world: World) -> None:
    world.run()
    world.commit({"dags/a.py": None})
    with pytest.raises(RefusedError) as caught:
        world.run()
    assert caught.value.id == "dags-empty"
    assert set(world.bodies()) == OURS
    world.run(allow_empty=True)
    assert set(world.bodies()) == OURS - {"dags/a.py"}


ECS_DAG = """\
from airflow import DAG
TASK = "local"  # cipipe: task_definition
CONTAINER = "{}"
run = Operator(task_definition=TASK, overrides={{"containerOverrides": [{{"name": CONTAINER}}]}})
"""


def test_a_container_that_the_pinned_task_definition_lacks(world: World) -> None:
    registered = world.aws.call(
        "ecs",
        "register_task_definition",
        family="dbt",
        containerDefinitions=[{"name": "dbt", "image": "x", "memory": 128}],
    )
    arn = registered["taskDefinition"]["taskDefinitionArn"]
    values = {"cluster": Output(value="prod"), "task_definition": Output(value=arn)}
    world.commit({"dags/b.py": ECS_DAG.format("main")})
    with pytest.raises(ProblemsError) as caught:
        world.run(outputs=values)
    (found,) = caught.value.problems
    assert (found.id, found.where) == ("dag-container-unknown", "dags/b.py:4")
    assert "Its containers are: dbt." in (found.hint or "")
    assert world.bodies() == {}
    with pytest.raises(ProblemsError) as caught:
        world.run(outputs={**values, "task_definition": Output(value="dbt:7")})
    assert [p.id for p in caught.value.problems] == ["dag-task-definition-unknown"]
    world.commit({"dags/b.py": ECS_DAG.format("dbt")})
    world.run(outputs=values)
    assert "dags/b.py" in world.bodies()


def test_links_are_refused(world: World) -> None:
    (world.root / "dags" / "link.py").symlink_to("a.py")
    world.commit({})
    with pytest.raises(ProblemsError) as caught:
        world.run()
    assert caught.value.id == "dags-files-refused"
    assert world.bodies() == {}


def test_verify_reads_only(world: World) -> None:
    before = world.versions()
    result = world.run(Mode.VERIFY)
    assert (world.versions(), result.data) == (before, {})
    assert "4 to upload, 0 unchanged, 0 to delete" in world.lines


def test_verify_before_anything_is_deployed(world: World) -> None:
    world.run(Mode.VERIFY, outputs={}, bucket=Reference(output="dags_bucket"))
    assert "warning: dags/a.py:3: there is no Terraform output cluster" in world.lines
    assert world.lines[-2].startswith("the bucket is not known before {dags_bucket}")
    assert world.lines[-1].startswith(
        "warning: stages.dags.airflow_python: no DAG file was imported"
    )


def test_a_sensitive_value_is_in_the_bucket_and_nowhere_else(world: World) -> None:
    world.commit({"dags/a.py": DAG.format(comment="").rstrip() + " (sensitive ok)\n"})
    result = world.run(outputs={"cluster": Output(value="hunter22", sensitive=True)})
    assert b"hunter22" in world.bodies()["dags/a.py"]
    assert "hunter22" not in "\n".join([*world.lines, result.summary, str(world.record)]), (
        "not before it is masked either"
    )
    assert (world.record["outputs"], world.record.get("made_of")) == (["cluster"], None)


def test_another_sensitive_value_is_put_in_though_no_digest_tells(world: World) -> None:
    world.commit({"dags/a.py": DAG.format(comment="").rstrip() + " (sensitive ok)\n"})
    world.run(outputs={"cluster": Output(value="hunter22", sensitive=True)})
    run, steps = world.start(outputs={"cluster": Output(value="hunter33", sensitive=True)})
    # as the runner says: of a sensitive output it counts only that there is one
    run.change(is_current=True)
    for step in steps:
        run.do(step)
    assert b"hunter33" in world.bodies()["dags/a.py"]


def test_a_stage_that_began_at_the_same_moment_is_seen_before_the_first_upload(
    world: World,
) -> None:
    """Two settings that turn out to be one bucket: neither had a record when the other one
    compared.
    """
    run, steps = world.start()
    for step in steps[:3]:
        run.do(step)
    theirs = {"bucket": BUCKET, "manifest": {"dags/a.py": manifest.UNCERTAIN}}
    run.change(beside=lambda: {"other": theirs})
    with pytest.raises(RefusedError, match=r"dags/a\.py belongs to stage other") as caught:
        run.do(steps[3])
    assert caught.value.id == "dags-key-taken"
    assert world.bodies() == {}


def test_destroy_leaves_what_another_stage_owns_too(world: World) -> None:
    world.run()
    run, steps = world.start(Mode.DESTROY)
    theirs = {
        "bucket": BUCKET,
        "manifest": {"dags/a.py": world.record["manifest"]["dags/a.py"]},
    }
    run.change(beside=lambda: {"other": theirs})
    for step in steps:
        run.do(step)
    assert set(world.bodies()) == {"dags/a.py"}
    assert "s3://dags-bucket/dags/a.py" not in world.lines
    assert run.result.summary == "3 objects deleted, with 3 versions"


def test_destroy_leaves_no_version_and_succeeds_again(world: World) -> None:
    world.run()
    world.commit({"dags/a.py": DAG.format(comment="# b\n"), "dags/sql/q.sql": None})
    world.run()
    assert world.versions() > len(world.bodies())
    result = world.run(Mode.DESTROY)
    assert world.versions() == 0
    assert result.summary == "3 objects deleted, with 6 versions"
    assert result.data["manifest"] == {}
    assert world.run(Mode.DESTROY).summary == "0 objects deleted, with 0 versions"


def test_destroy_leaves_what_others_put_where_we_deleted(world: World) -> None:
    world.run()
    world.commit({"dags/sql/q.sql": None})
    world.run()
    world.aws.bucket(BUCKET).put("dags/sql/q.sql", b"theirs")
    world.run(Mode.DESTROY)
    assert world.bodies() == {"dags/sql/q.sql": b"theirs"}


def test_destroy_of_what_was_never_deployed(world: World) -> None:
    assert world.run(Mode.DESTROY, bucket=Reference(output="dags_bucket")).summary.startswith(
        "0 objects"
    )


def test_destroy_where_the_bucket_is_gone(world: World) -> None:
    world.run()
    for key in OURS:
        world.aws.bucket(BUCKET).purge(key)
    world.aws.call("s3", "delete_bucket", Bucket=BUCKET)
    world.run(Mode.DESTROY)
    assert f"the bucket {BUCKET} is gone already" in world.lines


def test_destroy_that_was_cut_off_finishes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    with monkeypatch.context() as patched:
        failing(patched, "purge", lambda key: key == "dags/a.py")
        with pytest.raises(StageError):
            world.run(Mode.DESTROY)
    assert set(world.record["manifest"]) == OURS
    world.run(Mode.DESTROY)
    assert world.versions() == 0


def test_another_prefix_moves_the_files(world: World) -> None:
    world.run()
    world.run(prefix="airflow/")
    assert set(world.bodies()) == {"airflow/" + key.removeprefix("dags/") for key in OURS}


def test_another_bucket_moves_the_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    make_bucket(world.aws, "second-bucket")
    with monkeypatch.context() as patched:
        failing(patched, "purge", lambda key: True)
        with pytest.raises(StageError):
            world.run(bucket="second-bucket")
    assert set(world.record["former"][BUCKET]) == OURS
    world.run(bucket="second-bucket")
    assert world.versions() == 0
    assert set(world.aws.bucket("second-bucket").keys("")) == OURS
    assert world.record["former"] == {}


def test_consumes(world: World) -> None:
    world.commit(
        {
            "dags/b.py": "A = 1  # cipipe: one\nif x:\n    B = 2  # cipipe: two\n",
            "dags/c.sql": "# cipipe: no",
        }
    )
    repository = Repository(world.root, os.environ)
    stage = Stage("dags", "dags", dags.Settings(source="dags", bucket=BUCKET))
    assert dags.consumes(stage, world.entries(), repository, {}) == {"cluster", "one", "two"}
    assert dags.consumes(stage, world.entries(), repository, {"outputs": ["told"]}) == {"told"}


def test_what_it_owns_counts_what_it_deleted_and_what_lies_in_former_buckets(world: World) -> None:
    world.run()
    world.commit({"dags/sql/q.sql": None})
    world.run()
    assert dags.owns(world.record) == {f"s3://{BUCKET}/{key}" for key in OURS}
    assert world.aws.bucket(BUCKET).all_keys() == OURS
    assert dags.owns({**world.record, "former": {"old": ["a"]}}) >= {"s3://old/a"}
    world.run(Mode.DESTROY)
    assert dags.owns(world.record) == dags.owns({}) == frozenset()


def test_a_run_that_was_taken_over_writes_nothing_more(world: World) -> None:
    world.commit({"dags/b.py": DAG.format(comment="# b\n")})
    world.run()
    before = world.bodies()
    world.commit({"dags/a.py": DAG.format(comment="# later\n"), "dags/b.py": None})
    run, steps = world.start()

    def taken() -> None:
        raise ConflictError("ledger-conflict", "stage dags was taken by another run")

    run.change(still_ours=taken)
    for step in steps:
        if step.effect is Effect.READ:
            run.do(step)
            continue
        with pytest.raises(ConflictError):
            run.do(step)
    assert world.bodies() == before


def test_what_another_run_wrote_before_the_record_was_taken_is_put_right(world: World) -> None:
    world.run()
    world.commit({"dags/a.py": DAG.format(comment="# b\n")})
    run, steps = world.start()
    for step in steps:
        if step.title.startswith("upload"):  # what was compared is old by now
            world.aws.bucket(BUCKET).put("dags/lib/helper.py", b"of an older run")
            world.aws.bucket(BUCKET).put("dags/sql/q.sql", b"select 1")
            world.aws.bucket(BUCKET).delete("dags/.airflowignore")
        run.do(step)
    assert world.bodies()["dags/lib/helper.py"] == HELPER.encode()
    assert set(world.bodies()) == OURS
    assert run.result.summary.startswith("3 uploaded, 1 unchanged")
    world.record = dict(run.result.data)
    world.check_manifest()


@pytest.mark.parametrize("what", ["gone", "former", "destroy"])
def test_a_run_that_is_stopped_while_it_deletes_deletes_no_more(world: World, what: str) -> None:
    """Ctrl-C and a later run are told by `still_ours`, which is asked between the keys too."""
    many = {f"dags/{number}.sql": "select 1" for number in range(30)}
    world.commit(dict(many))
    world.run()
    make_bucket(world.aws, "second-bucket")
    if what == "gone":
        world.commit(dict.fromkeys(many))
    run, steps = world.start(
        Mode.DESTROY if what == "destroy" else Mode.DEPLOY,
        bucket="second-bucket" if what == "former" else BUCKET,
    )
    for step in steps[:-1]:
        run.do(step)
    asked = 0

    def stopped() -> None:
        nonlocal asked
        asked += 1
        if asked > 4:
            raise InterruptedRun("interrupted", "interrupted")

    run.change(still_ours=stopped, pace=Pace(ownership_check=-1.0))
    with pytest.raises(InterruptedRun):
        run.do(steps[-1])
    assert len(many.keys() - world.bodies().keys()) <= 4
