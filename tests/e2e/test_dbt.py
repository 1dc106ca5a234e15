"""The dbt project on real dbt and DuckDB, in a copy, so that seeds can be changed."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.tools import ROOT, VENVS, require

QUERY = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(json.dumps(connection.execute(sys.argv[2]).fetchall(), default=str))
"""


DEV = {"DBT_ENVIRONMENT": "dev", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


@dataclass(frozen=True)
class Project:
    folder: Path
    bin: Path

    def dbt(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("DBT_")
        }
        return subprocess.run(
            [self.bin / "dbt", "--no-use-colors", *arguments],
            cwd=self.folder,
            env={**inherited, **DEV, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str) -> None:
        done = self.dbt(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def query(self, sql: str) -> list[list[Any]]:
        command = [str(self.bin / "python"), "-c", QUERY, str(self.folder / "emp.duckdb"), sql]
        rows: list[list[Any]] = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        return rows

    def edit(self, seed: str, old: str, new: str) -> None:
        path = self.folder / "seeds" / seed
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    dbt = require(VENVS / "dbt/bin/dbt", "running the dbt project")
    ignore = shutil.ignore_patterns("target", "logs", "dbt_packages", "*.duckdb*", ".user.yml")
    return Project(Path(shutil.copytree(ROOT / "dbt", tmp_path / "dbt", ignore=ignore)), dbt.parent)


def test_snapshots_keep_history(project: Project) -> None:
    project.run("seed")
    project.run("run", "--select", "emp_fact")
    project.run("test", "--select", "+emp_fact")
    project.run("snapshot")
    employees = project.query("select count(*) from employee")
    assert project.query("select count(*) from emp_fact") == employees
    assert project.query("select count(*), count(dbt_valid_to) from scd_emp") == [
        [*employees[0], 0]
    ]

    project.run("snapshot")
    assert project.query("select count(*), count(dbt_valid_to) from scd_emp") == [
        [*employees[0], 0]
    ]

    project.edit("employee.csv", "69000.00", "74000.00")
    project.edit(
        "employee_department.csv",
        "7,30,Recruiter,2022-05-16,\n",
        "7,40,Account Manager,2026-01-01,\n",
    )
    project.edit("employee_department.csv", "8,20,Accountant,2023-10-01,\n", "")
    project.edit(
        "employee.csv", "8,Hugo,Lindqvist,hugo.lindqvist@example.com,2023-10-01,59800.00\n", ""
    )
    project.run("build")

    history = project.query(
        "select employee_id, department_name, annual_salary, dbt_valid_to is null from scd_emp"
        " where employee_id in (4, 7, 8) order by employee_id, dbt_valid_from"
    )
    assert history == [
        [4, "Engineering", "69000.00", False],
        [4, "Engineering", "74000.00", True],
        [7, "People", "64300.00", False],
        [7, "Sales", "64300.00", True],
        [8, "Finance", "59800.00", False],
    ]
    untouched = (
        "select count(*), count(distinct employee_id), count(dbt_valid_to) "
        "from scd_emp where employee_id not in (4, 7, 8)"
    )
    assert project.query(untouched) == [[employees[0][0] - 3, employees[0][0] - 3, 0]]
    successors = (
        "select count(*) from scd_emp old join scd_emp new on new.employee_id = old.employee_id"
        " and new.dbt_valid_from = old.dbt_valid_to"
    )
    assert project.query(successors) == [[2]]


def test_bad_data_never_reaches_the_history(project: Project) -> None:
    project.edit(
        "employee_department.csv",
        "2,20,Accountant,2018-09-15,2021-12-31\n",
        "2,20,Accountant,2018-09-15,\n",
    )

    done = project.dbt("build")

    assert done.returncode == 1
    assert "FAIL 1 unique_emp_fact_employee_id" in done.stdout
    assert "SKIP relation main.scd_emp" in done.stdout


@pytest.mark.parametrize(
    ("environment", "user", "schema"),
    [
        ("dev", "", "main"),
        ("live", "", "main"),
        ("", "", "main_sandbox"),
        ("review-7", "", "main_sandbox"),
        ("dev", "Ada O'Kafor", "main_ada_o_kafor"),
        ("laptop", "ada", "main_sandbox_ada"),
    ],
)
def test_schemas_of_different_people_are_different(
    project: Project, environment: str, user: str, schema: str
) -> None:
    done = project.dbt(
        "--quiet",
        "ls",
        "--select",
        "emp_fact",
        "--resource-type",
        "model",
        "--output",
        "json",
        "--output-keys",
        "schema",
        DBT_ENVIRONMENT=environment,
        DBT_SCHEMA_USER=user,
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"schema": schema}


@pytest.mark.parametrize(("age", "status"), [("1 hour", 0), ("3 days", 1)])
def test_old_data_is_found(project: Project, age: str, status: int) -> None:
    statement = f"""
import duckdb, sys
with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("create schema raw_hr")
    connection.execute(
        "create table raw_hr.load_log as select now() - interval '{age}' as loaded_at"
    )
"""
    python = str(project.bin / "python")
    subprocess.run([python, "-c", statement, str(project.folder / "emp.duckdb")], check=True)
    done = project.dbt("source", "freshness", HR_SCHEMA="raw_hr")
    assert done.returncode == status, done.stdout
    assert ("PASS freshness of hr.load_log" in done.stdout) is (status == 0)


def test_without_a_loader_nothing_is_checked(project: Project) -> None:
    done = project.dbt("source", "freshness")
    assert done.returncode == 0, done.stdout


def test_the_target_is_chosen_by_variable(project: Project) -> None:
    done = project.dbt("parse", DBT_TARGET="nowhere")

    assert done.returncode == 2
    assert "does not have a target named 'nowhere'" in done.stdout


@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("snowflake", ["ACCOUNT", "USER", "ROLE", "WAREHOUSE", "DATABASE"]),
        ("redshift", ["HOST", "USER", "DATABASE"]),
    ],
)
def test_a_warehouse_is_set_up_by_variables(
    project: Project, target: str, variables: list[str]
) -> None:
    settings = {f"{target.upper()}_{name}": "x" for name in variables} | {
        "DBT_ENV_SECRET_PASSWORD": "not-shown"
    }

    incomplete = project.dbt("parse", DBT_TARGET=target)
    assert incomplete.returncode == 2
    assert "Env var required but not provided" in incomplete.stdout

    done = project.dbt("parse", "--log-level", "debug", DBT_TARGET=target, **settings)
    assert done.returncode == 0, done.stdout
    assert f"Registered adapter: {target}=" in done.stdout
    assert "not-shown" not in done.stdout
