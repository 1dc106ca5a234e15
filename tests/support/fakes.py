"""In-memory fakes for the runner: a bucket that checks conditions, stages with steps that a test
passes in, a listener.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from cipipe import config, planner
from cipipe.candidates import Candidate, make_candidates
from cipipe.ledger import Ledger
from cipipe.model import (
    Baseline,
    Context,
    Effect,
    Environment,
    Mode,
    Output,
    Record,
    StagePlan,
    State,
)
from cipipe.ownership import Ownership
from cipipe.planner import ExecutablePlan, Known, Question
from cipipe.records import Records
from cipipe.redact import Redactor
from cipipe.results import Report, StageReport
from cipipe.runner import Runner
from cipipe.stages.context import Action, RunnerInputs, StageContext, StageResult, Step
from cipipe.stages.settings import AnyStage, Reference, references
from cipipe.stagework import StageWork
from cipipe.tools.aws.s3 import Bucket, StoredObject, Written
from support.configurations import HEAD, command, load
from support.contexts import stage_context

READ, WRITE, DESTROY = Effect.READ, Effect.WRITE, Effect.DESTROY


class FakeBucket(Bucket):
    """Objects in a dict. `log` has what was written, in order, without probes and failed attempts;
    `before_put` may write first, as another run could.
    """

    def __init__(self, *, conditional: bool = True) -> None:
        self.name = "ledger"
        self.objects: dict[str, bytes] = {}
        self.log: list[str] = []
        self.conditional = conditional
        self.before_put: Callable[[str], None] = lambda key: None

    def get(self, key: str, version: str | None = None) -> StoredObject | None:
        return (
            StoredObject(self.objects[key], etag(self.objects[key]), None)
            if key in self.objects
            else None
        )

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        owner: str | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> Written | None:
        self.before_put(key)
        there = self.get(key)
        if self.conditional and (
            (if_none_match and there) or (if_match and (there is None or there.etag != if_match))
        ):
            return None
        self.objects[key] = body
        if not key.endswith(".probe") and "/failures/" not in key:
            self.log.append(_short(key, body))
        return Written(etag(body), None)

    def delete(self, key: str, version: str | None = None) -> None:
        self.objects.pop(key, None)


class Listener:
    """A Progress that records its calls."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.alone: dict[str, bool] = {}
        self.finished: list[str] = []
        self.titles: list[str] = []
        self.warnings: list[str] = []

    def stage_started(self, stage: StagePlan, *, alone: bool) -> None:
        self.started.append(stage.name)
        self.alone[stage.name] = alone

    def step(self, stage: str, title: str) -> None:
        self.titles.append(f"{stage}: {title}")

    def line(self, stage: str, text: str) -> None: ...

    def stage_finished(self, report: StageReport) -> None:
        self.finished.append(f"{report.name} {report.result}")

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class FakeStages:
    """Stages such as `a` and `b`, which needs `a`, with steps that the test passes in. Each step
    leaves a line in `bucket.log`.

    Implements `stage_inputs.ContextFactory`.
    """

    def __init__(self, *, mode: Mode = Mode.DEPLOY, **needs: str) -> None:
        self.mode = mode
        self.bucket = FakeBucket()
        self.ledger = Ledger(self.bucket, "p/")
        self.listener = Listener()
        self.redactor = Redactor()
        self.steps: dict[str, tuple[Step, ...]] = {}
        self.jobs = 1
        self.missing: dict[str, str] = {}
        self.tools: dict[str, tuple[str, ...]] = {}
        self.outputs: dict[str, dict[str, Output]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.contexts: dict[str, StageContext[Any]] = {}
        self.ownership: Ownership | None = None
        self.config = load(
            HEAD
            + "".join(
                command(n, needs=str(wanted.split()).replace("'", '"'))
                for n, wanted in needs.items()
            )
        )
        self.candidates = make_candidates(
            self.config, {name: [name.encode()] for name in needs}, {}
        )
        for name in needs:
            self.does(name, READ, WRITE)

    def does(self, name: str, *steps: Effect | tuple[Effect, Action]) -> None:
        """Set the stage's steps. Each leaves a line in the log, then does what is passed in."""
        made = [step if isinstance(step, tuple) else (step, lambda *_: None) for step in steps]
        self.steps[name] = tuple(
            Step(f"{effect} {name}", effect, self._logged(name, effect, do)) for effect, do in made
        )

    def takes(self, name: str, setting: str) -> None:
        """Give the stage an environment variable that comes from a Terraform output."""
        candidate = self.candidates[name]
        settings = msgspec.structs.replace(
            candidate.stage.settings, env={"X": Reference(output=setting)}
        )
        stage = msgspec.structs.replace(candidate.stage, settings=settings)
        self.candidates[name] = msgspec.structs.replace(candidate, stage=stage)

    def runner(self, **known: State | str) -> Runner:
        """A runner of a new plan. `known` has the records of earlier runs: a state, or another
        fingerprint.
        """
        for name, what in known.items():
            self._record(name, what)
        held = self.ledger.read(self.candidates)
        question = Question(
            config=self.config,
            environment="dev",
            mode=Mode.DEPLOY,
            provider="local",
            commit="c" * 40,
            baseline=Baseline("ledger"),
            candidates=self.candidates,
            known={name: Known(found.record if found else None) for name, found in held.items()},
        )
        plan = planner.plan(question).plan
        context = Context(
            provider="gitlab",
            event="push",
            ref="main",
            ref_type="branch",
            sequence=9,
            pipeline_url="https://ci/9",
        )
        work = StageWork(
            executable=ExecutablePlan(msgspec.structs.replace(plan, mode=self.mode), self.steps),
            candidates=self.candidates,
            records=Records(self.ledger, plan, context, stored=held),
            factory=self,
            redactor=self.redactor,
            progress=self.listener,
            outputs=self.outputs,
        )
        return Runner(work, jobs=self.jobs)

    def upstream(self, stage: str) -> list[str]:
        return config.upstream(stage, self.config.stages)

    def missing_tools(self, stage: AnyStage) -> list[str]:
        return [tool for tool in self.tools.get(stage.name, ()) if tool in self.missing]

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        return frozenset(r.output for _, r in references(candidate.stage.settings) if r.output)

    def state_outputs(self, stage: str) -> dict[str, Output]:
        raise AssertionError(stage)

    def expand(self, text: str) -> str:
        return text.replace("{environment}", "dev")

    def deploy(self, **known: State | str) -> tuple[dict[str, str], Runner]:
        runner = self.runner(**known)
        return results(runner.deploy()), runner

    def state(self, name: str) -> str | None:
        found = self.ledger.read([name])[name]
        return found.record.state.value if found else None

    def record(self, name: str) -> Record:
        found = self.ledger.read([name])[name]
        assert found is not None
        return found.record

    def _logged(self, name: str, effect: Effect, do: Action) -> Action:
        def step(context: StageContext[Any], result: StageResult) -> None:
            self.bucket.log.append(f"{name}: {effect}")
            self.contexts[name] = context
            do(context, result)

        return step

    def _record(self, name: str, what: State | str) -> None:
        state = what if isinstance(what, State) else State.DEPLOYED
        fingerprint = self.candidates[name].fingerprint if isinstance(what, State) else what
        record = Record(
            schema=1,
            stage=name,
            fingerprint=fingerprint,
            effective="e" * 64,
            state=state,
            commit="d" * 40,
            ref="main",
            provider="gitlab",
            sequence=8,
            pipeline_url="https://ci/8",
            started_at="2026",
            finished_at=None,
            data={"kept": 1},
        )
        self.bucket.objects[f"p/{name}.json"] = msgspec.json.encode(record)

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        return stage_context(
            project="shop",
            environment_name="dev",
            environment=Environment(account_id="1" * 12, region="eu-central-1", role_arn="arn"),
            mode=self.mode,
            stage=stage,
            commit="c" * 40,
            fingerprint=candidate.fingerprint,
            redactor=self.redactor,
            ownership=self.ownership,
            **msgspec.structs.asdict(inputs),
        )


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def results(report: Report) -> dict[str, str]:
    return {stage.name: stage.result.value for stage in report.stages}


def _short(key: str, body: bytes) -> str:
    name = key.removeprefix("p/").removesuffix(".json")
    return (
        name
        if name.endswith(".outputs") or key.startswith("owners/")
        else f"{name}: {msgspec.json.decode(body)['state']}"
    )
