"""The DAGs in `dags/`: which files are helpers, what each DAG file documents, and its markers."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from cipipe.stages.dags.files import in_order, is_dag
from cipipe.stages.dags.markers.scan import scan

DAGS = Path(__file__).resolve().parents[3] / "dags"
FILES = {
    "athena_elt.py",
    "dbt_redshift.py",
    "dbt_snowflake_scd2.py",
    "dbt_ssm.py",
    "emr_elt.py",
}


def bodies() -> dict[str, bytes]:
    found = (path for path in DAGS.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(DAGS).as_posix(): path.read_bytes() for path in found}


def test_helpers_and_queries_are_uploaded_before_the_dags() -> None:
    helpers, dags = in_order(bodies())
    assert set(dags) == FILES
    assert {
        "dbt_deployment/fargate.py",
        "dbt_deployment/operators.py",
        "sql/athena_elt_export.sql",
    } <= set(helpers)


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_dag_explains_itself_and_its_markers_are_sound(name: str) -> None:
    source = bodies()[name]
    assert is_dag(name, source)
    explanation = ast.get_docstring(ast.parse(source)) or ""
    assert all(
        f"**{word}**" in explanation
        for word in ("What it shows.", "How it is configured.", "What it needs.")
    )

    # At least a region and one more value come from Terraform in every DAG.
    found = scan(source, name)
    assert found.problems == ()
    assert len(found.targets) == len(found.markers) >= 2
    assert b'schedule="@daily"' in source


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_terraform_knows_is_marked(name: str) -> None:
    """Every marker names an output that `terraform/outputs.tf` declares."""
    outputs = (DAGS.parent / "terraform/outputs.tf").read_text()
    for marker in scan(bodies()[name], name).markers:
        assert f'output "{marker.output}" {{' in outputs


def test_the_dags_are_checked_for_the_airflow_version_in_terraform() -> None:
    root = DAGS.parent
    declared = tomllib.loads((root / "cipipe.toml").read_text())["stages"]["dags"]
    variables = (root / "terraform/variables.tf").read_text()
    made = re.search(r'variable "mwaa_airflow_version" \{[^}]*?default *= "([^"]+)"', variables)
    assert made is not None
    assert declared["airflow_version"] == made[1]
    assert (
        f'output "{declared["mwaa_environment"]["output"]}" {{'
        in (root / "terraform/outputs.tf").read_text()
    )
    # A variable file would override the default, and the two would differ.
    assert not any(
        "mwaa_airflow_version" in path.read_text()
        for path in (root / "terraform/environments").iterdir()
    )
