"""Attaching a document to an image, in a repository that is a dictionary."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from cipipe.errors import StageError
from cipipe.tools.registry.attach import Attachment, attach, attached, read
from cipipe.tools.registry.client import Manifest, Registry
from cipipe.tools.registry.copy import attached_tag

_TYPE = "application/vnd.cyclonedx+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


_IMAGE = Manifest(b'{"layers":[]}', _DOCKER, _digest(b'{"layers":[]}'))
_TAG = attached_tag(_IMAGE.digest)


@dataclass
class _Stored:
    repository: str = "registry.test/shop"
    name: str = "shop"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    immutable: bool = False

    def manifest(self, reference: str) -> Manifest | None:
        return self.manifests.get(reference)

    def put_manifest(self, reference: str, manifest: Manifest) -> None:
        if self.immutable and reference in self.manifests and ":" not in reference:
            raise StageError("registry-tag-immutable", "it may not move")
        self.puts.append(reference)
        self.manifests[reference] = manifest

    def put_blob(self, body: bytes) -> str:
        self.blobs[_digest(body)] = body
        return _digest(body)

    @contextmanager
    def blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        body = self.blobs[digest]
        yield (body[start : start + 3] for start in range(0, len(body), 3))


@pytest.fixture
def stored() -> _Stored:
    return _Stored(manifests={_IMAGE.digest: _IMAGE})


def _of(stored: _Stored) -> Registry:
    return cast(Registry, stored)


def _attach(stored: _Stored, body: bytes) -> None:
    attach(_of(stored), _IMAGE.digest, [Attachment(type=_TYPE, body=body)])


def _entries(stored: _Stored) -> list[dict[str, object]]:
    return list(stored.manifests[_TAG].document()["manifests"])


def test_the_index_leads_to_the_document(stored: _Stored) -> None:
    assert not attached(_of(stored), _IMAGE.digest, _TYPE)
    _attach(stored, b'{"a":1}')
    assert attached(_of(stored), _IMAGE.digest, _TYPE)

    (entry,) = _entries(stored)
    artifact = stored.manifests[str(entry["digest"])]
    document = artifact.document()
    assert (entry["artifactType"], entry["size"]) == (_TYPE, len(artifact.body))
    assert artifact.digest == _digest(artifact.body)
    assert document["artifactType"] == _TYPE
    assert document["subject"] == {
        "mediaType": _DOCKER,
        "digest": _IMAGE.digest,
        "size": len(_IMAGE.body),
    }
    assert stored.blobs[document["layers"][0]["digest"]] == b'{"a":1}'
    assert stored.blobs[document["config"]["digest"]] == b"{}"


def test_repeating_it_does_not_touch_the_tag(stored: _Stored) -> None:
    _attach(stored, b"{}")
    _attach(stored, b"{}")
    assert stored.puts.count(_TAG) == 1
    assert len(_entries(stored)) == 1


def test_what_others_attached_stays(stored: _Stored) -> None:
    other = {"mediaType": _DOCKER, "digest": _digest(b"x"), "size": 1, "artifactType": "text/x"}
    body = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [other]}).encode()
    stored.manifests[_TAG] = Manifest(body, _INDEX, _digest(body))
    assert not attached(_of(stored), _IMAGE.digest, _TYPE)
    _attach(stored, b"{}")
    assert [entry["artifactType"] for entry in _entries(stored)] == ["text/x", _TYPE]


def test_an_image_under_the_reserved_tag_is_not_replaced(stored: _Stored) -> None:
    stored.manifests[_TAG] = _IMAGE
    with pytest.raises(StageError) as caught:
        _attach(stored, b"{}")
    assert caught.value.id == "registry-attached-foreign"
    assert stored.puts == []


def test_an_image_that_is_gone_gets_nothing(stored: _Stored) -> None:
    del stored.manifests[_IMAGE.digest]
    with pytest.raises(StageError) as caught:
        _attach(stored, b"{}")
    assert caught.value.id == "registry-image-missing"
    assert stored.puts == []


def test_two_documents_are_in_one_index_that_is_written_once(stored: _Stored) -> None:
    noted = Attachment(type="text/x", body=b"12345", annotations={"with": "a"})
    stored.immutable = True
    attach(_of(stored), _IMAGE.digest, [Attachment(type=_TYPE, body=b"{}"), noted])
    assert [entry["artifactType"] for entry in _entries(stored)] == [_TYPE, "text/x"]
    assert stored.puts.count(_TAG) == 1

    (found,) = attached(_of(stored), _IMAGE.digest, "text/x")
    assert found.annotations == {"with": "a"}
    assert stored.manifests[found.digest].document()["annotations"] == {"with": "a"}
    assert read(_of(stored), _IMAGE.digest, found, most=5) == b"12345"


def test_nothing_is_added_where_tags_are_immutable(stored: _Stored) -> None:
    _attach(stored, b"{}")
    stored.immutable = True
    with pytest.raises(StageError) as caught:
        _attach(stored, b"1")
    assert caught.value.id == "registry-tag-immutable"
    assert "something attached already" in caught.value.message
    assert "`sha256-`" in str(caught.value.hint)
    assert len(_entries(stored)) == 1


def test_a_document_that_is_too_large_is_not_read(stored: _Stored) -> None:
    _attach(stored, b"12345")
    (found,) = attached(_of(stored), _IMAGE.digest, _TYPE)
    with pytest.raises(ValueError, match="has 5 bytes, more than 4"):
        read(_of(stored), _IMAGE.digest, found, most=4)

    # The registry sends more than it has said.
    artifact = stored.manifests[found.digest].document()
    stored.blobs[artifact["layers"][0]["digest"]] = b"1" * 100
    with pytest.raises(ValueError, match="sent more than 50 bytes"):
        read(_of(stored), _IMAGE.digest, found, most=50)


def test_a_document_of_another_image_is_not_read(stored: _Stored) -> None:
    _attach(stored, b"12345")
    (found,) = attached(_of(stored), _IMAGE.digest, _TYPE)
    with pytest.raises(ValueError, match=f"belongs to {_IMAGE.digest}"):
        read(_of(stored), "sha256:" + "0" * 64, found, most=5)


@pytest.mark.parametrize(
    "damaged", [b"{}", b'{"layers":[]}', b'{"layers":{},"subject":1}', b"[]", b"x"]
)
def test_an_artifact_that_is_damaged_is_not_read(stored: _Stored, damaged: bytes) -> None:
    _attach(stored, b"12345")
    (found,) = attached(_of(stored), _IMAGE.digest, _TYPE)
    stored.manifests[found.digest] = Manifest(damaged, _DOCKER, found.digest)
    with pytest.raises((StageError, ValueError)):
        read(_of(stored), _IMAGE.digest, found, most=5)


@pytest.mark.parametrize("entries", [1, [1], [{}], {"a": 1}])
def test_an_index_that_is_damaged_is_an_error(stored: _Stored, entries: object) -> None:
    body = json.dumps({"manifests": entries}).encode()
    stored.manifests[_TAG] = Manifest(body, _INDEX, _digest(body))
    with pytest.raises(StageError) as caught:
        attached(_of(stored), _IMAGE.digest, _TYPE)
    assert caught.value.id == "registry-damaged"
