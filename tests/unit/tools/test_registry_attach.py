"""Attaching a document to an image, in a repository that is a dictionary."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import cast

import pytest

from cipipe.errors import StageError
from cipipe.tools.registry.attach import attach, is_attached
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

    def manifest(self, reference: str) -> Manifest | None:
        return self.manifests.get(reference)

    def put_manifest(self, reference: str, manifest: Manifest) -> None:
        self.puts.append(reference)
        self.manifests[reference] = manifest

    def put_blob(self, body: bytes) -> str:
        self.blobs[_digest(body)] = body
        return _digest(body)


@pytest.fixture
def stored() -> _Stored:
    return _Stored(manifests={_IMAGE.digest: _IMAGE})


def _of(stored: _Stored) -> Registry:
    return cast(Registry, stored)


def _entries(stored: _Stored) -> list[dict[str, object]]:
    return list(stored.manifests[_TAG].document()["manifests"])


def test_the_index_leads_to_the_document(stored: _Stored) -> None:
    assert not is_attached(_of(stored), _IMAGE.digest, _TYPE)
    attach(_of(stored), _IMAGE.digest, _TYPE, b'{"a":1}')
    assert is_attached(_of(stored), _IMAGE.digest, _TYPE)

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
    attach(_of(stored), _IMAGE.digest, _TYPE, b"{}")
    attach(_of(stored), _IMAGE.digest, _TYPE, b"{}")
    assert stored.puts.count(_TAG) == 1
    assert len(_entries(stored)) == 1


def test_what_others_attached_stays(stored: _Stored) -> None:
    other = {"mediaType": _DOCKER, "digest": _digest(b"x"), "size": 1, "artifactType": "text/x"}
    body = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [other]}).encode()
    stored.manifests[_TAG] = Manifest(body, _INDEX, _digest(body))
    assert not is_attached(_of(stored), _IMAGE.digest, _TYPE)
    attach(_of(stored), _IMAGE.digest, _TYPE, b"{}")
    assert [entry["artifactType"] for entry in _entries(stored)] == ["text/x", _TYPE]


def test_an_image_under_the_reserved_tag_is_not_replaced(stored: _Stored) -> None:
    stored.manifests[_TAG] = _IMAGE
    with pytest.raises(StageError) as caught:
        attach(_of(stored), _IMAGE.digest, _TYPE, b"{}")
    assert caught.value.id == "registry-attached-foreign"
    assert stored.puts == []


def test_an_image_that_is_gone_gets_nothing(stored: _Stored) -> None:
    del stored.manifests[_IMAGE.digest]
    with pytest.raises(StageError) as caught:
        attach(_of(stored), _IMAGE.digest, _TYPE, b"{}")
    assert caught.value.id == "registry-image-missing"
    assert stored.puts == []
