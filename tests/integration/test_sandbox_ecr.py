"""ECR in the sandbox: moto's repositories, images in a real registry."""

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.sandbox import Sandbox, SandboxOptions, attached, needs
from cipipe.sandbox.images import dockerd
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.registry import login as registry_login

ACCOUNT = "111111111111"
REGION = "eu-central-1"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if needs.registry_program(os.environ) is None:
        missing("docker-registry")
    folder = tmp_path_factory.mktemp("sandbox")
    with attached(
        SandboxOptions(directory=folder, account_id=ACCOUNT), env=dict(os.environ), say=print
    ) as running:
        yield running


@pytest.fixture
def aws(sandbox: Sandbox) -> Aws:
    return Aws(sandbox.endpoint(REGION), sandbox.admin)


@pytest.fixture
def repository(aws: Aws) -> str:
    name = f"group/{uuid.uuid4().hex}"
    aws.call("ecr", "create_repository", repositoryName=name)
    return name


def push(sandbox: Sandbox, repository: str, tag: str | None, content: bytes = b"content") -> str:
    """Push an image of one layer as docker does; gives its digest."""

    def blob(data: bytes) -> dict[str, Any]:
        started = http.request(
            "POST", f"http://{sandbox.state.registry}/v2/{repository}/blobs/uploads/"
        )
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = started.headers["location"]
        done = http.request(
            "PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", body=data
        )
        assert done.status == 201
        return {"size": len(data), "digest": digest}

    layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", **blob(content)}
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", **blob(b"{}")}
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    ).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    url = f"http://{sandbox.state.registry}/v2/{repository}/manifests/{tag or digest}"
    done = http.request("PUT", url, headers={"Content-Type": MANIFEST}, body=body)
    if done.status == 400:
        raise Refused(done.json()["errors"][0])
    assert done.status == 201
    return digest


class Refused(Exception):
    """The registry did not take a manifest; its argument is the registry's error."""


def in_registry(sandbox: Sandbox, repository: str, reference: str) -> bool:
    url = f"http://{sandbox.state.registry}/v2/{repository}/manifests/{reference}"
    return http.request("HEAD", url, headers={"Accept": MANIFEST}).status == 200


def test_uris_name_the_registry_and_arns_keep_the_account(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    (found,) = aws.call("ecr", "describe_repositories", repositoryNames=[repository])[
        "repositories"
    ]
    assert found["repositoryUri"] == f"{sandbox.state.registry}/{repository}"
    assert found["repositoryArn"] == f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}"
    assert found["registryId"] == ACCOUNT


def test_who_speaks_tls_learns_that_it_is_http(sandbox: Sandbox) -> None:
    # Docker tries TLS first, and falls back if the answer looks like HTTP.
    host, _, port = str(sandbox.state.registry).partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\n")
        assert connection.recv(5) == b"HTTP/"


def test_the_login_is_for_the_registry_and_holds_for_hours(sandbox: Sandbox, aws: Aws) -> None:
    (found,) = aws.call("ecr", "get_authorization_token")["authorizationData"]
    assert found["proxyEndpoint"] == f"http://{sandbox.state.registry}"
    assert base64.b64decode(found["authorizationToken"]).startswith(b"AWS:")
    assert 11 < (found["expiresAt"] - datetime.now(UTC)).total_seconds() / 3600 <= 12


def test_images_are_listed_and_described(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    assert aws.call("ecr", "list_images", repositoryName=repository)["imageIds"] == []
    tagged = push(sandbox, repository, "one")
    assert push(sandbox, repository, "two") == tagged
    untagged = push(sandbox, repository, None, b"other content")
    listed = aws.call("ecr", "list_images", repositoryName=repository)["imageIds"]
    assert listed == [
        {"imageDigest": tagged, "imageTag": "one"},
        {"imageDigest": tagged, "imageTag": "two"},
        {"imageDigest": untagged},
    ]
    only = aws.call(
        "ecr", "list_images", repositoryName=repository, filter={"tagStatus": "UNTAGGED"}
    )["imageIds"]
    assert only == [{"imageDigest": untagged}]
    details = aws.call("ecr", "describe_images", repositoryName=repository)["imageDetails"]
    assert {(d["imageDigest"], tuple(d.get("imageTags", ()))) for d in details} == {
        (tagged, ("one", "two")),
        (untagged, ()),
    }
    (one,) = aws.call(
        "ecr", "describe_images", repositoryName=repository, imageIds=[{"imageTag": "one"}]
    )["imageDetails"]
    assert one["imageSizeInBytes"] == len(b"content") + 2
    assert one["imageManifestMediaType"] == MANIFEST
    assert abs((one["imagePushedAt"] - datetime.now(UTC)).total_seconds()) < 60


def test_a_manifest_comes_as_it_was_pushed(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    digest = push(sandbox, repository, "one")
    answer = aws.call(
        "ecr",
        "batch_get_image",
        repositoryName=repository,
        imageIds=[{"imageTag": "one"}, {"imageTag": "none"}],
    )
    (image,) = answer["images"]
    assert image["imageId"] == {"imageDigest": digest, "imageTag": "one"}
    assert f"sha256:{hashlib.sha256(image['imageManifest'].encode()).hexdigest()}" == digest
    (failure,) = answer["failures"]
    assert failure["failureCode"] == "ImageNotFound"


@pytest.mark.parametrize("reference", ["tag", "digest", "both"])
def test_deleting_deletes_in_the_registry(
    sandbox: Sandbox, aws: Aws, repository: str, reference: str
) -> None:
    digest = push(sandbox, repository, "one")
    names = {"tag": {"imageTag": "one"}, "digest": {"imageDigest": digest}}
    identifier = names.get(reference, names["tag"] | names["digest"])
    answer = aws.call("ecr", "batch_delete_image", repositoryName=repository, imageIds=[identifier])
    assert answer["imageIds"] == [{"imageDigest": digest, "imageTag": "one"}]
    assert answer["failures"] == []
    assert not in_registry(sandbox, repository, "one")
    assert not in_registry(sandbox, repository, digest)
    assert push(sandbox, repository, "one") == digest
    assert in_registry(sandbox, repository, "one")


def test_deleting_one_of_two_tags_keeps_the_image(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    digest = push(sandbox, repository, "one")
    push(sandbox, repository, "two")
    answer = aws.call(
        "ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageTag": "one"}]
    )
    assert answer["imageIds"] == [{"imageDigest": digest, "imageTag": "one"}]
    assert not in_registry(sandbox, repository, "one")
    assert in_registry(sandbox, repository, "two")
    answer = aws.call(
        "ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageDigest": digest}]
    )
    assert answer["imageIds"] == [{"imageDigest": digest, "imageTag": "two"}]
    assert not in_registry(sandbox, repository, "two")


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        ({"imageTag": "none"}, "ImageNotFound"),
        ({"imageDigest": "sha256:" + "0" * 64}, "ImageNotFound"),
        ({"imageTag": "one", "imageDigest": "sha256:" + "0" * 64}, "ImageTagDoesNotMatchDigest"),
        ({}, "MissingDigestAndTag"),
    ],
)
def test_what_cannot_be_deleted_is_a_failure(
    sandbox: Sandbox, aws: Aws, repository: str, identifier: dict[str, str], code: str
) -> None:
    push(sandbox, repository, "one")
    answer = aws.call("ecr", "batch_delete_image", repositoryName=repository, imageIds=[identifier])
    assert answer["imageIds"] == []
    assert [failure["failureCode"] for failure in answer["failures"]] == [code]
    assert in_registry(sandbox, repository, "one")


@pytest.mark.parametrize(
    "operation", ["list_images", "describe_images", "batch_get_image", "batch_delete_image"]
)
def test_a_repository_that_is_not_there(aws: Aws, operation: str) -> None:
    arguments = {"imageIds": [{"imageTag": "one"}]} if operation.startswith("batch") else {}
    with pytest.raises(AwsError) as caught:
        aws.call("ecr", operation, repositoryName="no/such", **arguments)
    assert caught.value.code == "RepositoryNotFoundException"


def test_an_image_that_is_not_there(aws: Aws, repository: str) -> None:
    with pytest.raises(AwsError) as caught:
        aws.call(
            "ecr", "describe_images", repositoryName=repository, imageIds=[{"imageTag": "none"}]
        )
    assert caught.value.code == "ImageNotFoundException"


def test_a_repository_with_images_is_deleted_by_force_only(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    digest = push(sandbox, repository, "one")
    with pytest.raises(AwsError) as caught:
        aws.call("ecr", "delete_repository", repositoryName=repository)
    assert caught.value.code == "RepositoryNotEmptyException"
    aws.call("ecr", "delete_repository", repositoryName=repository, force=True)
    assert not in_registry(sandbox, repository, digest)


def test_an_empty_repository_is_deleted(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    push(sandbox, repository, "one")
    aws.call("ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageTag": "one"}])
    aws.call("ecr", "delete_repository", repositoryName=repository)


def test_docker_pushes_to_the_repository_uri(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    env = {**os.environ, **sandbox.child_env()}
    if not shutil.which("docker") or not dockerd.answers(env):
        missing("docker")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("hello")
        archive.addfile(entry, io.BytesIO())
    (found,) = aws.call("ecr", "describe_repositories", repositoryNames=[repository])[
        "repositories"
    ]
    name = f"{found['repositoryUri']}:one"
    subprocess.run(
        ["docker", "import", "-", name],
        env=env,
        input=tar.getvalue(),
        check=True,
        capture_output=True,
    )
    subprocess.run(["docker", "push", name], env=env, check=True, capture_output=True)
    (details,) = aws.call("ecr", "describe_images", repositoryName=repository)["imageDetails"]
    assert details["imageTags"] == ["one"]
    subprocess.run(["docker", "image", "rm", name], env=env, check=True, capture_output=True)


def test_an_extra_tag_names_an_image_that_is_there(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    """Whether the content was pushed now or long ago, and again after it was moved."""
    old, new = (
        push(sandbox, repository, "a" * 20, b"old"),
        push(sandbox, repository, "b" * 20, b"new"),
    )
    found = registry_login.login(aws, f"{sandbox.state.registry}/{repository}", Redactor())
    for digest in (old, old, new, old):
        found.retag(digest, "latest")
        assert found.digest("latest") == digest
    assert found.tags() == ["a" * 20, "b" * 20, "latest"]
    assert found.digest("absent") is None
    with pytest.raises(StageError) as caught:
        found.retag(f"sha256:{'0' * 64}", "latest")
    assert caught.value.id == "registry-image-missing"


def mutability(aws: Aws, repository: str, value: str, *excluded: str) -> None:
    filters = [{"filterType": "WILDCARD", "filter": pattern} for pattern in excluded]
    more = {"imageTagMutabilityExclusionFilters": filters} if filters else {}
    aws.call(
        "ecr",
        "put_image_tag_mutability",
        repositoryName=repository,
        imageTagMutability=value,
        **more,
    )


def test_a_tag_of_an_immutable_repository_is_not_moved(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    mutability(aws, repository, "IMMUTABLE")
    first = push(sandbox, repository, "v1", b"one")
    assert push(sandbox, repository, "v1", b"one") == first, "the same image may come again"
    with pytest.raises(Refused) as caught:
        push(sandbox, repository, "v1", b"two")
    assert caught.value.args[0] == {
        "code": "TAG_INVALID",
        "message": f"The image tag 'v1' already exists in the '{repository}' repository "
        "and cannot be overwritten because the repository is immutable.",
    }
    second = push(sandbox, repository, "v2", b"two")
    assert push(sandbox, repository, None, b"three")
    found = registry_login.login(aws, f"{sandbox.state.registry}/{repository}", Redactor())
    assert (found.digest("v1"), found.digest("v2")) == (first, second)
    with pytest.raises(StageError):
        found.retag(second, "v1")
    aws.call("ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    assert push(sandbox, repository, "v1", b"two") == second, (
        "a tag that is gone may be given again"
    )


def test_a_tag_moves_again_when_the_repository_is_mutable(
    sandbox: Sandbox, aws: Aws, repository: str
) -> None:
    mutability(aws, repository, "IMMUTABLE")
    push(sandbox, repository, "v1", b"one")
    mutability(aws, repository, "MUTABLE")
    assert push(sandbox, repository, "v1", b"two") != push(sandbox, repository, "v1", b"one")


@pytest.mark.parametrize(
    ("value", "moves", "stays"),
    [
        ("IMMUTABLE_WITH_EXCLUSION", ("latest", "dev-1"), ("v1", "my-dev-1", "latest.1")),
        ("MUTABLE_WITH_EXCLUSION", ("v1", "my-dev-1", "latest.1"), ("latest", "dev-1")),
    ],
)
def test_an_exclusion_turns_the_rule_round(
    sandbox: Sandbox,
    aws: Aws,
    repository: str,
    value: str,
    moves: tuple[str, ...],
    stays: tuple[str, ...],
) -> None:
    mutability(aws, repository, value, "latest", "dev-*")
    for tag in (*moves, *stays):
        push(sandbox, repository, tag, b"one")
    for tag in moves:
        push(sandbox, repository, tag, b"two")
    for tag in stays:
        with pytest.raises(Refused):
            push(sandbox, repository, tag, b"two")


def test_two_that_race_for_a_tag(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    mutability(aws, repository, "IMMUTABLE")

    def attempt(number: int) -> bool:
        try:
            push(sandbox, repository, "v1", f"content {number}".encode())
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_a_layer_of_many_megabytes_passes(sandbox: Sandbox, aws: Aws, repository: str) -> None:
    content = os.urandom(1 << 20) * 64
    digest = push(sandbox, repository, "large", content)
    layer = f"sha256:{hashlib.sha256(content).hexdigest()}"
    url = f"http://{sandbox.state.registry}/v2/{repository}/blobs/{layer}"
    assert hashlib.sha256(http.request("GET", url).body).hexdigest() == layer[7:]
    assert in_registry(sandbox, repository, digest)
