"""With a sandbox that is kept: what is due after which change, and what a run does then."""

from support.clone import Aws, Clone, FirstRun

NOWHERE = {"DOCKER_HOST": "tcp://127.0.0.1:9"}


def test_nothing_due_runs_the_default_stage_alone(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    before = aws.record("iac")
    done = clone.run(**_without_tools(clone))
    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "unchanged",
        "image": "unchanged",
        "dags": "unchanged",
        "default": "done",
    }
    assert "default │   dev  account 111111111111" in done.err  # what `cipipe status` prints
    assert aws.record("iac") == before


def test_a_comment_in_dags_makes_dags_alone_due(deployed: FirstRun, clone: Clone, aws: Aws) -> None:
    clone.commit("dags/dbt_snowflake_scd2.py", "# one more line\n")
    assert _due(clone.plan()) == {"dags": "due"}
    done = clone.run(**_without_tools(clone))
    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "unchanged",
        "image": "unchanged",
        "dags": "done",
        "default": "unchanged",
    }
    assert aws.get(aws.outputs()["dags_bucket"], "dags/dbt_snowflake_scd2.py").endswith(
        b"# one more line\n"
    )


def test_a_model_makes_the_image_due_and_iac_by_its_tag(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    old = aws.outputs()["task_definition_arn"]
    clone.commit("dbt/models/marts/emp_fact.sql", "\n-- one more line\n")
    assert _due(clone.plan()) == {"iac": "due", "image": "due", "dags": "conditional"}
    done = clone.run()
    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "done",
        "image": "done",
        "dags": "done",
        "default": "unchanged",
    }
    new = aws.outputs()["task_definition_arn"]
    assert new != old
    assert new.encode() in aws.get(aws.outputs()["dags_bucket"], "dags/dbt_snowflake_scd2.py")
    revisions = aws.client("ecs").list_task_definitions(
        familyPrefix="dbt-deployment-dev-dbt", status="ACTIVE"
    )
    assert {old, new} <= set(revisions["taskDefinitionArns"])  # what ran before can still run


def test_a_tf_file_makes_iac_due_and_what_needs_it_conditional(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    before = {stage: aws.record(stage) for stage in ("image", "dags")}
    clone.commit("terraform/outputs.tf", "\n# one more line\n")
    assert _due(clone.plan()) == {"iac": "due", "image": "conditional", "dags": "conditional"}
    done = clone.run(**NOWHERE)
    assert done.status == 0, done.text
    assert done.results() == {
        "iac": "done",
        "image": "unchanged",
        "dags": "unchanged",
        "default": "unchanged",
    }
    assert {stage: aws.record(stage) for stage in ("image", "dags")} == before


def test_a_sensitive_output_reaches_its_file_and_nothing_else(
    deployed: FirstRun, clone: Clone, aws: Aws
) -> None:
    secret = "k7-" + "quite-a-secret" * 2  # not so in one piece in any file of the commit
    joined = 'join("-", ["k7", join("", ["quite-a-secret", "quite-a-secret"])])'
    clone.commit(
        "terraform/outputs.tf",
        f'\noutput "token" {{\n  value     = {joined}\n  sensitive = true\n}}\n',
    )
    clone.commit("dags/with_token.py", 'TOKEN = "local"  # cipipe: token (sensitive ok)\n')
    report = clone.folder / ".cipipe/report.json"
    done = clone.run("--output", str(report), **NOWHERE)
    assert done.status == 0, done.text
    found = aws.keys("cipipe-111111111111-eu-central-1")
    reported = [
        done.text,
        report.read_text(),
        clone.cipipe("plan", "--sandbox", "--env", "dev").text,
    ]
    reported += [clone.cipipe("dags", "diff", "--sandbox", "--env", "dev").text]
    kept = [
        aws.get("cipipe-111111111111-eu-central-1", key) for key in found if "/ledger/" in f"/{key}"
    ]
    bucket = aws.outputs()["dags_bucket"]
    assert (
        aws.get(bucket, "dags/with_token.py")
        == f'TOKEN = "{secret}"  # cipipe: token (sensitive ok)\n'.encode()
    )
    assert len(kept) >= 4
    assert not [text for text in reported if secret in text]
    assert not [body for body in kept if secret.encode() in body]
    assert aws.record("dags")["data"]["outputs"].count("token") == 1
    clone.git("revert", "--no-edit", "--no-commit", "HEAD", "HEAD~1")
    clone.git("commit", "--quiet", "-m", "Without the token")
    assert clone.run(**NOWHERE).results()["dags"] == "done"
    assert "dags/with_token.py" not in aws.keys(bucket)


def test_a_stage_that_is_run_alone_still_sees_changed_outputs(
    deployed: FirstRun, clone: Clone
) -> None:
    """As in a child pipeline, where each stage is a job of its own."""
    clone.commit("dbt/models/marts/emp_fact.sql", "\n-- yet another line\n")
    assert clone.run("iac").results() == {"iac": "done"}
    assert clone.run("image").results() == {"image": "done"}
    assert clone.plan("dags") == {"dags": ("due", "upstream")}
    assert clone.run("dags").results() == {"dags": "done"}
    assert clone.plan("dags") == {"dags": ("unchanged", "unchanged")}


def _due(plan: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: status for name, (status, _) in plan.items() if status != "unchanged"}


def _without_tools(clone: Clone) -> dict[str, str]:
    """An environment in which starting terraform or reaching Docker fails loudly."""
    shims = clone.folder / ".cipipe/shims"
    shims.mkdir(exist_ok=True)
    shim = shims / "terraform"
    shim.write_text("#!/bin/sh\necho terraform was started >&2\nexit 97\n")
    shim.chmod(0o755)
    return {**NOWHERE, "PATH": f"{shims}:{clone.env['PATH']}"}
