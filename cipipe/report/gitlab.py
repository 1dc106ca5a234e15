"""A plan as a GitLab child pipeline: a job for each stage that is due, and
a last one that plans again.

The plan was made before the pipeline had the environment to itself. Another
pipeline may have deployed since, so the last job plans again and runs what
is due by then; it also runs the default stage if nothing was due. The lock
is the `resource_group` of the job that triggers this pipeline: jobs here
must not ask for it, or they would wait for their own parent forever.

The document is JSON, which is also YAML, and leaves no doubt about quoting.
What the jobs of a kind need (image, services, installation) is in the
repository's own `.gitlab/cipipe.yml`, in a hidden job `.cipipe-KIND` each.
"""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from cipipe.model import Mode, Plan, Reason, StagePlan, Status

PROVIDER = "gitlab"
TEMPLATES = ".gitlab/cipipe.yml"
FINISH = "finish"

# Line ends and control characters of YAML 1.1 that JSON does not escape in
# strings.
_UNQUOTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")


def render(
    plan: Plan,
    *,
    token_variable: str = "AWS_ID_TOKEN",  # noqa: S107 - a variable's name
    audience: str = "https://gitlab.com",
) -> str:
    """The text of the child pipeline. `audience` is the ID token's."""
    due = {stage.name: stage for stage in plan.stages if stage.status is not Status.UNCHANGED}
    deploying = plan.mode is not Mode.VERIFY
    nothing_due = all(stage.reason is Reason.NOTHING_DUE for stage in due.values())
    jobs = {} if deploying and nothing_due else due
    common = {"id_tokens": {token_variable: {"aud": audience}}}

    document: dict[str, Any] = {
        "include": [{"local": TEMPLATES}],
        "workflow": {"rules": [{"when": "always"}]},
        "stages": [plan.mode.value, *([FINISH] if deploying else [])],
    }
    for stage in jobs.values():
        document[_job(plan, stage.name)] = {**_stage_job(plan, stage, jobs), **common}
    if deploying:
        document[FINISH] = {**_finish_job(plan, nothing_due=nothing_due), **common}
    elif not jobs:
        # GitLab refuses a child pipeline without jobs.
        document["nothing-due"] = {
            "stage": plan.mode.value,
            "extends": ".cipipe-command",
            "script": ["echo 'nothing is due'"],
        }

    text = json.dumps(document, indent=2, ensure_ascii=False)
    return _UNQUOTED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _stage_job(plan: Plan, stage: StagePlan, jobs: Mapping[str, StagePlan]) -> dict[str, Any]:
    job: dict[str, Any] = {
        "extends": f".cipipe-{stage.kind}",
        "stage": plan.mode.value,
        "needs": [_job(plan, name) for name in _due_needs(plan, stage, jobs)],
        "script": [_run(plan, stage)],
    }

    # What only reads is no deployment, and neither is the default job.
    if plan.mode is not Mode.VERIFY and stage.reason is not Reason.NOTHING_DUE:
        job["environment"] = {"name": _plain(plan.environment)}
    return job


def _finish_job(plan: Plan, *, nothing_due: bool) -> dict[str, Any]:
    return {
        "extends": f".cipipe-{FINISH}",
        "stage": FINISH,
        # `access`: the job gets the environment's variables, and GitLab
        # lists no deployment if nothing was due.
        "environment": {"name": _plain(plan.environment), "action": "access"},
        "script": [_finish(plan, nothing_due=nothing_due)],
    }


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


def _finish(plan: Plan, *, nothing_due: bool) -> str:
    """The last job's command."""
    # If anything was due, the stages that always run have had their own
    # jobs.
    only_due = [] if nothing_due else ["--only-due"]
    return shlex.join(["cipipe", "run", "--env", plan.environment, "--if-newest", *only_due])


def _job(plan: Plan, stage: str) -> str:
    """A job's name. The mode distinguishes stages such as `image` and `default` from keywords."""
    return f"{plan.mode.value}:{stage}"


def _due_needs(plan: Plan, stage: StagePlan, jobs: Mapping[str, StagePlan]) -> list[str]:
    """The jobs to wait for: those of the needed stages and, for a needed
    stage without one, those of the stages that it needs.
    """
    everything = {one.name: one for one in plan.stages}
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = list(reversed(stage.needs))
    while waiting:
        name = waiting.pop()
        if name in jobs:
            found[name] = None
        elif name in everything and name not in seen:
            seen.add(name)
            waiting += reversed(everything[name].needs)
    return list(found)


def _plain(text: str) -> str:
    """A name that GitLab accepts for an environment, and in which it expands no variables."""
    return re.sub(r"[^A-Za-z0-9_./-]", "-", text)
