"""The contexts in which the stages of one run work. Made from a session and a plan."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cipipe import config, tree_files
from cipipe.candidates import Candidate
from cipipe.model import Mode, Output, Owner, Review
from cipipe.ownership import OwnedResource, Ownership
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.identity.profile import served
from cipipe.pipeline.planning.plan import PlanResult
from cipipe.pipeline.planning.snapshot import consumed_outputs
from cipipe.pipeline.rescued_states import rescued_states
from cipipe.pipeline.scratch import scratch_folder
from cipipe.pipeline.session import Session
from cipipe.rescued import RescuedStates
from cipipe.reviews import Reviews
from cipipe.stages import KINDS, terraform
from cipipe.stages.base import ResourceType
from cipipe.stages.context import EarlierStage, RunnerInputs, StageContext
from cipipe.stages.settings import AnyStage

# The resources that have one owner, and whether that is a stage or the
# whole environment. A state belongs to one stage; images of several stages
# may be in one repository.
_OWNED_BY_STAGE = {ResourceType.STATE: True, ResourceType.REPOSITORY: False}


@dataclass(frozen=True, kw_only=True)
class StageContexts:
    """Makes the context of each stage. Meets `stage_inputs.ContextFactory`."""

    session: Session
    result: PlanResult
    access: Access
    # A private folder; each stage gets one of its own in it.
    scratch: Path
    # Tools that are not installed here; only the sandbox runs without them.
    missing: frozenset[str] = frozenset()
    allow_replace: bool = False
    allow_empty: bool = False
    # Of a destroy: see `DestroyOptions`.
    empty: bool = False
    dry_run: bool = False

    def upstream(self, stage: str) -> Sequence[str]:
        return config.upstream(stage, self.session.project.config.stages)

    def missing_tools(self, stage: AnyStage) -> Sequence[str]:
        stage = self.session.project.config.for_run(stage, self.session.environment_name)
        return [tool for tool in KINDS[stage.kind].tools(stage) if tool in self.missing]

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        stored = self.result.stored.get(candidate.stage.name)
        return consumed_outputs(self.session.project, self.result.snapshot, candidate, stored)

    def state_outputs(self, stage: str) -> Mapping[str, Output]:
        from cipipe.stages.terraform.root import client

        session = self.session
        candidate = self.result.snapshot.candidates[stage]
        root = terraform.root_of(
            session.project.config.for_run(candidate.stage, session.environment_name),
            session.environment,
            top=session.project.repository.root,
            sandbox=session.sandbox,
        )
        reader = client(root, session.terraform(self.access.child_env))
        reader.init()
        return terraform.outputs_of(reader)

    def expand(self, text: str) -> str:
        return self.session.project.config.expanded(text, self.session.environment_name)

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        session = self.session
        snapshot = self.result.snapshot
        project = session.project
        folder = self.scratch / stage.name
        folder.mkdir(exist_ok=True)
        patterns = snapshot.patterns[candidate.stage.name]
        return StageContext(
            project=project.config.project.name,
            environment_name=session.environment_name,
            environment=session.environment,
            mode=self.result.executable.plan.mode,
            stage=stage,
            repository=project.repository,
            commit=snapshot.commit,
            commit_time=snapshot.time,
            tree=snapshot.tree,
            entries=tree_files.files(project.repository, snapshot.tree, patterns),
            fingerprint=candidate.fingerprint,
            aws=self.access.aws,
            child_env={**self.access.child_env, "CIPIPE_ENV": session.environment_name},
            redactor=session.redactor,
            scratch=folder,
            owned=self._owned,
            ownership=self._ownership(stage, inputs.line),
            reviews=self._reviews,
            rescued=self._rescued(stage),
            siblings=self._siblings(stage),
            removed=inputs.removed,
            ledger_bucket=session.ledger(self.access).bucket.name,
            sandbox=session.sandbox,
            command_options=session.command_options,
            state_login=project.state_login,
            allow_replace=self.allow_replace,
            allow_empty=self.allow_empty,
            approval_waived=session.sandbox and project.context.provider == "local",
            empty=self.empty,
            dry_run=self.dry_run,
            outputs=inputs.outputs,
            outputs_complete=inputs.outputs_complete,
            previous=inputs.previous,
            line=inputs.line,
            still_ours=inputs.still_ours,
            beside=inputs.beside,
            earlier=partial(self._earlier, stage.name),
            interrupt=inputs.interrupt,
            pace=self.session.pace,
        )

    def _earlier(self, stage: str) -> EarlierStage | None:
        """The stage in the environment before this one, read as `after` is checked."""
        first = self.session.environment.after
        if first is None:
            return None
        session = self.session.at(first)
        if stage not in session.project.config.stages:
            return None
        access = session.connect(Mode.DEPLOY, read_only=True)
        stored = session.ledger(access).read([stage])[stage]
        return EarlierStage(first, access.aws, stored.record if stored else None)

    def _siblings(self, stage: AnyStage) -> frozenset[str]:
        """The other stages of this environment."""
        return frozenset(self.session.project.config.stages) - {stage.name}

    def _ownership(self, stage: AnyStage, line: Callable[[str], None]) -> Ownership | None:
        """The resources that the stage claims; None where there are none, or nothing is written."""
        environment = self.session.environment
        kept = environment.protected and not environment.allow_destroy
        claimed = []
        for resource in KINDS[stage.kind].resources(stage, environment):
            by_stage = _OWNED_BY_STAGE.get(resource.type)
            if by_stage is None:
                continue
            claimed.append(
                OwnedResource(
                    type=resource.type,
                    name=resource.name,
                    shown=resource.shown,
                    by_stage=by_stage,
                    kept=kept and not by_stage,
                )
            )
        if not claimed or self.result.executable.plan.mode is Mode.VERIFY:
            return None
        project = self.session.project.config.project.name
        return Ownership(
            bucket=self.session.ledger(self.access).bucket,
            owner=Owner(project, self.session.environment_name, stage.name),
            resources=tuple(claimed),
            siblings=self._siblings(stage),
            warn=line,
        )

    def _rescued(self, stage: AnyStage) -> RescuedStates | None:
        if self.result.executable.plan.mode is Mode.VERIFY:
            return None
        return rescued_states(self.session, self.access, stage.name)

    @cached_property
    def _reviews(self) -> Reviews | None:
        session = self.session
        policy = session.environment.review
        context = session.project.context
        # A sandbox at a shell has no merge requests.
        alone = session.sandbox and context.provider == "local"
        destroys = self.result.executable.plan.mode is Mode.DESTROY
        if policy is Review.OFF or destroys or alone:
            return None
        ledger = session.ledger(self.access)
        return Reviews(
            bucket=ledger.bucket,
            prefix=ledger.prefix,
            project=session.project.config.project.name,
            environment=session.environment_name,
            context=context,
            policy=policy,
        )

    @cached_property
    def _owned(self) -> frozenset[str]:
        """The URLs in S3 that the records of all stages own."""
        stages = self.session.project.config.stages
        urls: set[str] = set()
        for name, stored in self.result.stored.items():
            if stored is not None:
                urls |= set(KINDS[stages[name].kind].owns(stored.record.data))
        return frozenset(urls)


@contextlib.contextmanager
def stage_contexts(
    session: Session,
    result: PlanResult,
    access: Access,
    *,
    missing: frozenset[str] = frozenset(),
    allow_replace: bool = False,
    allow_empty: bool = False,
) -> Iterator[StageContexts]:
    """The contexts of a run, with a scratch folder and credentials for children while it lasts."""
    with (
        scratch_folder(session.project) as scratch,
        served(access, session.progress.warning) as for_children,
    ):
        yield StageContexts(
            session=session,
            result=result,
            access=for_children,
            scratch=scratch,
            missing=missing,
            allow_replace=allow_replace,
            allow_empty=allow_empty,
        )
