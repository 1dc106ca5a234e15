"""Which models a merge request changes: real dbt in the deployed image and in changed ones."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from cipipe import tree_files
from cipipe.interrupt import Interrupt
from cipipe.model import SCHEMA, Record, State
from cipipe.patterns import Patterns
from cipipe.redact import Redactor
from cipipe.sandbox.client import Sandbox
from cipipe.stages import image
from cipipe.stages.context import StageResult
from cipipe.stages.image import slim
from cipipe.stages.image.dbt_settings import DbtProject
from cipipe.stages.settings import Stage
from cipipe.tools.aws.clients import Aws as AwsClient
from cipipe.tools.aws.credentials import Credentials
from cipipe.tools.aws.endpoint import Endpoint
from cipipe.tools.git.client import Repository
from support.clone import Aws, FirstRun
from support.contexts import stage_context
from support.git import Repo

LARGE = "id,name\n" + "".join(f"{number},{'x' * 60}\n" for number in range(20_000))

# What the deployed project has besides this repository's own files.
OLD = {
    "macros/cents.sql": "{% macro cents(column) %}({{ column }} * 100){% endmacro %}\n",
    "models/marts/by_macro.sql": (
        "select {{ cents('annual_salary') }} as cents from {{ ref('employee') }}\n"
    ),
    "models/marts/below_macro.sql": "select * from {{ ref('by_macro') }}\n",
    "models/marts/by_environment.sql": (
        "{{ config(materialized='table' if target.name == 'live' else 'view',"
        " alias=env_var('SUFFIX', 'none')) }}\nselect 1 as one\n"
    ),
    "models/marts/doomed.sql": "select 1 as one\n",
    "models/marts/old_name.sql": "select 2 as two\n",
    "models/marts/on_large.sql": "select * from {{ ref('large') }}\n",
    "seeds/large.csv": LARGE,
    "seeds/small.csv": "id\n1\n",
}


class Images:
    """Variants of the deployed dbt image, in the sandbox's daemon and registry."""

    def __init__(self, aws: Aws, sandbox: Sandbox, folder: Path) -> None:
        self.aws = aws
        self.sandbox = sandbox
        self.repository = str(aws.outputs()["ecr_repository_url"])
        self.daemon: Any = docker.DockerClient(base_url=sandbox.state.docker_host, version="1.41")
        self.repo = Repo(folder)
        self.base = f"{self.repository}:{aws.record('image')['data']['tag']}"

    def made(self, base: str, files: dict[str, str | None], tag: str) -> str:
        """An image with these files changed; None removes one."""
        kept = {name: text for name, text in files.items() if text is not None}
        gone = [name for name, text in files.items() if text is None]
        lines = [f"FROM {base}", "USER root"]
        lines += ["COPY project/ /project/"] if kept else []
        lines += [f"RUN rm {' '.join(gone)}"] if gone else []
        kept = {f"project/{name}": text for name, text in kept.items()}
        kept["Dockerfile"] = "\n".join([*lines, "USER dbt\n"])
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name, text in kept.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        made.seek(0)
        name = f"{self.repository}:{tag}"
        self.daemon.images.build(fileobj=made, custom_context=True, tag=name)
        return name

    def commit(self, files: dict[str, str | None]) -> str:
        for name, text in files.items():
            path = self.repo.root / "dbt" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        return str(self.repo.commit())


@pytest.fixture(scope="module")
def images(
    deployed: FirstRun, aws: Aws, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Images]:
    made = Images(aws, sandbox, tmp_path_factory.mktemp("project"))
    yield made
    made.daemon.close()


@pytest.fixture(scope="module")
def before(images: Images) -> Record:
    """The record of the deployed project."""
    name = images.made(images.base, dict(OLD), "0" * 19 + "1")
    images.daemon.images.push(name, auth_config={"username": "AWS", "password": "x"})
    digests = images.daemon.images.get(name).attrs["RepoDigests"]
    (digest,) = (one.partition("@")[2] for one in digests if one.startswith(images.repository))
    commit = images.commit(dict(OLD))
    data = {"repository": images.repository, "tag": "0" * 19 + "1", "digest": digest}
    return Record(
        schema=SCHEMA,
        stage="image",
        fingerprint="0" * 64,
        effective=None,
        state=State.DEPLOYED,
        commit=commit,
        ref="main",
        provider="local",
        sequence=None,
        pipeline_url=None,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:00:00+00:00",
        data=data,
    )


def compared(images: Images, before: Record, files: dict[str, str | None]) -> dict[str, Any]:
    """The stage's findings for a commit that changes these files."""
    fingerprint = f"{abs(hash(tuple(files))):064x}"
    images.made(str(images.repository + ":" + before.data["tag"]), files, fingerprint[:20])
    commit = images.commit(files)
    repository = Repository(images.repo.root, os.environ)
    tree = repository.objects([f"{commit}^{{tree}}"])[0]
    assert tree is not None
    keys = images.sandbox.admin_of("111111111111")
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, None)
    stage = Stage(
        "image",
        "image",
        image.Settings(
            context="dbt",
            repository=images.repository,
            dbt=DbtProject(target="duckdb", environment={"SUFFIX": "same"}),
        ),
        ("dbt/**",),
    )
    lines: list[str] = []
    context = stage_context(
        stage=stage,
        repository=repository,
        commit=commit,
        entries=tree_files.files(repository, tree.oid, Patterns(stage.paths)),
        fingerprint=fingerprint,
        aws=AwsClient(Endpoint("eu-central-1", images.sandbox.state.aws_url), credentials),
        child_env={**os.environ, "DOCKER_HOST": str(images.sandbox.state.docker_host)},
        redactor=Redactor(),
        line=lines.append,
        previous=before,
        interrupt=Interrupt(),
    )
    result = StageResult()
    slim.compare(context, result)
    return {"summary": result.summary, **result.findings["models"]}


def names(ids: list[str]) -> set[str]:
    """The names in unique ids, without generic tests, which have a hash."""
    return {".".join(one.split(".")[::2][:2]) for one in ids if not one.startswith("test.")}


def test_no_change_is_no_change(images: Images, before: Record) -> None:
    found = compared(images, before, {"README.md": "new\n"})
    assert found == {
        "summary": "no model changes",
        "modified": (),
        "downstream": (),
        "deleted": (),
    }


def test_each_kind_of_change_marks_exactly_its_models(images: Images, before: Record) -> None:
    found = compared(
        images,
        before,
        {
            "macros/cents.sql": OLD["macros/cents.sql"].replace("100", "1000"),
            "seeds/small.csv": "id\n2\n",
            "seeds/large.csv": LARGE.replace("x", "y", 1),
            "models/marts/doomed.sql": None,
            "models/marts/old_name.sql": None,
            "models/marts/new_name.sql": OLD["models/marts/old_name.sql"],
        },
    )
    assert names(found["modified"]) == {
        "model.by_macro",
        "model.new_name",
        "seed.large",
        "seed.small",
    }
    assert names(found["downstream"]) == {"model.below_macro", "model.on_large"}
    assert names(found["deleted"]) == {"model.doomed", "model.old_name"}
    assert found["summary"].startswith("dbt: 4 modified, 2 downstream, 2 deleted")
