"""A plan as a GitLab child pipeline: one job for each stage that is due, or the default job when none is.

The document is JSON, which is YAML as well, and leaves no doubt about quoting. What a job of a kind needs (image,
services, installation) stands in the repository's own `.gitlab/cipipe.yml`, as a hidden job `.cipipe-KIND` each.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from cipipe.model import Mode, Plan, Reason, StagePlan, Status

PROVIDER = "gitlab"
TEMPLATES = ".gitlab/cipipe.yml"

_DEPLOYING = ("environment", "resource_group")

# Line ends and controls of YAML 1.1 that JSON leaves as they are within strings.
_UNQUOTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")


def render(
    plan: Plan,
    *,
    image: str | None = None,
    token_variable: str = "AWS_ID_TOKEN",  # noqa: S107 - a variable's name
    audience: str = "https://gitlab.com",
    templates: str = TEMPLATES,
) -> str:
    """The child pipeline's text. `image` replaces the templates' container image; `audience` is the ID token's."""
    jobs = {stage.name: stage for stage in plan.stages if stage.status is not Status.UNCHANGED}
    everything = {stage.name: stage for stage in plan.stages}
    document: dict[str, Any] = {
        "include": [{"local": templates}],
        "workflow": {"rules": [{"when": "always"}]},
        "stages": [plan.mode.value],
    }
    common: dict[str, Any] = {
        "stage": plan.mode.value,
        "id_tokens": {token_variable: {"aud": audience}},
        **({"image": image} if image else {}),
    }
    if plan.mode is not Mode.VERIFY:
        # What only reads waits for nobody, and is no deployment.
        common["environment"] = {"name": _plain(plan.environment)}
        common["resource_group"] = _plain(f"{plan.project}/{plan.environment}")
    for stage in jobs.values():
        # The default job deploys nothing: it is no deployment, and waits for nobody.
        idle = stage.reason is Reason.NOTHING_DUE
        document[_job(plan, stage.name)] = {
            "extends": f".cipipe-{stage.kind}",
            **({key: value for key, value in common.items() if key not in _DEPLOYING} if idle else common),
            "needs": [_job(plan, name) for name in _due_needs(stage, everything, jobs)],
            "script": [shlex.join(["cipipe", "run", stage.name, "--env", plan.environment])],
        }
    if not jobs:
        # A child pipeline without jobs is an error to GitLab.
        document["nothing-due"] = {
            "stage": plan.mode.value,
            "extends": ".cipipe-command",
            "script": ["echo 'nothing is due'"],
        }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return _UNQUOTED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _job(plan: Plan, stage: str) -> str:
    """A job's name: the mode before it keeps stages such as `image` and `default` apart from GitLab's keywords."""
    return f"{plan.mode.value}:{stage}"


def _due_needs(stage: StagePlan, everything: dict[str, StagePlan], jobs: dict[str, StagePlan]) -> list[str]:
    """The jobs to wait for: needed stages that are due, and those that stand behind needed ones that are not."""
    return list(dict.fromkeys(_walk(stage, everything, jobs)))


def _walk(stage: StagePlan, everything: dict[str, StagePlan], jobs: dict[str, StagePlan]) -> Iterator[str]:
    for name in stage.needs:
        if name in jobs:
            yield name
        elif name in everything:
            yield from _walk(everything[name], everything, jobs)


def _plain(text: str) -> str:
    """What GitLab takes as an environment or resource group; it would expand variables in them."""
    return re.sub(r"[^A-Za-z0-9_./-]", "-", text)
