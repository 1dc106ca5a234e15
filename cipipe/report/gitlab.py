"""A plan as a GitLab child pipeline: a job for each stage that is due, and
a last one that plans again.

The plan was made before the pipeline had the environment to itself. Another
pipeline may have deployed since, so the last job plans again and runs what
is due by then; it also runs the default stage if nothing was due. The lock
is the `resource_group` of the job that triggers this pipeline: jobs here
must not ask for it, or they would wait for their own parent forever.

The document is JSON, which is also YAML, and leaves no doubt about quoting.
It includes nothing: what the jobs need to run (image, services, tags) is
given by the job that plans, and stands in the hidden job `.cipipe`.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from cipipe import bounded
from cipipe.approvals import ID_VARIABLE
from cipipe.model import Mode, Plan, Reason, StagePlan, Status

PROVIDER = "gitlab"
FINISH = "finish"
SAVE = "save-plan"
BASE = ".cipipe"

# What a plan says itself of its jobs.
_OWN = frozenset(
    {"environment", "extends", "id_tokens", "needs", "resource_group", "script", "stage"}
)

_ID_FILE = "cipipe-plan.env"

# Line ends and control characters of YAML 1.1 that JSON does not escape in
# strings.
_UNQUOTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")


def keywords(document: bytes) -> dict[str, Any]:
    """What every job gets, from a JSON document such as
    `{"image": "…", "tags": ["…"]}`, by the names of GitLab's CI/CD YAML syntax reference.

    Raises ValueError if it is no JSON object, or has a keyword that a plan sets itself.
    """
    found = msgspec.convert(bounded.loads(document), dict[str, Any])
    if own := sorted(_OWN & found.keys()):
        raise ValueError(f"a plan sets {', '.join(own)} itself")
    return found


def render(
    plan: Plan,
    *,
    selected: Sequence[str] = (),
    jobs: Mapping[str, Any] | None = None,
    approval: AbstractSet[str] = frozenset(),
    token_variable: str = "AWS_ID_TOKEN",  # noqa: S107 - a variable's name
    audience: str = "https://gitlab.com",
) -> str:
    """The text of the child pipeline.

    `selected` are the stages that the plan was limited to, `jobs` the `keywords` of every job,
    `approval` the stages whose changes people approve, and `audience` is the ID token's.
    """
    due = {stage.name: stage for stage in plan.stages if stage.status is not Status.UNCHANGED}
    deploying = plan.mode is not Mode.VERIFY
    nothing_due = all(stage.reason is Reason.NOTHING_DUE for stage in due.values())
    planned = {} if deploying and nothing_due else due

    document: dict[str, Any] = {
        "workflow": {"rules": [{"when": "always"}]},
        "stages": [plan.mode.value, *([FINISH] if deploying else [])],
        BASE: {**(jobs or {}), "id_tokens": {token_variable: {"aud": audience}}},
    }
    approved = approval & planned.keys() if plan.mode is Mode.DEPLOY else frozenset()
    for stage in planned.values():
        job = _stage_job(plan, stage, planned)
        if stage.name in approved:
            document[f"{SAVE}:{stage.name}"] = _save_job(plan, stage, job)
            job = _apply_job(plan, stage, job)
        document[_job(plan, stage.name)] = job
    if deploying:
        # GitLab lists one deployment for the pipeline: where people approve
        # one, it is that.
        listed = not nothing_due and not approved
        document[FINISH] = _finish_job(plan, selected, nothing_due=nothing_due, listed=listed)
    elif not planned:
        # GitLab refuses a child pipeline without jobs.
        document["nothing-due"] = {
            "stage": plan.mode.value,
            "extends": BASE,
            "script": ["echo 'nothing is due'"],
        }

    text = json.dumps(document, indent=2, ensure_ascii=False)
    return _UNQUOTED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _stage_job(plan: Plan, stage: StagePlan, planned: Mapping[str, StagePlan]) -> dict[str, Any]:
    job: dict[str, Any] = {
        "extends": BASE,
        "stage": plan.mode.value,
        "needs": [_job(plan, name) for name in _due_needs(plan, stage, planned)],
        "script": [_run(plan, stage)],
    }
    if plan.mode is not Mode.VERIFY:
        job["environment"] = _environment(plan, deployment=False)
    return job


def _save_job(plan: Plan, stage: StagePlan, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job that shows a stage's changes and saves the plan. It hands over only the plan's ID."""
    due = [] if stage.reason is Reason.FORCED else ["--if-due"]
    command = ["cipipe", "iac", "plan", "--stage", stage.name, "--env", plan.environment, "--save"]
    return {
        **job,
        "script": [shlex.join([*command, *due, "--id-file", _ID_FILE])],
        "artifacts": {"reports": {"dotenv": _ID_FILE}},
    }


def _apply_job(plan: Plan, stage: StagePlan, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job that a person starts. It is a deployment, so GitLab's protected
    environments and approvals apply to it.
    """
    apply = shlex.join(["cipipe", "iac", "apply", "--env", plan.environment, "--plan"])
    return {
        **job,
        "needs": [f"{SAVE}:{stage.name}"],
        "when": "manual",
        # What comes later waits for it.
        "allow_failure": False,
        "environment": _environment(plan, deployment=True),
        # Where the plan changes nothing, the run only records that.
        "script": [f'[ "${ID_VARIABLE}" = none ] || {apply} "${ID_VARIABLE}"', *job["script"]],
    }


def _finish_job(
    plan: Plan, selected: Sequence[str], *, nothing_due: bool, listed: bool
) -> dict[str, Any]:
    """The last job. If `listed`, it is the one deployment of the pipeline that GitLab lists."""
    return {
        "extends": BASE,
        "stage": FINISH,
        "environment": _environment(plan, deployment=listed),
        "script": [_finish(plan, selected, nothing_due=nothing_due)],
    }


def _environment(plan: Plan, *, deployment: bool) -> dict[str, str]:
    """With `access`, a job gets the environment's variables, but GitLab lists no deployment."""
    access = {} if deployment else {"action": "access"}
    return {"name": _plain(plan.environment), **access}


def _run(plan: Plan, stage: StagePlan) -> str:
    """A stage's command.

    If another pipeline has made a needed stage due in the meantime, the
    last job runs both.
    """
    # The job plans again, and a stage that was forced has to be forced
    # there as well.
    forced = ["--force", stage.name] if stage.reason is Reason.FORCED else []
    ready = ["--if-ready"] if stage.needs and plan.mode is Mode.DEPLOY else []
    return shlex.join(["cipipe", "run", stage.name, "--env", plan.environment, *forced, *ready])


def _finish(plan: Plan, selected: Sequence[str], *, nothing_due: bool) -> str:
    """The last job's command."""
    # If anything was due, the stages that always run have had their own
    # jobs.
    only_due = [] if nothing_due or selected else ["--only-due"]
    ran = {stage.name for stage in plan.stages if stage.reason is Reason.FORCED}
    names = [name for name in selected if name not in ran] or selected
    return shlex.join(
        ["cipipe", "run", *names, "--env", plan.environment, "--if-newest", *only_due]
    )


def _job(plan: Plan, stage: str) -> str:
    """A job's name. The mode distinguishes stages such as `image` and `default` from keywords."""
    return f"{plan.mode.value}:{stage}"


def _due_needs(plan: Plan, stage: StagePlan, planned: Mapping[str, StagePlan]) -> list[str]:
    """The jobs to wait for: those of the needed stages and, for a needed
    stage without one, those of the stages that it needs.
    """
    everything = {one.name: one for one in plan.stages}
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = list(reversed(stage.needs))
    while waiting:
        name = waiting.pop()
        if name in planned:
            found[name] = None
        elif name in everything and name not in seen:
            seen.add(name)
            waiting += reversed(everything[name].needs)
    return list(found)


def _plain(text: str) -> str:
    """A name that GitLab accepts for an environment, and in which it expands no variables."""
    return re.sub(r"[^A-Za-z0-9_./-]", "-", text)
