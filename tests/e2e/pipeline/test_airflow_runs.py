"""The DAG files as a real run has patched and uploaded them, run by real Airflow 2 and 3 against
the sandbox's AWS.

Both versions run all DAGs at the same time, each in one process; `dag.test()` is judged by the
state of the DagRun, since `python dag.py` ends well even where the run does not.
"""

import concurrent.futures
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.airflow_runs import VARIABLES, Done, airflow_role, clear, run_all
from support.clone import Aws, FirstRun
from support.fargate import CSV, Fargate
from support.tools import VENVS, require


@pytest.fixture(scope="module")
def all_done(
    deployed: FirstRun, aws: Aws, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Done]]:
    pythons = {
        version: require(
            VENVS / f"airflow-{version[0]}/bin/python", f"running the DAGs on Airflow {version}"
        )
        for version in VARIABLES
    }
    folder = tmp_path_factory.mktemp("deployed")
    bucket = aws.outputs()["dags_bucket"]
    for key in aws.keys(bucket, "dags/"):
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(aws.get(bucket, key))
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor() as pool:
        stack.callback(clear, aws)
        keys = stack.enter_context(airflow_role(aws))
        fargates = {version: Fargate(aws) for version in VARIABLES}
        for fargate in fargates.values():
            stack.callback(fargate.remove)
        futures = {
            version: pool.submit(run_all, version, python, folder / "dags", fargates[version], keys)
            for version, python in pythons.items()
        }
        yield {version: future.result() for version, future in futures.items()}


@pytest.fixture(params=list(VARIABLES))
def done(request: pytest.FixtureRequest, all_done: dict[str, Done]) -> Done:
    return all_done[request.param]


def test_every_dag_runs_to_success(done: Done) -> None:
    wanted = {
        "snowflake",
        "redshift",
        "redshift-no-slack",
        "ssm",
        "athena-new",
        "athena-again",
        "emr",
    }
    assert {name: done.state(name) for name in sorted(wanted)} == dict.fromkeys(
        sorted(wanted), "success"
    ), done.output


def test_a_run_whose_container_fails_is_failed(done: Done) -> None:
    assert done.state("snowflake-exit-2") == "failed"
    assert done.tasks("snowflake-exit-2") == {
        "run_emp_fact": "failed",
        "test_emp_fact": "upstream_failed",
        "snapshot_scd_emp": "upstream_failed",
    }


@pytest.mark.parametrize("run", ["redshift-no-exit-code", "ssm-no-exit-code"])
def test_a_task_that_stopped_without_an_exit_code_fails_the_run(done: Done, run: str) -> None:
    assert done.state(run) == "failed"
    assert done.tasks(run)["build"] == "failed"


def test_a_task_that_takes_too_long_is_stopped(done: Done, aws: Aws) -> None:
    assert done.state("redshift-timeout") == "failed"
    (stopped,) = done.asked("redshift-timeout", "StopTask")
    assert stopped["cluster"] == aws.outputs()["ecs_cluster_name"]
    assert "airflow" in stopped["reason"].lower()


def test_dbt_really_ran_in_the_deployed_image(done: Done, aws: Aws) -> None:
    """The containers that the DAG started: `dbt run`, `dbt test`, `dbt snapshot`, with their output
    in Airflow's log.
    """
    outputs = aws.outputs()
    assert [command(body) for body in done.asked("snowflake", "RunTask")] == [
        ["dbt", "run", "--select", "emp_fact"],
        ["dbt", "test", "--select", "+emp_fact"],
        ["dbt", "snapshot", "--select", "scd_emp"],
    ]
    assert {body["taskDefinition"] for body in done.asked("snowflake", "RunTask")} == {
        outputs["task_definition_arn"]
    }
    built, tested, recorded = [text for run, text in done.fargate.printed if run == "snowflake"]
    assert "created sql table model main.emp_fact" in built
    assert "PASS unique_emp_fact_employee_id" in tested
    assert "snapshotted main.scd_emp" in recorded
    assert "Running with dbt=" in done.output


def test_redshift_is_run_by_the_service_role_alone(done: Done, aws: Aws) -> None:
    outputs = aws.outputs()
    calls = [call for call in done.fargate.calls if call.run == "redshift"]
    assumed = [call for call in calls if call.action == "AssumeRole"]
    assert [call.body["RoleArn"] for call in assumed] == [outputs["dbt_service_role_arn"]]
    others = [call for call in calls if call.action != "AssumeRole"]
    assert {call.action for call in others} >= {"ListTasks", "RunTask", "DescribeTasks"}
    assert {call.access_key for call in others} <= set(done.fargate.assumed)
    assert {call.access_key for call in assumed}.isdisjoint(done.fargate.assumed)
    assert "dbt | this container ends with exit-0" in done.output
    assert sent(done, "redshift") == dbt_build(outputs)


def test_only_airflow_may_become_the_service_role(deployed: FirstRun, aws: Aws) -> None:
    role = aws.outputs()["dbt_service_role_arn"]
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.client("sts").assume_role(RoleArn=role, RoleSessionName="administrator")


def test_slack_gets_the_result(done: Done) -> None:
    (success,) = done.messages("redshift")
    assert "*dbt_redshift.build of manual__" in success
    assert success.endswith("succeeded")
    (failure,) = done.messages("redshift-no-exit-code")
    assert (
        "stopped without an exit code: SpotInterruption; Your Spot Task was interrupted." in failure
    )


def test_a_callback_that_fails_does_not_fail_the_run(done: Done) -> None:
    assert done.state("redshift-no-slack") == "success"
    assert done.messages("redshift-no-slack") == []
    assert "No message was sent to Slack: ConnectionError" in done.output
    assert "not-a-secret" not in done.output


def test_ssm_is_asked_when_a_task_runs(done: Done, aws: Aws) -> None:
    outputs = aws.outputs()
    (asked,) = done.asked("ssm", "GetParameters")
    assert all(name.startswith(outputs["parameter_prefix"]) for name in asked["Names"])
    assert sent(done, "ssm") == dbt_build(outputs)


def test_the_database_is_made_once(done: Done, aws: Aws) -> None:
    database = done_database(done, aws)
    assert done.tasks("athena-new")["create_database"] == "success"
    assert done.tasks("athena-again")["create_database"] == "skipped"
    assert queries(done, "athena-new")[0] == f"CREATE DATABASE IF NOT EXISTS `{database}`"
    for run, count in (("athena-new", 5), ("athena-again", 4)):
        assert len(queries(done, run)) == count
        first, second, view, export = queries(done, run)[-4:]
        assert {_first_line(first), _first_line(second)} == {
            f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{table}` ("
            for table in ("movies", "ratings")
        }
        assert _first_line(view) == f'CREATE OR REPLACE VIEW "{database}"."movies_of_genre" AS'
        assert f'FROM "{database}"."movies_of_genre"' in export
        assert {call["WorkGroup"] for call in done.asked(run, "StartQueryExecution")} == {
            "dbt-deployment-dev"
        }
        assert aws.outputs()["data_lake_bucket"] in first + second


def test_the_genre_is_a_variable_and_its_quote_stays_in_the_literal(done: Done) -> None:
    literal = {"2.10": "'Comedy'", "3": "'Children''s / Family'"}[done.version]
    assert f"contains(split(movies.genres, '|'), {literal})" in queries(done, "athena-new")[-2]


def test_the_export_is_moved_and_nothing_is_left_behind(done: Done, aws: Aws) -> None:
    bucket = aws.outputs()["data_lake_bucket"]
    export = {"2.10": "comedy", "3": "children's---family"}[done.version]
    assert aws.get(bucket, f"exports/{export}.csv").decode() == CSV
    assert aws.keys(bucket, f"staging/{export}/") == []


def test_emr_runs_hive_and_trino_on_a_cluster_of_its_own(done: Done, aws: Aws) -> None:
    assert done.state("emr") == "success", done.output
    outputs = aws.outputs()
    (started,) = done.asked("emr", "RunJobFlow")
    assert started["ServiceRole"] == outputs["emr_service_role_arn"]
    assert started["JobFlowRole"] == outputs["emr_instance_profile"]
    assert started["Instances"]["Ec2SubnetId"] in outputs["private_subnet_ids"]
    assert started["Instances"]["TerminationProtected"] is False
    assert started["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert started["LogUri"] == f"s3://{outputs['data_lake_bucket']}/emr/logs/"
    tags = {tag["Key"]: tag["Value"] for tag in started["Tags"]}
    assert tags == outputs["tags"]
    # Another environment in this account may have a run with the same id.
    stack = f"{outputs['tags']['project']}-{outputs['tags']['environment']}"
    assert started["Name"].startswith(f"{stack} emr_elt manual__")

    (added,) = done.asked("emr", "AddJobFlowSteps")
    hive, trino = (step["HadoopJarStep"]["Args"] for step in added["Steps"])
    database, lake = outputs["athena_database_name"], outputs["data_lake_bucket"]
    assert hive[:2] == ["hive", "-e"]
    assert f"INSERT OVERWRITE TABLE `{database}`.`typed_ratings`" in hive[2]
    assert f"LOCATION 's3://{lake}/raw/ratings/'" in hive[2]
    assert trino[:3] == ["trino-cli", "--catalog=hive", f"--schema={database}"]
    assert f"external_location = 's3://{lake}/emr/mean_ratings/'" in trino[3]
    assert re.search(r"round\(avg\(rating\), 2\),\s+'\d{4}-\d{2}-\d{2}'", trino[3])
    # Trino does not write to a table with a location, and does not replace rows, unless told so.
    (hive_connector,) = (
        part["Properties"]
        for part in started["Configurations"]
        if part["Classification"] == "trino-connector-hive"
    )
    assert hive_connector["hive.non-managed-table-writes-enabled"] == "true"
    assert hive_connector["hive.insert-existing-partitions-behavior"] == "OVERWRITE"
    assert "DELETE" not in trino[3]
    assert terminated(done, aws, "emr") == 1


def test_a_step_that_fails_fails_the_run_and_the_cluster_goes(done: Done, aws: Aws) -> None:
    assert done.state("emr-step-fails") == "failed"
    tasks = done.tasks("emr-step-fails")
    assert tasks["wait_for_hive"] == "failed"
    assert tasks["wait_for_trino"] == "upstream_failed"
    assert tasks["terminate_cluster"] == "success"
    assert terminated(done, aws, "emr-step-fails") == 1


def test_a_cluster_that_cannot_start_fails_the_run_and_goes(done: Done, aws: Aws) -> None:
    assert done.state("emr-no-cluster") == "failed"
    assert done.tasks("emr-no-cluster")["terminate_cluster"] == "success"
    assert terminated(done, aws, "emr-no-cluster") == 1


def test_a_lost_answer_does_not_start_a_second_cluster(done: Done, aws: Aws) -> None:
    assert done.state("emr-lost-answer") == "success", done.output
    assert len(done.asked("emr-lost-answer", "RunJobFlow")) == 1
    assert terminated(done, aws, "emr-lost-answer") == 1


def terminated(done: Done, aws: Aws, run: str) -> int:
    """How many clusters a run started; each of them is terminated."""
    asked = done.asked(run, "TerminateJobFlows")
    ids = {cluster for call in asked for cluster in call["JobFlowIds"]}
    emr = aws.client("emr")
    states = [
        emr.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]["State"] for cluster in ids
    ]
    assert set(states) <= {"TERMINATING", "TERMINATED"}
    assert len(done.asked(run, "RunJobFlow")) == len(ids)
    return len(ids)


def dbt_build(outputs: dict[str, Any]) -> dict[str, Any]:
    """What a task that runs `dbt build` has to be started with."""
    return {
        "cluster": outputs["ecs_cluster_name"],
        "taskDefinition": outputs["task_definition_arn"],
        "subnets": outputs["private_subnet_ids"],
        "securityGroups": outputs["task_security_group_ids"],
        "name": outputs["container_name"],
        "command": ["dbt", "build"],
    }


def sent(done: Done, run: str) -> dict[str, Any]:
    """What the one task of a run was started with."""
    (body,) = done.asked(run, "RunTask")
    (override,) = body["overrides"]["containerOverrides"]
    network = body["networkConfiguration"]["awsvpcConfiguration"]
    assert body["launchType"] == "FARGATE"
    assert network["assignPublicIp"] == "DISABLED"
    return {
        **{name: body[name] for name in ("cluster", "taskDefinition")},
        **{name: network[name] for name in ("subnets", "securityGroups")},
        **{name: override[name] for name in ("name", "command")},
    }


def command(body: dict[str, Any]) -> list[str]:
    return list(body["overrides"]["containerOverrides"][0]["command"])


def queries(done: Done, run: str) -> list[str]:
    return [body["QueryString"] for body in done.asked(run, "StartQueryExecution")]


def done_database(done: Done, aws: Aws) -> str:
    return VARIABLES[done.version].get("AIRFLOW_VAR_ATHENA_ELT_DATABASE") or str(
        aws.outputs()["athena_database_name"]
    )


def _first_line(sql: str) -> str:
    return sql.splitlines()[0]
