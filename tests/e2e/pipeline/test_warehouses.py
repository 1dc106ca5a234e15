"""The dbt image with all adapters, on a Redshift (PostgreSQL) and a Snowflake (fakesnow).

cipipe builds it from the repository's own configuration, with more adapters.
"""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from cipipe.sandbox.client import Sandbox
from support import warehouses
from support.clone import Clone
from support.dbt_container import DbtImage, Ended

ADAPTERS = "dbt-duckdb dbt-redshift dbt-snowflake"
# Without docs: the catalog is read from tables that only Redshift and Snowflake have.
STEPS = "debug --connection, seed, run, snapshot, test"


@pytest.fixture(scope="module")
def image(clone: Clone, sandbox: Sandbox) -> Iterator[DbtImage]:
    text = (clone.folder / "cipipe.toml").read_text()
    (clone.folder / ".cipipe/all-adapters.toml").write_text(
        text.replace("build_args = {", f'build_args = {{ DBT_ADAPTERS = "{ADAPTERS}",')
    )
    config = ("--config", ".cipipe/all-adapters.toml")
    built = clone.cipipe("image", "build", *config, "--sandbox", "--env", "dev", "--format", "json")
    assert built.status == 0, built.text
    engine: Any = docker.DockerClient(base_url=sandbox.state.docker_host, version="1.41")
    yield DbtImage(
        engine=engine,
        image=built.document["name"],
        environment={"DBT_ENVIRONMENT": "dev", "DBT_STEPS": STEPS},
    )
    engine.images.remove(built.document["name"], force=True)
    engine.close()


def changed(
    image: DbtImage, variables: dict[str, str], *, steps: str = "", macros: str = ""
) -> Ended:
    """Run the steps again, with a seed in which one salary has changed, and more macros."""
    engine = image.engine
    old = engine.containers.create(image.image)
    stream, _ = old.get_archive("/project/seeds")
    seeds = b"".join(stream).replace(b"69000.00", b"74000.00")
    old.remove(v=True)
    container = engine.containers.create(
        image.image,
        network_mode="host",
        environment={
            **image.environment,
            **variables,
            "DBT_STEPS": f"seed, run, snapshot{steps}",
        },
    )
    container.put_archive("/project", seeds)
    container.put_archive("/project/macros", _packed("more.sql", macros))
    container.start()
    return image.wait(container)


def _packed(name: str, text: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(text.encode())
        archive.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


def test_redshift(image: DbtImage) -> None:
    with warehouses.redshift() as variables:
        first = image.run(**variables)
        assert first.status == 0, first.text
        assert set(first.steps().values()) == {"ok"}
        assert "any-password" not in first.text
        second = changed(image, variables)
        assert second.status == 0, second.text
        rows = warehouses.query(
            variables,
            "select count(*), count(dbt_valid_to) from emp.scd_emp where employee_id = 4",
        )
        assert rows == "2|1"


def test_snowflake(image: DbtImage) -> None:
    with warehouses.snowflake() as variables:
        steps = "debug --connection, seed, run, snapshot, test --exclude-resource-type unit_test"
        done = image.run(**variables, DBT_STEPS=steps)
        assert done.status == 0, done.text
        assert set(done.steps().values()) == {"ok"}
        assert "Registered adapter: snowflake=" in done.text

        versions = (
            "select count(*) || ' rows with ' || count(dbt_valid_to) || ' closed' as versions"
            " from {{ ref('scd_emp') }} where employee_id = 4"
        )
        second = changed(
            image,
            variables,
            steps=f', show --output json --inline "{versions}"',
            macros=warehouses.FAKESNOW_MACROS,
        )
        assert second.status == 0, second.text
        assert "2 rows with 1 closed" in second.text
