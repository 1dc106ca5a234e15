"""A `dags` stage on its own: a real repository, S3 by moto, a ledger in memory, the real runner.

Each run has a fingerprint of its own, so that the stage is always due.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cipipe import tree_files
from cipipe.candidates import Candidate
from cipipe.errors import StageError
from cipipe.ledger import Ledger
from cipipe.model import (
    Baseline,
    Context,
    Environment,
    Mode,
    Output,
    Plan,
    Reason,
    StagePlan,
    State,
    Status,
)
from cipipe.patterns import Patterns
from cipipe.planner import ExecutablePlan
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.runner import Runner
from cipipe.stages import dags, terraform
from cipipe.stages.context import Action, RunnerInputs, StageContext, StageResult, Step
from cipipe.stages.settings import AnyStage, Stage
from cipipe.stagework import StageWork
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.aws.messages import AwsAnswer
from cipipe.tools.aws.s3 import Bucket
from cipipe.tools.aws.signed import AwsCall
from cipipe.tools.git.client import Entry, Repository
from support.fakes import FakeBucket, Listener
from support.git import Repo

BUCKET = "dags-bucket"
REGION = "eu-central-1"
DAG = "from airflow import DAG\n{comment}CLUSTER = 'local'  # cipipe: cluster\n"
HELPER = "# a helper\n"
FILES = {
    "dags/a.py": DAG.format(comment="# a\n"),
    "dags/lib/helper.py": HELPER,
    "dags/sql/q.sql": "select 1",
    "dags/tests/test_a.py": "airflow dag",
    "dags/.airflowignore": "lib",
    "other/b.py": "airflow dag",
}
# What a run in verify mode says of the marker if its output is not known.
NOT_PLANNED = (
    "warning: dags/a.py:3: there is no Terraform output cluster so far, and a stage that may add it"
    " was not planned"
)
# The stage that the outputs come from.
IAC: AnyStage = Stage("iac", "terraform", terraform.Settings(root="terraform"))
# The keys that these files become.
OURS = {"dags/a.py", "dags/lib/helper.py", "dags/sql/q.sql", "dags/.airflowignore"}


@dataclass
class SteppedRun:
    """A run that a test takes step by step."""

    context: StageContext[Any]
    result: StageResult

    def do(self, step: Step) -> None:
        step.run(self.context, self.result)

    def change(self, **given: Any) -> None:
        """Replace fields of the context."""
        self.context = msgspec.structs.replace(self.context, **given)


class Lines(Listener):
    """A listener that keeps the lines that steps print."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def line(self, stage: str, text: str) -> None:
        self._lines.append(text)


class DagsWorld:
    """A repository, a bucket, and a ledger. Meets `stage_inputs.ContextFactory`."""

    def __init__(self, root: Path, url: str) -> None:
        self.aws = Aws(Endpoint(REGION, url), Credentials("testing", "testing"))
        self.repo = Repo(root)
        self.root = root
        self.repository = Repository(root, os.environ)
        self.ledger = Ledger(FakeBucket(), "p/")
        self.lines: list[str] = []
        self.redactor = Redactor()
        self._mode = Mode.DEPLOY
        self._runs = 0
        make_bucket(self.aws, BUCKET)
        self.commit(FILES)

    # --- the project ----------------------------------------------------------------------

    def commit(self, files: Mapping[str, str | None]) -> None:
        self.repo.commit(files)

    def entries(self) -> list[Entry]:
        tree = self.repo.git("rev-parse", "HEAD^{tree}")
        return list(tree_files.files(self.repository, tree, Patterns(["**"])))

    # --- runs -----------------------------------------------------------------------------

    def run(
        self,
        mode: Mode = Mode.DEPLOY,
        *,
        outputs: dict[str, Output] | None = None,
        before: Mapping[str, Callable[[], None]] = {},
        **settings: Any,
    ) -> StageResult:
        """One run by the runner. Raises what the stage failed with.

        `before` is called before the step whose title starts so.
        """
        work = self._work(mode, outputs, settings, before)
        runner = Runner(work)
        if mode is Mode.DESTROY:
            runner.inspect()
        report = runner.destroy() if mode is Mode.DESTROY else runner.deploy()
        if runner.error is not None:
            raise runner.error
        assert report.stages
        return work.results["dags"]

    def start(
        self, mode: Mode = Mode.DEPLOY, *, outputs: dict[str, Output] | None = None, **settings: Any
    ) -> tuple[SteppedRun, tuple[Step, ...]]:
        """A run whose steps the test does itself. It writes no record."""
        work = self._work(mode, outputs, settings)
        (stage,) = work.executable.plan.stages
        context = work.context_for(stage)
        run = SteppedRun(context, StageResult.after(context.previous))
        return run, tuple(work.executable.steps["dags"])

    def _work(
        self,
        mode: Mode,
        outputs: dict[str, Output] | None,
        settings: Mapping[str, Any],
        before: Mapping[str, Callable[[], None]] = {},
    ) -> StageWork:
        self.lines.clear()
        self._mode = mode
        self._runs += 1
        table: dict[str, Any] = {"source": "dags", "bucket": BUCKET, **settings}
        stage = Stage("dags", "dags", dags.Settings(**table), paths=("dags/**",))
        fingerprint = hashlib.sha256(str(self._runs).encode()).hexdigest()
        steps = tuple(_hooked(step, before) for step in dags.steps(stage, mode, tag="0" * 20))
        plan = self._plan(fingerprint, steps)
        return StageWork(
            executable=ExecutablePlan(plan, {"dags": steps}),
            candidates={
                "dags": Candidate(stage, fingerprint, content=[]),
                "iac": Candidate(IAC, "0" * 64, content=[]),
            },
            records=Records(
                self.ledger,
                plan,
                Context(provider="local", event="manual", ref="main", ref_type="branch"),
                stored=self.ledger.read(["dags"]),
            ),
            factory=self,
            redactor=self.redactor,
            progress=Lines(self.lines),
            outputs={"iac": {"cluster": Output(value="prod")} if outputs is None else outputs},
        )

    def _plan(self, fingerprint: str, steps: tuple[Step, ...]) -> Plan:
        stage = StagePlan(
            name="dags",
            kind="dags",
            status=Status.DUE,
            reason=Reason.FORCED,
            detail="",
            fingerprint=fingerprint,
            deployed_fingerprint=None,
            paths=(),
            needs=(),
            steps=tuple(step.title for step in steps),
        )
        return Plan(
            project="p",
            environment="dev",
            mode=self._mode,
            provider="local",
            commit=self.repo.git("rev-parse", "HEAD"),
            baseline=Baseline("ledger"),
            stages=(stage,),
        )

    # --- what the runner asks -------------------------------------------------------------

    def upstream(self, stage: str) -> list[str]:
        return ["iac"]

    def missing_tools(self, stage: AnyStage) -> list[str]:
        return []

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        return frozenset()

    def state_outputs(self, stage: str) -> dict[str, Output]:
        raise AssertionError(stage)

    def expand(self, text: str) -> str:
        return text

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        return StageContext(
            project="p",
            environment_name="dev",
            environment=Environment(
                account_id="111111111111",
                region=REGION,
                role_arn="arn:aws:iam::111111111111:role/x",
            ),
            mode=self._mode,
            stage=stage,
            repository=self.repository,
            commit=self.repo.git("rev-parse", "HEAD"),
            commit_time=0,
            tree=self.repo.git("rev-parse", "HEAD^{tree}"),
            entries=tuple(entry for entry in self.entries() if entry.path.startswith(b"dags/")),
            fingerprint=candidate.fingerprint,
            aws=self.aws,
            child_env={},
            redactor=self.redactor,
            scratch=self.root / "nowhere",
            **msgspec.structs.asdict(inputs),
        )

    # --- what came of it ------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """`data` of the stage's record; empty where there is none."""
        stored = self.ledger.read(["dags"])["dags"]
        return stored.record.data if stored else {}

    @property
    def state(self) -> State | None:
        stored = self.ledger.read(["dags"])["dags"]
        return stored.record.state if stored else None

    def lose_record(self) -> None:
        self.ledger = Ledger(FakeBucket(), "p/")

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


def make_bucket(aws: Aws, name: str) -> None:
    region = {"LocationConstraint": REGION}
    aws.call("s3", "create_bucket", Bucket=name, CreateBucketConfiguration=region)
    versioning = {"Status": "Enabled"}
    aws.call("s3", "put_bucket_versioning", Bucket=name, VersioningConfiguration=versioning)


def counted(aws: Aws) -> list[str]:
    """From now on, the names of the S3 requests that are made."""
    made: list[str] = []
    send = aws.signed.send

    def counting(call: AwsCall) -> AwsAnswer:
        made.append(call.operation.removeprefix("s3:"))
        return send(call)

    aws.signed.send = counting  # type: ignore[method-assign]
    return made


def failing(monkeypatch: pytest.MonkeyPatch, method: str, fail: Callable[[str], bool]) -> None:
    """Have a method of the stage's bucket fail for some keys. The ledger's is another class."""
    original = getattr(Bucket, method)

    def wrapped(self: Bucket, key: str, *rest: Any, **named: Any) -> Any:
        if fail(key):
            raise StageError("aws-refused", f"no {method} of {key} today")
        return original(self, key, *rest, **named)

    monkeypatch.setattr(Bucket, method, wrapped)


def _hooked(step: Step, before: Mapping[str, Callable[[], None]]) -> Step:
    hooks = [hook for title, hook in before.items() if step.title.startswith(title)]
    if not hooks:
        return step

    def run(context: StageContext[Any], result: StageResult) -> None:
        for hook in hooks:
            hook()
        step.run(context, result)

    action: Action = run
    return msgspec.structs.replace(step, run=action)
