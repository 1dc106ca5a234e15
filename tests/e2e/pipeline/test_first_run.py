"""The main job, from the OIDC token to the uploaded DAG, and what AWS shows afterwards."""

import ast
import json
import subprocess
import urllib.parse
import urllib.request
from typing import Any

import pytest

from cipipe.sandbox.client import Sandbox
from support.clone import Aws, Clone, FirstRun


def test_every_stage_is_done(first_run: FirstRun) -> None:
    done = first_run.outcome
    assert done.results() == {
        "iac": "done",
        "image": "done",
        "dags": "done",
        "default": "unchanged",
    }
    assert "aws_ecs_cluster.this: Creating..." in done.err  # terraform's progress
    assert "RUN useradd --uid 10001 --create-home dbt (" in done.err  # the build's
    assert ": Pushed" in done.err  # the push's


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("athena_elt", 4),
        ("dbt_redshift", 8),
        ("dbt_snowflake_scd2", 7),
        ("dbt_ssm", 2),
        ("emr_elt", 7),
    ],
)
def test_a_dag_is_the_source_with_exactly_the_literals_replaced(
    deployed: FirstRun, clone: Clone, sandbox: Sandbox, aws: Aws, name: str, count: int
) -> None:
    values = _terraform_outputs(clone, sandbox)
    source = (clone.folder / f"dags/{name}.py").read_bytes()
    stored = aws.get(values["dags_bucket"], f"dags/{name}.py")
    lines = list(zip(source.splitlines(), stored.splitlines(), strict=True))
    marked = [(old, new) for old, new in lines if b"# cipipe:" in old]
    assert len(marked) == count
    assert all(old == new for old, new in lines if b"# cipipe:" not in old)
    for old, new in marked:
        output = old.rpartition(b"# cipipe:")[2].strip().decode()
        before, literal = _split(new.decode())
        assert before == _split(old.decode())[0]
        assert ast.literal_eval(literal) == values[output]


def test_helpers_are_uploaded_before_the_dags(first_run: FirstRun) -> None:
    lines = first_run.outcome.err.splitlines()
    uploaded = [line.rpartition(" ")[2] for line in lines if " uploaded dags/" in line]
    dags = {f"dags/{name}" for name in first_run.dag_files}
    assert len(uploaded) > len(dags) > 0
    assert set(uploaded[-len(dags) :]) == dags


def test_the_registry_holds_the_image_that_the_task_definition_names(
    deployed: FirstRun, sandbox: Sandbox, aws: Aws
) -> None:
    outputs = aws.outputs()
    described = aws.client("ecs").describe_task_definition(
        taskDefinition=outputs["task_definition_arn"]
    )
    image = described["taskDefinition"]["containerDefinitions"][0]["image"]
    repository, tag = image.rsplit(":", 1)
    host, name = repository.split("/", 1)
    assert repository == outputs["ecr_repository_url"]
    assert host == sandbox.state.registry
    with urllib.request.urlopen(f"http://{host}/v2/{name}/tags/list") as answer:
        assert tag in json.load(answer)["tags"]
    assert aws.record("image")["data"]["tag"] == tag


def test_the_ledger_says_deployed(first_run: FirstRun) -> None:
    for record in first_run.records.values():
        assert record["state"] == "deployed"
        assert record["commit"] == first_run.commit


def test_sts_was_called_with_a_token_that_the_issuer_signed(
    first_run: FirstRun, sandbox: Sandbox
) -> None:
    exchanges = first_run.exchanges
    assert exchanges
    assert all(entry["verified"] for entry in exchanges)
    assert exchanges[0]["sub"] == "project_path:example/dbt-deployment:ref_type:branch:ref:main"
    document = _issuer(sandbox, "/.well-known/openid-configuration")
    assert document["issuer"] == exchanges[0]["issuer"] == "https://gitlab.com"
    keys = _issuer(sandbox, urllib.parse.urlsplit(document["jwks_uri"]).path)
    assert exchanges[0]["kid"] in {key["kid"] for key in keys["keys"]}


def _issuer(sandbox: Sandbox, path: str) -> dict[str, Any]:
    """A document of the issuer, which stands in for gitlab.com and knows it by the Host header."""
    request = urllib.request.Request(
        sandbox.state.issuer_url + path, headers={"Host": "gitlab.com"}
    )
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


def _terraform_outputs(clone: Clone, sandbox: Sandbox) -> dict[str, Any]:
    """What `terraform output` itself says, with the state that the run left."""
    keys = sandbox.admin_of("111111111111")
    env = {
        **clone.env,
        **sandbox.child_env(),
        **keys.environment(),
        "AWS_REGION": "eu-central-1",
        "TF_DATA_DIR": str(clone.folder / ".cipipe/terraform/dev/iac"),
    }
    done = subprocess.run(
        ["terraform", "output", "-json"],
        cwd=clone.folder / "terraform",
        env=env,
        capture_output=True,
        check=True,
    )
    return {name: output["value"] for name, output in json.loads(done.stdout).items()}


def _split(line: str) -> tuple[str, str]:
    before, _, rest = line.partition(" = ")
    return before, rest.partition("  # cipipe:")[0]
