"""`dbt build` of what a merge request changes: real dbt in the new image, on a Redshift that has
the deployed relations (PostgreSQL in its place).
"""

import contextlib
import json
import signal
import time
from collections.abc import Iterator

import pytest

from cipipe.sandbox.client import Sandbox
from support import warehouses
from support.clone import Clone
from support.dbt_image_project import PASSWORD, DbtImageProject
from support.tools import ROOT

FACT = "models/marts/emp_fact.sql"
SQL = (ROOT / "dbt" / FACT).read_text()
CHANGED = SQL.replace("department.city,\n", "'in ' || department.city as city,\n")
# A test of the model does not allow that.
FAILING = SQL.replace("employee.email,\n", "'same' as email,\n")
assert SQL not in (CHANGED, FAILING)

# In PostgreSQL, which stands in for Redshift.
SLEEPING = "select count(*) as n from pg_sleep(600)\n"

TABLES = (
    "select string_agg(table_name, ',' order by table_name) from information_schema.tables"
    " where table_schema = '{}'"
)


@pytest.fixture(scope="module")
def project(
    clone: Clone, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DbtImageProject]:
    """It is deployed, and so are its relations."""
    assert sandbox.state.docker_host
    with warehouses.redshift() as variables:
        made = DbtImageProject.create(
            tmp_path_factory.mktemp("slim") / "shop", DOCKER_HOST=sandbox.state.docker_host
        )
        try:
            made.fill(clone.env.get("BASE_IMAGE", "python:3.12-slim-bookworm"), variables)
            _deploy(made)
            yield made
        finally:
            made.cipipe("sandbox", "down")


def _deploy(project: DbtImageProject) -> None:
    user = project.warehouse["REDSHIFT_USER"]
    deployed = project.run_in("dev", WAREHOUSE_PASSWORD=PASSWORD, WAREHOUSE_USER=user)
    assert deployed.status == 0, deployed.text
    assert "attached the manifest of its dbt project, target redshift" in deployed.err
    done = project.deployed_image().run(DBT_STEPS="seed, run")
    assert done.status == 0, done.text


def test_what_is_attached_is_copied(project: DbtImageProject) -> None:
    digest = project.record()["data"]["digest"]
    # The list of components; a manifest to compare, one to build, one of the deployed relations.
    attached = project.attached(digest)
    assert len(attached) == 4
    promoted = project.run_in("live")
    assert promoted.status == 0, promoted.text
    assert project.attached(digest, "live") == attached


def test_only_what_changed_is_built_on_deployed_parents(project: DbtImageProject) -> None:
    # No file of the project has this salary.
    warehouses.query(
        project.warehouse, "update emp.employee set annual_salary = 123456 where employee_id = 4"
    )
    # What an earlier build left must not take the place of what is deployed.
    warehouses.query(
        project.warehouse,
        "create schema emp_7; create table emp_7.employee as select * from emp.employee limit 0",
    )

    done = project.merge_request({FACT: CHANGED}, 7)
    assert done.status == 0, done.text
    (stage,) = done.document["stages"]
    modified = stage["findings"]["models"]["modified"]
    assert [name for name in modified if not name.startswith("test.")] == ["model.emp.emp_fact"]
    assert stage["findings"]["build"]["success"] == 3
    assert stage["findings"]["build"]["pass"] >= 5
    assert "; built: " in stage["made"]

    assert warehouses.query(project.warehouse, TABLES.format("emp_7")) == (
        "by_city,emp_fact,employee,scd_emp"
    )
    row = "select annual_salary, city from {}.emp_fact where employee_id = 4"
    salary, city = warehouses.query(project.warehouse, row.format("emp_7")).split("|")
    assert (salary, city[:3]) == ("123456.00", "in ")
    assert warehouses.query(project.warehouse, row.format("emp")) != f"{salary}|{city}"

    # The manifests of the comparison and of the deployed relations were attached; that of this
    # merge request's schema could not be.
    assert done.err.count("took the manifest that is attached") == 2
    assert done.err.count("has no manifest with these settings attached") == 1
    assert "model emp_7.emp_fact" in done.err


def test_nothing_is_left_of_the_secret(project: DbtImageProject) -> None:
    done = project.merge_request({"models/marts/apart.sql": "select 1 as n\n"}, 8)
    assert done.status == 0, done.text
    assert warehouses.query(project.warehouse, TABLES.format("emp_8")) == "apart"
    assert PASSWORD not in done.text
    daemon = project.daemon()
    containers = daemon.containers.list(all=True)
    inspected = json.dumps([daemon.api.inspect_container(one.id) for one in containers])
    daemon.close()
    assert PASSWORD not in inspected


def test_a_failing_test_fails_the_run(project: DbtImageProject) -> None:
    done = project.merge_request({FACT: FAILING}, 9)
    assert done.status == 4, done.text
    error = done.document["error"]
    assert error["id"] == "image-models-build-failed"
    assert "1 fail, 1 success" in error["message"].splitlines()[0]
    assert "fail   test.emp.unique_emp_fact_email" in error["message"]
    # What is below it was not built.
    assert warehouses.query(project.warehouse, TABLES.format("emp_9")) == "emp_fact"


def left(project: DbtImageProject) -> tuple[str, list[str]]:
    """How many queries still run in the warehouse, and containers of ours."""
    running = (
        "select count(*) from pg_stat_activity"
        " where state = 'active' and query like '%pg_sleep(%' and pid <> pg_backend_pid()"
    )
    with contextlib.closing(project.daemon()) as daemon:
        containers = daemon.containers.list(all=True, filters={"label": "io.cipipe.expires"})
        return warehouses.query(project.warehouse, running), [one.id for one in containers]


def test_ctrl_c_cancels_what_it_builds(project: DbtImageProject) -> None:
    """dbt gets the time to cancel its query in the warehouse."""
    with project.changed({"models/marts/apart.sql": SLEEPING}, 12) as job:
        child = project.start("run", "--sandbox", "--env", "dev", **job)
        assert child.stderr is not None
        seen = []
        for line in child.stderr:
            seen.append(line)
            if "START" in line and "apart" in line:
                break
        else:
            pytest.fail(f"dbt built nothing:\n{''.join(seen)}")
        deadline = time.monotonic() + 30
        while left(project)[0] == "0":
            assert time.monotonic() < deadline, "the query does not run"
            time.sleep(0.2)
        assert len(left(project)[1]) == 1
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "[interrupted]" in err
    assert left(project) == ("0", [])
    assert PASSWORD not in "".join(seen) + err


def test_a_build_that_takes_too_long_is_cancelled(project: DbtImageProject) -> None:
    config = project.folder / "cipipe.toml"
    text = config.read_text()
    target = "[stages.image.dbt.build]\n"
    assert target in text
    limited = text.replace(target, f"{target}timeout = 10\n")
    with project.changed({"models/marts/apart.sql": SLEEPING}, 13) as job:
        project.write("cipipe.toml", limited)
        done = project.run_in("dev", **job)
    assert done.status == 4, done.text
    error = done.document["error"]
    assert error["id"] == "image-models-build-failed"
    assert error["message"].startswith("dbt build of what changed took too long")
    assert left(project) == ("0", [])


def test_no_change_builds_nothing(project: DbtImageProject) -> None:
    done = project.merge_request({"README.md": "new\n"}, 10)
    assert done.status == 0, done.text
    assert "nothing is built: the merge request neither adds nor changes a node" in done.err
    assert warehouses.query(project.warehouse, TABLES.format("emp_10")) == ""
    # Nothing was pulled: the one manifest that it needs is attached.
    assert "parsing its project" not in done.err


def test_a_secret_that_is_not_set_is_named(project: DbtImageProject) -> None:
    done = project.merge_request({FACT: CHANGED}, 11, WAREHOUSE_PASSWORD="")
    assert done.status == 4, done.text
    assert done.document["error"]["id"] == "image-secret-missing"
    assert "WAREHOUSE_PASSWORD" in done.document["error"]["message"]
    assert warehouses.query(project.warehouse, TABLES.format("emp_11")) == ""


def test_a_destroy_deletes_what_is_attached(project: DbtImageProject) -> None:
    assert project.tags()
    done = project.cipipe("destroy", "--sandbox", "--env", "dev", "--confirm", "dev")
    assert done.status == 0, done.text
    assert project.tags() == []
