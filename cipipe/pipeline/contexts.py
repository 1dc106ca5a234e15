"""Where a run works: one environment of one project, with credentials, and the doors that stages
get.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cipipe import config, tree_files
from cipipe.claims import Claimed, Claims
from cipipe.model import Mode, Owner
from cipipe.pipeline.identity.access import Access
from cipipe.pipeline.planning import PlanResult, consumed_outputs
from cipipe.pipeline.project import Project
from cipipe.pipeline.session import Session
from cipipe.planner import Candidate
from cipipe.stages import KINDS
from cipipe.stages.base import ResourceType
from cipipe.stages.context import StageContext
from cipipe.stages.settings import AnyStage
from cipipe.stagework import RunnerInputs


@dataclass(frozen=True)
class StageContexts:
    """Meets `stagework.ContextFactory`. `scratch` is a private folder; `missing` are tools that are not
    to be had here.
    """

    session: Session
    planning: PlanResult
    access: Access
    scratch: Path
    missing: frozenset[str] = frozenset()
    allow_replace: bool = False
    allow_empty: bool = False

    @property
    def project(self) -> Project:
        return self.session.project

    @property
    def environment(self) -> str:
        return self.session.environment_name

    def upstream(self, stage: str) -> Sequence[str]:
        return config.upstream(stage, self.project.config.stages)

    def missing_tools(self, stage: AnyStage) -> Sequence[str]:
        return [tool for tool in KINDS[stage.kind].tools(stage) if tool in self.missing]

    def consumes(self, candidate: Candidate) -> frozenset[str]:
        held = self.planning.held.get(candidate.stage.name)
        return consumed_outputs(self.project, self.planning.snapshot, candidate, held)

    def expand(self, text: str) -> str:
        return self.project.config.expanded(text, self.environment)

    def context_for(
        self, candidate: Candidate, stage: AnyStage, inputs: RunnerInputs
    ) -> StageContext[Any]:
        shot = self.planning.snapshot
        folder = self.scratch / stage.name
        folder.mkdir(exist_ok=True)
        return StageContext(
            project=self.project.config.project.name,
            environment_name=self.environment,
            environment=self.session.environment,
            mode=self.planning.executable.plan.mode,
            stage=stage,
            repository=self.project.repository,
            commit=shot.commit,
            commit_time=shot.time,
            tree=shot.tree,
            entries=tree_files.files(
                self.project.repository, shot.tree, shot.patterns[candidate.stage.name]
            ),
            fingerprint=candidate.fingerprint,
            aws=self.access.aws,
            child_env={**self.access.child_env, "CIPIPE_ENV": self.environment},
            redactor=self.session.redactor,
            scratch=folder,
            owned=self._owned,
            claims=self._claims(stage, inputs.line),
            siblings=frozenset(self.project.config.stages) - {stage.name},
            sandbox=self.session.sandbox,
            command_options=self.session.command_options,
            state_login=self.project.state_login,
            allow_replace=self.allow_replace,
            allow_empty=self.allow_empty,
            outputs=inputs.outputs,
            previous=inputs.previous,
            line=inputs.line,
            still_ours=inputs.still_ours,
            beside=inputs.beside,
            interrupt=inputs.interrupt,
            pace=self.session.pace,
        )

    def _claims(self, stage: AnyStage, line: Callable[[str], None]) -> Claims | None:
        """What the stage has to itself; nobody asks for it in verify mode, which writes nothing."""
        environment = self.session.environment
        types = {ResourceType.STATE: True, ResourceType.REPOSITORY: False}
        kept = environment.protected and not environment.allow_destroy
        places = tuple(
            Claimed(
                type=place.type,
                name=place.name,
                shown=place.shown,
                by_stage=types[place.type],
                kept=kept and not types[place.type],
            )
            for place in KINDS[stage.kind].resources(stage, environment)
            if place.type in types
        )
        if not places or self.planning.executable.plan.mode is Mode.VERIFY:
            return None
        return Claims(
            bucket=self.session.ledger(self.access).bucket,
            owner=Owner(self.project.config.project.name, self.environment, stage.name),
            places=places,
            siblings=frozenset(self.project.config.stages) - {stage.name},
            warn=line,
        )

    @cached_property
    def _owned(self) -> frozenset[str]:
        """What the records of all stages own in S3."""
        stages = self.project.config.stages
        return frozenset(
            url
            for stage, held in self.planning.held.items()
            if held is not None
            for url in KINDS[stages[stage].kind].owns(held.record.data)
        )
