"""The image stage by the command line: real Docker, a real registry, two accounts of a sandbox."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipipe.redact import Redactor
from cipipe.tools.registry import login
from cipipe.tools.registry.client import Manifest
from cipipe.tools.registry.copy import attached_tag
from support.image_project import ACCOUNTS, AUTH, BASE, DOCKERFILE, LEDGER, ImageProject
from support.tls_daemon import TlsDaemon
from support.tools import require


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageProject]:
    require("dockerd", "building images")
    require("docker-registry", "pushing images")
    made = ImageProject.create(tmp_path_factory.mktemp("image") / "shop")
    yield made
    made.cipipe("sandbox", "down")


def test_the_same_content_is_built_once(project: ImageProject) -> None:
    project.change()
    first = project.run_in("dev")
    assert first.status == 0, first.text
    assert "RUN echo installing" in first.err
    record = project.record()
    assert list(project.images()) == [record["data"]["digest"]]

    again = project.run_in("dev", "--force", "image")
    assert again.status == 0, again.text
    assert "nothing to build" in again.err
    assert "RUN echo installing" not in again.err
    assert project.record()["data"] == record["data"]


def test_a_revert_finds_its_image(project: ImageProject) -> None:
    """As a job in CI, with a token. Nothing that takes long is loaded."""
    found = []
    for text in ("echo before\n", "echo after\n"):
        project.write("app/run.sh", text)
        done = project.run_in("dev")
        assert done.status == 0, done.text
        found.append(project.record()["data"]["digest"])
    project.write("app/run.sh", "echo before\n")

    sandbox = project.sandbox()
    token = sandbox.mint(
        project="group/shop", ref="main", ref_type="branch", audience="https://gitlab.com"
    )
    job = {
        **sandbox.child_env(),
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_REF_NAME": "main",
        "AWS_ID_TOKEN": token,
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    done = project.cipipe("run", "image", "--env", "dev", "--format", "json", **job)
    assert done.status == 0, done.text
    assert "nothing to build" in done.err
    record = project.record()
    assert (record["state"], record["data"]["digest"]) == ("deployed", found[0])
    assert record["provider"] == "gitlab"
    outputs = project.client("s3").get_object(
        Bucket=LEDGER.format(account=ACCOUNTS["dev"]), Key="ledger/shop/dev/image.outputs.json"
    )
    assert found[0].encode() in outputs["Body"].read()

    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.err.splitlines()
        if line.startswith("import time:")
    }
    assert "urllib3" in loaded
    assert loaded.isdisjoint({"boto3", "botocore", "docker", "requests", "cryptography"})


def test_other_stages_get_its_digest(project: ImageProject) -> None:
    project.configure(
        """
[stages.use]
kind = "command"
paths = ["app/**"]
needs = ["image"]
run = [["sh", "-c", "echo uses $IMAGE"]]
env = { IMAGE = { output = "image.uri" } }
"""
    )
    project.change()
    done = project.run_in("dev")
    assert done.status == 0, done.text
    uri = f"{project.registry}/shop-dev@{project.record()['data']['digest']}"
    assert f"uses {uri}" in done.err
    # Nothing is due, and what it used is known from the ledger.
    again = project.run_in("dev")
    results = {stage["name"]: stage["result"] for stage in json.loads(again.out)["stages"]}
    assert results == {"image": "unchanged", "use": "unchanged"}, again.text
    project.configure()


def test_a_scan_is_waited_for(project: ImageProject) -> None:
    project.configure('scan = { severity = "critical" }\n')
    project.change()
    done = project.run_in("dev")
    assert done.status == 0, done.text
    assert "scan: nothing found" in done.err
    project.configure()


def test_an_empty_daemon_takes_layers_from_the_deployed_image(project: ImageProject) -> None:
    project.change()
    assert project.run_in("dev").status == 0
    project.empty_daemon()
    project.change()
    done = project.run_in("dev")
    assert done.status == 0, done.text
    assert "RUN echo installing && echo installed > /installed (cached)" in done.err
    assert "COPY . /app/ (" in done.err
    assert "COPY . /app/ (cached)" not in done.err

    # So does the build after it, though the image that is deployed now was not built for these
    # layers.
    root = project.record()["data"]["layers_from"]
    project.empty_daemon()
    project.change()
    done = project.run_in("dev")
    assert done.status == 0, done.text
    assert "RUN echo installing && echo installed > /installed (cached)" in done.err
    assert project.record()["data"]["layers_from"] == root

    # The contents are those of the commit.
    digest = project.record()["data"]["digest"]
    client = project.daemon()
    image = client.images.pull(f"{project.registry}/shop-dev@{digest}")
    printed = client.containers.run(image.id, ["/bin/sh", "/app/run.sh"], remove=True)
    client.close()
    assert printed == f"{project.count}\n".encode()


def test_a_base_image_that_moved_is_drift(project: ImageProject) -> None:
    project.client("ecr").create_repository(repositoryName="shop-base")
    base = f"{project.registry}/shop-base"
    client = project.daemon()
    client.images.get(BASE).tag(base, "1")
    client.images.push(base, tag="1", auth_config=AUTH)
    client.close()
    project.write("app/Dockerfile", DOCKERFILE.replace(BASE, f"{base}:1"))
    done = project.run_in("dev")
    assert done.status == 0, done.text

    repository = login.other(base, **AUTH, ca_bundle=None, redactor=Redactor())
    pushed = repository.manifest("1")
    assert pushed is not None
    assert project.record()["data"]["bases"] == {f"{base}:1": pushed.digest}
    command = ("drift", "--sandbox", "--env", "dev", "--format", "json")
    same = project.cipipe(*command)
    assert same.status == 0, same.text

    body = json.dumps({**pushed.document(), "annotations": {"newer": "yes"}}).encode()
    repository.put_manifest("1", Manifest(body, pushed.media_type, ""))
    drifted = project.cipipe(*command)
    assert drifted.status == 6, drifted.text
    (finding,) = drifted.document["findings"]
    assert (finding["kind"], finding["what"]) == ("base-moved", f"{base}:1")
    assert (finding["expected"], finding["actual"]) == (pushed.digest, repository.digest("1"))
    project.write("app/Dockerfile", DOCKERFILE)


STAGES = f"""\
FROM {BASE} AS slow
COPY slow.txt /slow.txt
RUN echo installing && echo installed > /installed
FROM {BASE}
COPY --from=slow /installed /installed
COPY . /app/
"""


def test_a_cache_image_keeps_the_layers_of_all_build_stages(tmp_path: Path) -> None:
    # Only a daemon with containerd's image store writes one.
    store = {"containerd-snapshotter": True}
    daemon = TlsDaemon(require("dockerd", "building images"), tmp_path, features=store)
    daemon.start()
    daemon.import_base(BASE)
    project = ImageProject.create(tmp_path / "shop", **daemon.env)
    try:
        project.write("app/Dockerfile", STAGES)
        project.configure(f'cache_image = "{project.registry}/shop-dev:cache"\n')
        first = project.run_in("dev")
        assert first.status == 0, first.text
        assert "nothing is written" not in first.err
        assert "cache" in project.tags()

        with contextlib.closing(daemon.client()) as client:
            client.api._post(client.api._url("/build/prune?all=true"))
        project.change()
        second = project.run_in("dev")
        assert second.status == 0, second.text
        assert "RUN echo installing && echo installed > /installed (cached)" in second.err
    finally:
        project.cipipe("sandbox", "down")
        daemon.stop()


def test_the_earlier_environments_image_is_copied(project: ImageProject) -> None:
    project.change()
    early = project.run_in("live")
    assert early.status == 5
    assert "not-in-earlier-environment" in early.err + early.out

    assert project.run_in("dev").status == 0
    # No daemon is needed: nothing is built.
    done = project.run_in("live", DOCKER_HOST="tcp://127.0.0.1:9")
    assert done.status == 0, done.text
    assert "docker build" not in done.err
    dev, live = project.record("dev"), project.record("live")
    assert live["data"]["digest"] == dev["data"]["digest"]
    assert live["data"]["repository"].endswith("/shop-live")
    assert live["data"]["tag"] in project.images("live")[dev["data"]["digest"]]


def test_a_secret_of_the_build_is_in_no_layer(project: ImageProject) -> None:
    secret = "s3-" + "quite-secret" * 2
    dockerfile = (project.folder / "app/Dockerfile").read_text()
    use = 'test -s /run/secrets/token && read T < /run/secrets/token; echo "got $T"'
    project.write(
        "app/Dockerfile", f"{dockerfile}RUN --mount=type=secret,id=token {use} > /dev/null; {use}\n"
    )
    project.configure('secrets = { token = "BUILD_TOKEN" }\n')
    missing = project.run_in("dev")
    assert missing.status == 4
    assert "image-secret-missing" in missing.text

    done = project.run_in("dev", BUILD_TOKEN=secret)
    assert done.status == 0, done.text
    assert "  got " in done.err
    assert secret not in done.text
    client = project.daemon()
    name = f"{project.registry}/shop-dev:{project.record()['data']['tag']}"
    image = client.images.get(name)
    assert secret not in str(client.api.inspect_image(name)) + str(image.history())
    assert secret.encode() not in b"".join(image.save())
    client.close()

    project.configure()
    project.write("app/Dockerfile", dockerfile)


def test_build_needs_no_aws_and_pushes_nothing(project: ImageProject) -> None:
    project.change()
    before = project.images()
    built = project.cipipe("image", "build", "--format", "json", "--sandbox", "--env", "dev")
    assert built.status == 0, built.text
    client = project.daemon()
    assert client.images.get(built.document["name"]).id == built.document["id"]
    host = str(project.sandbox().state.docker_host)
    client.close()
    alone = project.cipipe("image", "build", "--format", "json", "--env", "dev", DOCKER_HOST=host)
    assert alone.status == 0, alone.text
    assert alone.document["tag"] == built.document["tag"]
    assert project.images() == before


def test_verify_finds_a_planted_difference(project: ImageProject) -> None:
    project.change()
    assert project.run_in("dev").status == 0
    arguments = ("image", "verify", "--sandbox", "--env", "dev")
    same = project.cipipe(*arguments, "--format", "json")
    assert same.status == 0, same.text
    assert same.document["differences"] == []
    assert same.document["files"] > 5

    # Somebody moves the tag to an image that has one more line.
    data = project.record()["data"]
    client = project.daemon()
    name = f"{project.registry}/shop-dev:{data['tag']}"
    container = client.containers.create(name, ["/bin/sh", "-c", "echo evil >> /app/run.sh"])
    container.start()
    container.wait()
    planted = container.commit(repository=f"{project.registry}/shop-dev", tag="planted")
    container.remove()
    client.images.push(f"{project.registry}/shop-dev", tag="planted", auth_config=AUTH)
    (digest,) = (digest for digest, tags in project.images().items() if tags == ["planted"])
    client.images.remove(planted.id, force=True)
    client.close()
    project.replace_record({**data, "digest": digest})

    found = project.cipipe(*arguments, "--format", "json")
    assert found.status == 4
    changes = {(one["name"], one["change"]) for one in found.document["differences"]}
    assert ("app/run.sh", "content") in changes
    text = project.cipipe(*arguments)
    assert text.status == 4
    assert "content       app/run.sh" in text.out
    assert "[image-differs]" in text.err
    project.replace_record(data)


def test_prune_keeps_what_is_needed(project: ImageProject) -> None:
    project.configure("keep = { days = 0, count = 2 }\nsbom = true\n")
    tags = []
    attached = []
    for _ in range(4):
        project.change()
        assert project.run_in("dev").status == 0
        tags.append(project.record()["data"]["tag"])
        attached.append(attached_tag(project.record()["data"]["digest"]))
    # A task still runs the first one.
    ecs = project.client("ecs")
    ecs.register_task_definition(
        family="other",
        containerDefinitions=[
            {"name": "dbt", "image": f"{project.registry}/shop-dev:{tags[0]}", "memory": 128}
        ],
    )
    arguments = ("image", "prune", "--sandbox", "--env", "dev", "--format", "json")
    planned = project.cipipe(*arguments, "--dry-run")
    assert planned.status == 0, planned.text
    assert tags[1] in planned.document["deleted"]
    assert tags[1] in project.tags()

    done = project.cipipe(*arguments, "--yes")
    assert done.status == 0, done.text
    assert done.document["deleted"] == planned.document["deleted"]
    kept = {one["tag"]: one["why"] for one in done.document["kept"]}
    expected = {tags[0]: "running", tags[2]: "rollback", tags[3]: "deployed"}
    # Also the images that layers of the deployed one were built for.
    digests = {tag: digest for digest, named in project.images().items() for tag in named}
    sources = {tag for tag, why in kept.items() if why == "cache"}
    assert {digests[tag] for tag in sources} == set(project.record()["data"]["layers_from"])
    assert kept == {**expected, **dict.fromkeys(sources, "cache")}
    assert set(tags) & set(project.tags()) == set(expected)
    # What is attached to an image goes with it.
    assert set(attached) & set(project.tags()) == {attached[0], attached[2], attached[3]}
    assert "planted" in done.document["foreign"]
    assert "planted" in project.tags()
    assert project.record()["data"]["offered_since"] == done.document["offered_since"]

    # What is deployed is still deployed, and nothing is due.
    again = project.run_in("dev")
    assert again.results()["image"] == "unchanged"
    project.configure()


def test_the_list_of_components_goes_along(project: ImageProject) -> None:
    folder = "usr/lib/python3/site-packages/requests-2.32.0.dist-info"
    dockerfile = (project.folder / "app/Dockerfile").read_text()
    project.write("app/METADATA", "Name: requests\nVersion: 2.32.0\n")
    project.write("app/Dockerfile", f"{dockerfile}COPY METADATA /{folder}/METADATA\n")
    project.configure()
    assert project.run_in("dev").status == 0
    digest = project.record()["data"]["digest"]
    assert project.attached(digest) == []

    # The image exists: it is pulled for its list. The setting is not part of the content.
    project.configure("sbom = true\n")
    project.empty_daemon()
    late = project.run_in("dev", "--force", "image")
    assert late.status == 0, late.text
    assert project.record()["data"]["digest"] == digest
    assert f"attached the list of 1 components to {digest}" in late.err

    # Built, pushed and attached in one run, and copied.
    project.change()
    assert project.run_in("dev").status == 0
    assert project.run_in("live").status == 0
    digest = project.record("live")["data"]["digest"]
    for environment in ("dev", "live"):
        (body,) = project.attached(digest, environment)
        document = json.loads(body)
        assert document["bomFormat"] == "CycloneDX"
        assert document["metadata"]["component"]["version"] == digest
        assert [one["purl"] for one in document["components"]] == ["pkg:pypi/requests@2.32.0"]

    again = project.run_in("dev", "--force", "image")
    assert again.status == 0, again.text
    assert f"{digest} has the list of its components already" in again.err
    project.write("app/Dockerfile", dockerfile)
    project.configure()
