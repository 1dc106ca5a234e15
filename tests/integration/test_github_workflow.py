"""The reusable workflow and the action for GitHub, this repository's workflows that use them, and
the callers in docs/github.md: against their schemas, cipipe.toml and each other.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cipipe.model import Baseline, Mode, Plan, Reason, StagePlan, Status
from cipipe.report import github
from support.expressions import evaluated, filled
from support.tools import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "action.yml"
CONFIG = tomllib.loads((ROOT / "cipipe.toml").read_text())
PAGE = (ROOT / "docs/github.md").read_text()

# The only jobs that may write anywhere in GitHub.
PUBLISHES = {
    ("release.yml", "image"): {
        "contents": "read",
        "packages": "write",
        "id-token": "write",
        "attestations": "write",
    },
    ("release.yml", "release"): {"contents": "write"},
}

MINE, FORK = "acme/shop", "someone/shop"


def load(path: str | Path) -> dict[Any, Any]:
    document = yaml.safe_load((ROOT / path).read_text())
    assert isinstance(document, dict)
    return document


CIPIPE = load(".github/workflows/cipipe.yml")
JOBS = CIPIPE["jobs"]
INPUTS = CIPIPE[True]["workflow_call"]["inputs"]
WAVES = [name for name in JOBS if name.startswith("wave-")]


def tool(*argv: str, stdin: str | None = None) -> None:
    """Run one of the development tools of this environment."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(argv[0])), *argv[1:]],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_schema(schema: str, *files: Path) -> None:
    tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files))


def documented() -> list[str]:
    """The workflows that the page shows."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) >= 5
    return [str(text) for text in found]


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    found = job.get("steps", [])
    assert isinstance(found, list)
    return found


# What the linters of others say.


def test_workflows_match_the_schema(tmp_path: Path) -> None:
    assert len(WORKFLOWS) >= 5
    shown = []
    for number, text in enumerate(documented()):
        shown.append(tmp_path / f"{number}.yml")
        shown[-1].write_text(text)
    check_schema("github-workflows", *WORKFLOWS, *shown)
    check_schema("github-actions", ACTION)


def test_zizmor_finds_nothing() -> None:
    tool("zizmor", "--offline", "--persona", "pedantic", ".github", str(ACTION))


def test_actionlint_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    tool("actionlint", "-no-color", "-shellcheck", str(shellcheck))


def test_shellcheck_finds_nothing_in_what_actionlint_does_not_read() -> None:
    scripts = [step["run"] for step in steps(load(ACTION)["runs"]) if "run" in step]
    callers = [load(path) for path in WORKFLOWS] + [yaml.safe_load(text) for text in documented()]
    scripts += [
        job["with"]["install"]
        for document in callers
        for job in document["jobs"].values()
        if "install" in job.get("with", {})
    ]
    assert len(scripts) >= 5
    for script in scripts:
        tool("shellcheck", "--shell=bash", "-", stdin=script)


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for uses in re.findall(r"uses: *(.*)", path.read_text()):
        assert uses.startswith("./") or re.fullmatch(
            r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", uses
        ), uses


# What every workflow keeps to.


def called(job: dict[str, Any]) -> dict[str, Any]:
    """The jobs of the workflow that a job calls."""
    jobs = load(job["uses"])["jobs"]
    assert isinstance(jobs, dict)
    return jobs


def wants_token(job: dict[str, Any]) -> bool:
    return any(
        re.search(r"\bcipipe (run|plan|drift|destroy|iac)\b(?!.*--offline)", step.get("run", ""))
        # PyPI takes one, too.
        or step.get("uses", "").startswith("pypa/gh-action-pypi-publish@")
        for step in steps(job)
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_asked_for_by_job(path: Path) -> None:
    document = load(path)
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        if (path.name, name) in PUBLISHES:
            assert job["permissions"] == PUBLISHES[path.name, name]
            continue
        assert set(job["permissions"]) <= {"contents", "id-token"}, name
        # A job that checks nothing out needs none.
        assert job["permissions"].get("contents", "read") == "read"
        if "uses" in job:
            # The caller grants exactly what the jobs of the called workflow ask for.
            asked = [below["permissions"] for below in called(job).values()]
            assert job["permissions"] == {
                key: value for permissions in asked for key, value in permissions.items()
            }
            continue
        assert ("id-token" in job["permissions"]) is wants_token(job), name
        assert "timeout-minutes" in job


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_no_expression_is_in_a_script(path: Path) -> None:
    """It could be shell code."""
    document = load(path)
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    scripts = [step["run"] for job in jobs for step in steps(job) if "run" in step]
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_leaves_no_token_behind(path: Path) -> None:
    for name, job in load(path)["jobs"].items():
        for step in steps(job):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


# The reusable workflow.


def test_every_input_is_described_and_documented() -> None:
    for declared, title in ((INPUTS, "## Inputs"), (load(ACTION)["inputs"], "## The action")):
        section = PAGE.split(f"\n{title}\n")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `([\w-]+)` \|(.*?)\|", section, re.MULTILINE))
        assert list(rows) == sorted(declared, key=list(rows).index)
        for name, one in declared.items():
            assert one["description"].endswith("."), name
            default = one["default"]
            text = str(default).lower() if isinstance(default, bool) else str(default)
            assert rows[name].strip() == (f"`{text}`" if text else ""), name


def test_callers_pass_inputs_that_exist() -> None:
    for text in documented():
        for job in yaml.safe_load(text)["jobs"].values():
            if "uses" in job:
                assert set(job["with"]) <= set(INPUTS)
                assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert len(documented()[0].splitlines()) <= 10


def test_this_repository_only_calls_it() -> None:
    for name in ("deploy.yml", "destroy.yml"):
        for job in load(f".github/workflows/{name}")["jobs"].values():
            assert "steps" not in job
            assert job["uses"].startswith("./.github/workflows/")
    installs = [
        load(".github/workflows/deploy.yml")["jobs"]["cipipe"]["with"]["install"],
        load(".github/workflows/destroy.yml")["jobs"]["destroy"]["with"]["install"],
    ]
    assert installs[0] == installs[1]


def test_environments_can_be_destroyed_by_hand_alone() -> None:
    events = load(".github/workflows/destroy.yml")[True]
    assert list(events) == ["workflow_dispatch"]
    inputs = events["workflow_dispatch"]["inputs"]
    assert inputs["environment"]["options"] == list(CONFIG["environments"])


def test_no_workflow_names_a_stage() -> None:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            if path.name != "release.yml":
                assert name not in CONFIG["stages"]
            given = job.get("with", {})
            assert not {"stages", "arguments"} & set(given)
            for step in steps(job):
                words = re.findall(r"\bcipipe (?:run|plan|drift|destroy)\b.*", step.get("run", ""))
                for line in words:
                    assert not set(line.split()) & set(CONFIG["stages"]), line


def contexts(
    event: str, ref: str = "refs/heads/main", *, head: str = MINE, author: str = "dev", **more: Any
) -> dict[str, Any]:
    """What expressions see; `more` are inputs, with `_` for `-`."""
    inputs = {name: one["default"] for name, one in INPUTS.items()}
    inputs |= {name.replace("_", "-"): value for name, value in more.items()}
    return {
        "github.event_name": event,
        "github.ref": ref,
        "github.ref_type": "tag" if ref.startswith("refs/tags/") else "branch",
        "github.repository": MINE,
        "github.event.pull_request.head.repo.full_name": head,
        "github.event.pull_request.user.login": author,
        **{f"inputs.{name}": value for name, value in inputs.items()},
    }


def starts(known: dict[str, Any]) -> list[str]:
    """The jobs that run first."""
    return [
        name
        for name, job in JOBS.items()
        if "needs" not in job and evaluated(str(job["if"]), known)
    ]


PULL = "refs/pull/7/merge"


@pytest.mark.parametrize(
    ("known", "first"),
    [
        (contexts("push"), ["plan"]),
        (contexts("push", "refs/tags/v1"), ["plan"]),
        (contexts("schedule"), ["plan"]),
        (contexts("workflow_dispatch"), ["plan"]),
        (contexts("pull_request", PULL), ["verify"]),
        (contexts("merge_group", "refs/heads/gh-readonly-queue/main/pr-7"), ["verify"]),
        (contexts("pull_request", PULL, head=FORK), ["fork"]),
        (contexts("pull_request", PULL, author="dependabot[bot]"), ["fork"]),
        (contexts("pull_request_target", head=FORK), []),
        (contexts("workflow_run"), []),
        (contexts("schedule", command="drift", environment="dev"), ["drift"]),
        (contexts("workflow_dispatch", command="destroy", environment="dev"), ["destroy"]),
        (contexts("push", command="destroy", environment="dev"), ["destroy"]),
    ],
)
def test_who_runs_when(known: dict[str, Any], first: list[str]) -> None:
    assert starts(known) == first


def test_a_fork_gets_no_identity() -> None:
    assert JOBS["fork"]["permissions"] == {"contents": "read"}
    assert "cipipe plan --offline" in steps(JOBS["fork"])[-1]["run"]
    identified = {name for name, job in JOBS.items() if "id-token" in job["permissions"]}
    assert identified == set(JOBS) - {"fork", "approve"}


def planned(*needs: tuple[str, ...]) -> str:
    """The output `waves` for stages s0, s1 and so on, which are due."""
    stages = [
        StagePlan(
            name=f"s{number}",
            kind="command",
            status=Status.DUE,
            reason=Reason.CHANGED,
            detail="",
            fingerprint="0" * 64,
            deployed_fingerprint=None,
            paths=(),
            needs=needed,
            steps=(),
        )
        for number, needed in enumerate(needs)
    ]
    plan = Plan(
        project="p",
        environment="dev",
        mode=Mode.DEPLOY,
        provider="github",
        commit="0" * 40,
        baseline=Baseline("ledger"),
        stages=tuple(stages),
    )
    (found,) = re.findall(r"^waves<<\w+\n(.*)\n", github.render(plan), re.MULTILINE)
    return str(found)


def ran(known: dict[str, Any], waves: str) -> dict[str, Any]:
    """The stages of each wave, and the options of the last job, after a plan with these waves."""
    known = {**known, "steps.plan.outputs.waves": waves, "needs.plan.result": "success"}
    known["needs.plan.outputs.waves"] = filled(JOBS["plan"]["outputs"]["waves"], known)
    jobs = {}
    for name in WAVES:
        if evaluated(JOBS[name]["if"], known):
            jobs[name] = evaluated(JOBS[name]["strategy"]["matrix"]["stage"], known)
    assert evaluated(JOBS["finish"]["if"], known)
    jobs["finish"] = [
        name
        for name in ("IF_NEWEST", "ONLY_DUE")
        if filled(JOBS["finish"]["env"][name], known) == "true"
    ]
    return jobs


def test_a_job_for_each_stage_after_those_that_it_needs() -> None:
    waves = planned((), (), ("s0",), ("s0", "s1"), ("s3",))
    assert ran(contexts("push"), waves) == {
        "wave-1": ["s0", "s1"],
        "wave-2": ["s2", "s3"],
        "wave-3": ["s4"],
        "finish": ["IF_NEWEST", "ONLY_DUE"],
    }
    assert ran(contexts("push", stages="s0"), waves)["finish"] == ["IF_NEWEST"]


def test_nothing_due_leaves_the_default_stage_to_the_last_job() -> None:
    assert ran(contexts("push"), "[]") == {"finish": ["IF_NEWEST"]}


def test_the_last_job_runs_all_that_is_beyond_the_last_wave() -> None:
    deep = planned((), *((f"s{number}",) for number in range(6)))
    found = ran(contexts("push"), deep)
    assert list(found) == [*WAVES, "finish"]
    assert found["wave-5"] == ["s4"]
    assert found["finish"] == ["IF_NEWEST"]


@pytest.mark.parametrize(
    "option", [{"force": "s0"}, {"allow_rollback": True}, {"github_environment": True}]
)
def test_one_job_where_there_is_something_to_decide_or_approve(option: dict[str, Any]) -> None:
    assert ran(contexts("workflow_dispatch", **option), planned((), ("s0",))) == {"finish": []}


def test_waves_wait_for_each_other() -> None:
    assert len(WAVES) == 5
    for number, name in enumerate(WAVES):
        job = JOBS[name]
        before = ["plan", *(WAVES[number - 1 : number] or ["apply"])]
        assert job["needs"] == before
        assert job["strategy"]["fail-fast"] is False
        assert job["if"].startswith("${{ !cancelled() && !failure() && ")
        assert job["env"]["STAGE"] == "${{ matrix.stage }}"
        assert steps(job) == steps(JOBS["wave-1"])
    assert JOBS["finish"]["needs"] == ["plan", "apply", *WAVES]


@pytest.mark.parametrize(
    ("plan_id", "asked"), [("live.iac.20260102T030405Z.0a", True), ("none", False), ("", False)]
)
def test_reviewers_are_asked_where_there_is_something_to_apply(plan_id: str, asked: bool) -> None:
    known = {
        **contexts("push", environment="live"),
        "steps.save.outputs.CIPIPE_PLAN_ID": plan_id,
        "needs.plan.outputs.environment": "live",
    }
    known["needs.save-plan.outputs.id"] = filled(JOBS["save-plan"]["outputs"]["id"], known)
    assert bool(evaluated(JOBS["approve"]["if"], known)) is asked
    assert filled(JOBS["approve"]["environment"], known) == "live"


@pytest.mark.parametrize(("approval", "saved"), [('["iac"]', True), ("[]", False), ("", False)])
def test_a_plan_is_saved_where_it_has_to_be_approved(approval: str, saved: bool) -> None:
    known = {**contexts("push"), "steps.plan.outputs.approval": approval}
    known["needs.plan.outputs.approval"] = filled(JOBS["plan"]["outputs"]["approval"], known)
    assert bool(evaluated(JOBS["save-plan"]["if"], known)) is saved


def test_an_approved_plan_is_applied_before_the_waves() -> None:
    """Only the plan's ID goes from job to job, and what reviewers admit has no identity in AWS."""
    assert '--save --id-file "$GITHUB_OUTPUT"' in steps(JOBS["save-plan"])[-1]["run"]
    assert JOBS["approve"]["permissions"] == {}
    assert [list(step) for step in steps(JOBS["approve"])] == [["name", "run"]]
    # Without an `if`, it is skipped with the job that it needs.
    assert JOBS["apply"]["needs"] == ["plan", "save-plan", "approve"]
    assert "if" not in JOBS["apply"]
    assert (
        'cipipe iac apply --env "$ENVIRONMENT" --plan "$PLAN_ID"' in steps(JOBS["apply"])[-1]["run"]
    )
    for job in JOBS.values():
        assert not [step for step in steps(job) if "artifact" in step.get("uses", "")]


def test_nothing_runs_after_a_pull_request_or_a_failed_plan() -> None:
    known = {**contexts("pull_request", PULL), "needs.plan.result": "skipped"}
    assert not [name for name in [*WAVES, "finish"] if evaluated(JOBS[name]["if"], known)]


def group(known: dict[str, Any]) -> str:
    return filled(CIPIPE["concurrency"]["group"], known)


def test_one_deployment_at_a_time() -> None:
    """The plan waits with the rest: the group is the workflow's, not that of single jobs."""
    assert group(contexts("push")) == group(contexts("schedule"))
    assert group(contexts("push")) == group(contexts("workflow_dispatch"))
    assert group(contexts("push", "refs/tags/v1")) == group(contexts("push", "refs/tags/v2"))
    assert group(contexts("push")) != group(contexts("push", "refs/tags/v1"))
    by_name = contexts("push", "refs/tags/v1", environment="live")
    assert group(by_name) == group(contexts("workflow_dispatch", environment="live"))
    assert group(by_name) != group(contexts("push", environment="dev"))
    assert not [name for name in JOBS if "concurrency" in JOBS[name]]


def test_a_pull_request_holds_up_nobody_but_itself() -> None:
    first = contexts("pull_request", PULL, environment="dev")
    second = contexts("pull_request", "refs/pull/8/merge", environment="dev")
    deployment = contexts("push", environment="dev")
    queue = contexts("merge_group", "refs/heads/gh-readonly-queue/main/pr-7", environment="dev")
    assert len({group(known) for known in (first, second, queue, deployment)}) == 4
    cancel = CIPIPE["concurrency"]["cancel-in-progress"]
    assert evaluated(cancel, first) is True
    assert not [known for known in (deployment, queue) if evaluated(cancel, known)]


def test_a_push_cannot_replace_a_run_that_destroys() -> None:
    destroy = contexts("workflow_dispatch", command="destroy", environment="dev")
    assert group(destroy) not in {group(contexts("push")), group(contexts("push", environment=""))}
    assert group(destroy) != group(contexts("push", environment="dev"))
    assert group(destroy) != group({**destroy, "inputs.environment": "live"})
    assert not evaluated(CIPIPE["concurrency"]["cancel-in-progress"], destroy)


def test_reviewers_are_asked_once() -> None:
    named = {name: job["environment"] for name, job in JOBS.items() if "environment" in job}
    # With `approval`, where there is a plan to look at.
    del named["approve"]
    assert set(named) == {"apply", "finish", "destroy"}
    known = contexts("workflow_dispatch", environment="live", github_environment=True)
    known["needs.plan.outputs.environment"] = "live"
    assert {filled(text, known) for text in named.values()} == {"live"}
    known["inputs.github-environment"] = False
    assert {filled(text, known) for text in named.values()} == {""}


def test_runners_may_have_several_labels() -> None:
    for job in JOBS.values():
        assert evaluated(job["runs-on"], contexts("push")) == "ubuntu-24.04"
        labels = contexts("push", runner=json.dumps(["self-hosted", "linux"]))
        assert evaluated(job["runs-on"], labels) == ["self-hosted", "linux"]


def test_jobs_end() -> None:
    limits = {name: job["timeout-minutes"] for name, job in JOBS.items()}
    assert {limits.pop("fork"), limits.pop("plan")} == {15}
    assert set(limits.values()) == {"${{ inputs.timeout-minutes }}"}


def test_jobs_share_their_first_steps() -> None:
    """Only `fork` and `drift` check more out than one commit."""
    first = steps(JOBS["plan"])[:3]
    assert [step.get("name", step.get("uses", "").partition("@")[0]) for step in first] == [
        "actions/checkout",
        "actions/setup-python",
        "Install",
    ]
    for name, job in JOBS.items():
        if name == "approve":
            continue
        assert steps(job)[1:3] == first[1:]
        if name not in {"fork", "drift"}:
            assert steps(job)[0] == first[0]
        assert job["container"] == {"image": "${{ inputs.image }}", "options": "--user root"}
        assert len(steps(job)) == 4


def test_signals_reach_cipipe() -> None:
    for name, job in JOBS.items():
        last = steps(job)[-1]["run"].splitlines()[-1]
        assert last.startswith("exec cipipe ") or name in {"plan", "approve"}
    assert steps(load(ACTION)["runs"])[-1]["run"].splitlines()[-1].startswith("exec cipipe ")
