"""A merge request's look at the dbt project, with a Docker that is scripted."""

import gzip
import json
from typing import Any

import pytest

from cipipe.errors import CipipeError, StageError, UsageError
from cipipe.interrupt import Interrupt
from cipipe.model import SCHEMA, Mode, Record, State
from cipipe.redact import Redactor
from cipipe.stages import image
from cipipe.stages.context import StageResult
from cipipe.stages.image import (
    attached_manifest,
    attaching,
    dbt_runs,
    deployed_project,
    slim,
    slim_build,
)
from cipipe.stages.image.dbt_settings import DbtBuild, DbtDefer, DbtProject
from cipipe.stages.image.steps import build_steps
from cipipe.stages.settings import Reference, Stage
from cipipe.tools.docker.probe import ProbeResult
from cipipe.tools.registry import attach
from support.contexts import stage_context

PASSWORD = "h0rse-7f3e91"
MANIFEST = {
    "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
    "nodes": {"model.a": {"fqn": ["a"]}, "seed.s": {"fqn": ["p", "s"]}},
    "child_map": {"model.a": []},
}
RESULTS = {
    "results": [
        {"unique_id": "model.a", "status": "success", "message": "OK"},
        {"unique_id": "test.a", "status": "fail", "message": f"Got 1\nresult {PASSWORD}"},
        {"unique_id": "model.b", "status": "skipped", "message": None},
    ]
}
PROJECT = DbtProject(
    target="duckdb",
    environment={"A": "1"},
    build=DbtBuild(
        defer=DbtDefer(target="live", environment={"SCHEMA": "emp"}),
        target="ci",
        environment={"A": "2"},
        secrets={"PASSWORD": "WAREHOUSE_PASSWORD"},
        network="host",
        timeout=60,
    ),
)


class Docker:
    """Answers each of dbt's commands, and remembers how it was run."""

    def __init__(self, **answers: ProbeResult) -> None:
        parsed = ProbeResult(0, "", json.dumps(MANIFEST).encode())
        listed = ProbeResult(0, '{"unique_id": "model.a"}\n', None)
        built = ProbeResult(0, "", json.dumps({"results": RESULTS["results"][:1]}).encode())
        self.answers = {"parse": parsed, "ls": listed, "build": built, **answers}
        self.runs: list[tuple[str, dict[str, Any]]] = []
        self.pulled: list[str] = []

    def probe(self, image: str, **given: Any) -> ProbeResult:
        self.runs.append((image, given))
        return self.answers[given["argv"][1]]

    def pull(self, reference: str, **_: Any) -> None:
        self.pulled.append(reference)

    def of(self, command: str) -> list[dict[str, Any]]:
        return [given for _, given in self.runs if given["argv"][1] == command]


class Attached:
    """What is attached to the deployed image: the bodies by key, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: dict[str, bytes] = {}
        self.error: CipipeError | None = None
        monkeypatch.setattr(attach, "attached", self.attached)
        monkeypatch.setattr(attach, "read", lambda _, __, found, most: self.bodies[found.digest])
        monkeypatch.setattr(attach, "attach", self.attach)

    def attached(self, _: Any, __: str, type: str) -> list[attach.Attached]:
        if self.error:
            raise self.error
        if type != attached_manifest.MEDIA_TYPE:
            return []
        return [attach.Attached(key, {attached_manifest.PARSED_WITH: key}) for key in self.bodies]

    def attach(self, _: Any, __: str, documents: list[attach.Attachment]) -> None:
        if self.error:
            raise self.error
        for document in documents:
            self.bodies[document.annotations[attached_manifest.PARSED_WITH]] = document.body


class World:
    """A deployed image and a new one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.docker = Docker()
        self.attached = Attached(monkeypatch)
        self.lines: list[str] = []
        self.dbt = PROJECT
        self.env = {"WAREHOUSE_PASSWORD": PASSWORD}
        self.result = StageResult()
        self.previous: Record | None = record()
        for module in (dbt_runs, deployed_project, attaching):
            monkeypatch.setattr(module, "daemon", lambda _: self.docker)
        login = type("Login", (), {"username": "u", "password": "p", "repository": "r.test/app"})
        monkeypatch.setattr(deployed_project, "registry_of", lambda *_: login)
        monkeypatch.setattr(attaching, "registry", lambda _: login)

    def context(self) -> Any:
        settings = image.Settings(context="app", repository="r.test/app", dbt=self.dbt)
        return stage_context(
            stage=Stage("image", "image", settings),
            fingerprint="f" * 64,
            entries=(),
            child_env=self.env,
            redactor=Redactor(),
            line=self.lines.append,
            interrupt=Interrupt(),
            previous=self.previous,
        )

    def compare(self) -> slim.Comparison | None:
        return slim.compare(self.context(), self.result)

    def build(self) -> None:
        slim_build.build(self.context(), self.result, self.compare())


def record() -> Record:
    return Record(
        schema=SCHEMA,
        stage="image",
        fingerprint="0" * 64,
        effective=None,
        state=State.DEPLOYED,
        commit="c" * 40,
        ref="main",
        provider="local",
        sequence=None,
        pipeline_url=None,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:00:00+00:00",
        data={"repository": "r.test/app", "tag": "t", "digest": "sha256:1"},
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_an_attached_manifest_saves_the_pull(world: World) -> None:
    packed = gzip.compress(json.dumps(MANIFEST).encode())
    world.attached.bodies[dbt_runs.compared(PROJECT).key] = packed
    assert world.compare() is not None
    assert world.docker.pulled == []
    assert "took the manifest that is attached to the deployed image" in world.lines
    assert world.result.summary == "dbt: 1 modified"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "has no manifest with these settings attached: parsing its project"),
        (b"damaged", "cannot be used (it is damaged"),
    ],
)
def test_without_a_good_one_the_deployed_image_is_parsed(
    world: World, body: bytes | None, why: str
) -> None:
    if body is not None:
        world.attached.bodies[dbt_runs.compared(PROJECT).key] = body
    world.compare()
    assert world.docker.pulled == ["r.test/app@sha256:1"]
    assert any(why in line for line in world.lines)
    assert world.result.summary == "dbt: 1 modified"


def test_a_registry_that_refuses_leads_to_a_pull(world: World) -> None:
    world.attached.error = StageError("registry-refused", "403")
    world.compare()
    assert world.docker.pulled == ["r.test/app@sha256:1"]
    assert any("cannot be used (403)" in line for line in world.lines)


def test_the_build_gets_what_its_settings_say(world: World) -> None:
    world.build()
    (built,) = world.docker.of("build")
    argv = list(built["argv"])
    assert argv[:4] == ["dbt", "build", "--select", "state:modified+"]
    assert {"--defer", "--favor-state", "--defer-state", "--state"} <= set(argv)
    assert PASSWORD not in " ".join(argv)
    environment = built["environment"]
    assert (environment["A"], environment["DBT_TARGET"]) == ("2", "ci")
    assert environment["PASSWORD"] == PASSWORD
    assert (built["network"], built["timeout"], built["shown"]) == ("host", 60, True)
    assert world.result.summary == "dbt: 1 modified; built: 1 success"
    assert world.result.findings["build"] == {"success": 1}

    # Whatever parses has neither the network nor the secret.
    parsed = world.docker.of("parse")
    assert [one["environment"].get("DBT_TARGET") for one in parsed] == [
        "duckdb",
        "duckdb",
        "ci",
        "live",
    ]
    assert [one["environment"].get("SCHEMA") for one in parsed] == [None, None, None, "emp"]
    for other in [*parsed, *world.docker.of("ls")]:
        assert PASSWORD not in str(other)
        assert "network" not in other
    assert len(world.docker.pulled) == 1


def test_a_secret_is_masked_in_the_error(world: World) -> None:
    failed = ProbeResult(1, "", json.dumps(RESULTS).encode())
    world.docker.answers["build"] = failed
    with pytest.raises(StageError) as caught:
        world.build()
    assert caught.value.id == "image-models-build-failed"
    first, *rest = caught.value.message.splitlines()
    assert first.endswith("exited with status 1: 1 fail, 1 skipped, 1 success")
    assert rest == ["fail   test.a: Got 1 result [redacted]"]


@pytest.mark.parametrize("file", [None, b"{}", b"[", b'{"results": 1}'])
def test_a_build_without_results_quotes_its_last_lines(world: World, file: bytes | None) -> None:
    world.docker.answers["build"] = ProbeResult(0, f"no host for {PASSWORD}", file)
    with pytest.raises(StageError) as caught:
        world.build()
    assert "no host for [redacted]" in caught.value.message


def test_a_build_that_takes_too_long_says_so(world: World) -> None:
    world.docker.answers["build"] = ProbeResult(137, "", None, timed_out=True)
    with pytest.raises(StageError, match="took too long"):
        world.build()


def test_nothing_is_built_where_nothing_changed(world: World) -> None:
    world.docker.answers["ls"] = ProbeResult(0, "", None)
    world.build()
    assert world.docker.of("build") == []
    assert "nothing is built: the merge request neither adds nor changes a node" in world.lines
    assert "build" not in world.result.findings


def test_nothing_is_built_where_nothing_is_deployed(world: World) -> None:
    world.previous = None
    world.build()
    assert world.docker.of("build") == []
    assert world.result.summary == "built; every model is new"
    assert any(line.startswith("nothing is built: no relations") for line in world.lines)


def test_nothing_is_built_before_the_outputs_are_known(world: World) -> None:
    build = DbtBuild(defer=DbtDefer(), environment={"HOST": Reference(output="host")})
    world.dbt = DbtProject(build=build)
    world.build()
    assert world.docker.of("build") == []
    assert "nothing is built: the output host is not known yet" in world.lines


def test_a_secret_that_is_not_set_is_named_before_dbt_runs(world: World) -> None:
    world.env = {}
    with pytest.raises(UsageError) as caught:
        world.build()
    assert caught.value.id == "image-secret-missing"
    assert caught.value.where == "stages.image.dbt.build.secrets.PASSWORD"
    assert world.docker.of("build") == []


def test_large_seeds_are_selected_by_name(world: World) -> None:
    found = world.compare()
    assert found is not None
    with_seed = slim.Comparison(
        found.deployed, found.manifest, found.changes, frozenset({"seed.s"})
    )
    slim_build.build(world.context(), world.result, with_seed)
    (built,) = world.docker.of("build")
    assert built["argv"][3:5] == ["state:modified+", "fqn:p.s+"]


def test_a_deployment_attaches_what_merge_requests_parse_with(world: World) -> None:
    attaching.attach_documents(world.context(), "sha256:1", built=True)
    wanted = [dbt_runs.compared(PROJECT)]
    assert PROJECT.build is not None
    wanted += [dbt_runs.built(PROJECT, PROJECT.build), dbt_runs.deferred(PROJECT, PROJECT.build)]
    assert list(world.attached.bodies) == [parsing.key for parsing in wanted]

    # A merge request then pulls nothing.
    world.build()
    assert world.docker.pulled == []


def test_an_image_that_exists_is_not_pulled_for_its_manifest(world: World) -> None:
    attaching.attach_documents(world.context(), "sha256:1", built=False)
    assert (world.docker.runs, world.docker.pulled) == ([], [])


def test_a_project_that_cannot_be_parsed_is_deployed(world: World) -> None:
    world.docker.answers["parse"] = ProbeResult(2, "Env var required: HOST", None)
    attaching.attach_documents(world.context(), "sha256:1", built=True)
    assert world.attached.bodies == {}
    assert any(line.startswith("warning: no manifest is attached") for line in world.lines)
    assert "Env var required: HOST" in world.lines


def test_a_manifest_that_cannot_be_attached_is_a_warning(world: World) -> None:
    world.attached.error = StageError("registry-tag-immutable", "tags are immutable")
    attaching.attach_documents(world.context(), "sha256:1", built=True)
    assert world.lines == [
        "warning: the manifest of the dbt project is not attached: tags are immutable"
    ]


@pytest.mark.parametrize(
    ("environment", "secrets", "count"),
    [
        ({}, {"PASSWORD": "WAREHOUSE_PASSWORD"}, 0),
        ({}, {"PASSWORD": "s3cret!"}, 1),
        ({}, {"A-B": "WAREHOUSE_PASSWORD"}, 1),
        ({"PASSWORD": "x"}, {"PASSWORD": "WAREHOUSE_PASSWORD"}, 1),
    ],
)
def test_secrets_are_names_of_variables(
    environment: dict[str, Any], secrets: dict[str, str], count: int
) -> None:
    build = DbtBuild(defer=DbtDefer(), environment=environment, secrets=secrets)
    settings = image.Settings(context="app", repository="r", dbt=DbtProject(build=build))
    found = list(image.problems(Stage("image", "image", settings)))
    assert [one.id for one in found] == ["config-bad-secret"] * count
    assert all(one.where == f"dbt.build.secrets.{name}" for one in found for name in secrets)


def test_the_plan_says_that_a_merge_request_writes_to_the_warehouse() -> None:
    settings = image.Settings(context="app", repository="r.test/app", dbt=PROJECT)
    stage = Stage("image", "image", settings)
    titles = [step.title for step in image.steps(stage, Mode.VERIFY, tag="0" * 20)]
    assert titles[-1] == "`dbt build` what changed, which writes to the warehouse: dbt's target ci"
    # `cipipe image build` does not.
    built = [step.title for step in build_steps(stage, tag="0" * 20)]
    assert built == [f"docker build app/ as r.test/app:{'0' * 20}"]
    deploy = [step.title for step in image.steps(stage, Mode.DEPLOY, tag="0" * 20)]
    assert deploy[-1] == "attach the manifest of its dbt project"
