"""A deployed repository: real git, a configuration of four stages, a ledger in memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cipipe.errors import CipipeError
from cipipe.fingerprint import consumed, effective
from cipipe.ledger import Ledger, StoredRecord
from cipipe.model import Mode, Output, Plan, Record, State
from cipipe.pipeline import project
from cipipe.pipeline.planning import plan as planning
from cipipe.pipeline.planning import snapshot
from cipipe.pipeline.planning.plan import PlanOptions, PlanResult
from support.configurations import HEAD
from support.git import ENV, Repo
from support.sessions import session_of

CONFIG = (
    HEAD
    + """\

[stages.iac]
kind = "terraform"
paths = ["terraform/**", "!terraform/**/*.md"]
root = "terraform"
backend = { bucket = "b", key = "k" }

[stages.image]
kind = "image"
paths = ["dbt/**"]
context = "dbt"
repository = { output = "url" }
build_args = { BASE = { env = "BASE", default = "debian" } }
needs = ["iac"]

[stages.dags]
kind = "dags"
paths = ["dags/**"]
source = "dags"
bucket = { output = "bucket" }
needs = ["iac", "image"]

[stages.default]
kind = "command"
when = "nothing-due"
run = [["true"]]
"""
)
FILES = {
    "cipipe.toml": CONFIG,
    "terraform/backend.tf": 'terraform {\n  backend "s3" {}\n}\n',
    "terraform/main.tf": "# 1",
    "terraform/x": "moves",
    "dbt/model.sql": "select 1",
    "dags/dag.py": 'CLUSTER = "local"  # cipipe: cluster\n',
    "docs/page.md": "words",
}
OUTPUTS = {"url": Output(value="u"), "bucket": Output(value="b"), "cluster": Output(value="c")}
STAGES = ("iac", "image", "dags")
NOTHING_DUE = {
    "iac": "unchanged unchanged",
    "image": "unchanged unchanged",
    "dags": "unchanged unchanged",
    "default": "due nothing-due",
}


class MemoryLedger(Ledger):
    """Records in a dict; what is damaged is an error, as it is in the real one."""

    def __init__(self) -> None:
        self.records: dict[str, Record | CipipeError] = {}
        self.outputs: dict[str, Output] | None = None

    def read(self, stages: Iterable[str]) -> dict[str, StoredRecord | None]:
        return {name: self._held(name) for name in stages}

    def read_outputs(self, stage: str) -> dict[str, Output] | None:
        return self.outputs

    def _held(self, name: str) -> StoredRecord | None:
        found = self.records.get(name)
        if isinstance(found, CipipeError):
            raise found
        return StoredRecord(found, '"etag"') if found else None


class Deployment:
    """The repository at one place, and what of it is deployed."""

    def __init__(self, repo: Repo, ledger: MemoryLedger | None = None) -> None:
        self.repo = repo
        self.ledger = ledger or MemoryLedger()

    @classmethod
    def make(cls, folder: Path, *options: str, **files: str) -> "Deployment":
        """A repository with FILES; more of them may be given."""
        made = cls(Repo(folder, *options))
        made.repo.commit(FILES | files)
        return made

    def planning(
        self, *, offline: bool = False, env: dict[str, str] | None = None, **options: Any
    ) -> PlanResult:
        found = project.load(self.repo.root, ENV | (env or {}))
        given = PlanOptions(**{"mode": Mode.DEPLOY, **options})
        return planning.plan(session_of(found), given, None if offline else self.ledger)

    def plan(self, **options: Any) -> Plan:
        return self.planning(**options).executable.plan

    def reasons(self, **options: Any) -> dict[str, str]:
        return {
            stage.name: f"{stage.status} {stage.reason}" for stage in self.plan(**options).stages
        }

    def due(self, **options: Any) -> set[str]:
        """The stages that would be deployed if nothing turned out to be the same."""
        return {
            stage.name
            for stage in self.plan(**options).stages
            if stage.status == "due" and stage.kind != "command"
        }

    def paths(self, name: str, **options: Any) -> set[bytes]:
        (found,) = [stage.paths for stage in self.plan(**options).stages if stage.name == name]
        return set(found)

    def fingerprints(self, **options: Any) -> dict[str, str]:
        return {stage.name: stage.fingerprint for stage in self.plan(**options).stages}

    def deploy(
        self,
        *names: str,
        state: State = State.DEPLOYED,
        env: dict[str, str] | None = None,
        inputs: Sequence[str] | None = None,
        **record: Any,
    ) -> None:
        """Have the stages (all, if none is named) deployed, or left half-way, from this commit.

        `inputs` are the outputs that they consumed, where the names of the stages do not tell.
        """
        found = project.load(self.repo.root, ENV | (env or {}))
        shot = snapshot.read_snapshot(found)
        self.ledger.outputs = OUTPUTS
        for name in names or STAGES:
            candidate = shot.candidates[name]
            usual = {"image": ["url"], "dags": ["bucket", "cluster"]}.get(name, [])
            values = consumed(OUTPUTS, usual if inputs is None else inputs)
            given: dict[str, Any] = {
                "schema": 1,
                "stage": name,
                "fingerprint": candidate.fingerprint,
                "effective": effective(candidate.fingerprint, values),
                "state": state,
                "commit": shot.commit,
                "ref": "main",
                "provider": "gitlab",
                "sequence": 7,
                "pipeline_url": None,
                "started_at": "2026-01-02T03:04:05+00:00",
                "finished_at": None,
                **record,
            }
            self.ledger.records[name] = Record(**given)


def gitlab(**variables: str) -> dict[str, str]:
    """The variables of a GitLab push to main, changed and added to."""
    return {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_BRANCH": "main",
        **variables,
    }
