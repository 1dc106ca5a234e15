"""A plan as a GitLab child pipeline: one job for each stage that is due, and a last one that plans
again.

The plan was made before the pipeline had the environment to itself. Another pipeline may have
deployed since, so the last job plans again and runs what is due by then; it also runs the default
stage when nothing was due. The lock is the `resource_group` of the job that triggers this pipeline:
jobs here must not ask for it, or they would wait for their own parent forever.

The document is JSON, which is YAML as well, and leaves no doubt about quoting. What a job of a kind
needs (image, services, installation) stands in the repository's own `.gitlab/cipipe.yml`, as a
hidden job `.cipipe-KIND` each.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from cipipe.model import Mode, Plan, Reason, StagePlan, Status

PROVIDER = "gitlab"
TEMPLATES = ".gitlab/cipipe.yml"
FINISH = "finish"

# Line ends and controls of YAML 1.1 that JSON leaves as they are within strings.
_UNQUOTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")


def render(
    plan: Plan,
    *,
    token_variable: str = "AWS_ID_TOKEN",  # noqa: S107 - a variable's name
    audience: str = "https://gitlab.com",
) -> str:
    """The child pipeline's text. `audience` is the ID token's."""
    due = {stage.name: stage for stage in plan.stages if stage.status is not Status.UNCHANGED}
    deploying = plan.mode is not Mode.VERIFY
    nothing_due = all(stage.reason is Reason.NOTHING_DUE for stage in due.values())
    jobs = {} if deploying and nothing_due else due
    everything = {stage.name: stage for stage in plan.stages}
    document: dict[str, Any] = {
        "include": [{"local": TEMPLATES}],
        "workflow": {"rules": [{"when": "always"}]},
        "stages": [plan.mode.value, *([FINISH] if deploying else [])],
    }
    common = {"id_tokens": {token_variable: {"aud": audience}}}
    environment = {"name": _plain(plan.environment)}
    for stage in jobs.values():
        # What only reads is no deployment, and neither is the default job.
        changes = deploying and stage.reason is not Reason.NOTHING_DUE
        document[_job(plan, stage.name)] = {
            "extends": f".cipipe-{stage.kind}",
            "stage": plan.mode.value,
            **common,
            **({"environment": environment} if changes else {}),
            "needs": [_job(plan, name) for name in _due_needs(stage, everything, jobs)],
            "script": [_run(plan, stage)],
        }
    if deploying:
        # `access`: the job gets the environment's variables, and GitLab lists no deployment where
        # nothing was due.
        document[FINISH] = {
            "extends": f".cipipe-{FINISH}",
            "stage": FINISH,
            **common,
            "environment": {**environment, "action": "access"},
            "script": [_finish(plan, nothing_due=nothing_due)],
        }
    elif not jobs:
        # A child pipeline without jobs is an error to GitLab.
        document["nothing-due"] = {
            "stage": plan.mode.value,
            "extends": ".cipipe-command",
            "script": ["echo 'nothing is due'"],
        }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return _UNQUOTED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _run(plan: Plan, stage: StagePlan) -> str:
    """A stage's command. One that was due because somebody asked for it has to be asked for again.

    Where another pipeline has made a needed stage due in the meantime, the last job runs both.
    """
    forced = ["--force", stage.name] if stage.reason is Reason.FORCED else []
    ready = ["--if-ready"] if stage.needs and plan.mode is Mode.DEPLOY else []
    return shlex.join(["cipipe", "run", stage.name, "--env", plan.environment, *forced, *ready])


def _finish(plan: Plan, *, nothing_due: bool) -> str:
    """The last job's command. The default stage, and those that always run, have had their own jobs
    if anything was due.
    """
    only_due = [] if nothing_due else ["--only-due"]
    return shlex.join(["cipipe", "run", "--env", plan.environment, "--if-newest", *only_due])


def _job(plan: Plan, stage: str) -> str:
    """A job's name: the mode before it keeps stages such as `image` and `default` apart from
    GitLab's keywords.
    """
    return f"{plan.mode.value}:{stage}"


def _due_needs(
    stage: StagePlan, everything: dict[str, StagePlan], jobs: dict[str, StagePlan]
) -> list[str]:
    """The jobs to wait for: needed stages that are due, and those that stand behind needed ones
    that are not.
    """
    return list(dict.fromkeys(_walk(stage, everything, jobs)))


def _walk(
    stage: StagePlan, everything: dict[str, StagePlan], jobs: dict[str, StagePlan]
) -> Iterator[str]:
    for name in stage.needs:
        if name in jobs:
            yield name
        elif name in everything:
            yield from _walk(everything[name], everything, jobs)


def _plain(text: str) -> str:
    """What GitLab takes as the name of an environment; it would expand variables in it."""
    return re.sub(r"[^A-Za-z0-9_./-]", "-", text)
