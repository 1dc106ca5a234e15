"""The manifest of a dbt project that is attached to an image: used, or not, and never wrongly."""

import gzip
import json
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.stages.image import attached_manifest
from cipipe.stages.image.attached_manifest import MEDIA_TYPE, PARSED_WITH, document, manifest_of
from cipipe.stages.image.dbt_runs import Parsed, Parsing
from cipipe.tools.registry import attach
from cipipe.tools.registry.attach import Attached

SCHEMA = "https://schemas.getdbt.com/dbt/manifest/v{}.json"
DIGEST = "sha256:" + "1" * 64
PARSING = Parsing("ci", {"A": "1", "B": "2"})
REGISTRY: Any = None


def packed(document: Any) -> bytes:
    return gzip.compress(json.dumps(document).encode(), mtime=0)


def manifest(version: int) -> dict[str, Any]:
    return {"metadata": {"dbt_schema_version": SCHEMA.format(version)}, "nodes": {"model.a": {}}}


def given(monkeypatch: pytest.MonkeyPatch, body: bytes, key: str = PARSING.key) -> None:
    """An image with a document, parsed with `key`, and one parsed with something else."""
    others = Attached("sha256:other", {PARSED_WITH: "sha256:0"})
    found = Attached("sha256:found", {PARSED_WITH: key})

    def read(_: Any, digest: str, entry: Attached, *, most: int) -> bytes:
        assert (digest, entry) == (DIGEST, found)
        assert len(body) <= most
        return body

    def attached(_: Any, digest: str, media_type: str) -> list[Attached]:
        assert (digest, media_type) == (DIGEST, MEDIA_TYPE)
        return [others, found]

    monkeypatch.setattr(attach, "attached", attached)
    monkeypatch.setattr(attach, "read", read)


def taken(monkeypatch: pytest.MonkeyPatch, body: bytes) -> Any:
    given(monkeypatch, body)
    return manifest_of(REGISTRY, DIGEST, PARSING, manifest(12))


def test_a_manifest_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(manifest(12)).encode()
    made = document(Parsed(body, manifest(12)), PARSING)
    assert made.annotations == {PARSED_WITH: PARSING.key}
    assert made == document(Parsed(body, manifest(12)), PARSING)
    assert taken(monkeypatch, made.body) == manifest(12)


def test_the_key_is_that_of_the_target_and_the_variables() -> None:
    assert Parsing("ci", {"B": "2", "A": "1"}).key == PARSING.key
    others = [
        Parsing(None, PARSING.environment),
        Parsing("dev", PARSING.environment),
        Parsing("ci", {"A": "1"}),
        Parsing("ci", {"A": "2", "B": "1"}),
    ]
    assert len({PARSING.key, *(other.key for other in others)}) == 5


def test_one_that_was_parsed_with_other_settings_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"", key="sha256:1")
    assert manifest_of(REGISTRY, DIGEST, PARSING, manifest(12)) is None


def test_an_older_schema_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(monkeypatch, packed(manifest(11))) == manifest(11)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (packed(manifest(13)), "v13 is newer than v12"),
        (packed({"nodes": {}, "metadata": {}}), "its schema is None"),
        (packed({"nodes": {}, "metadata": []}), "its schema is None"),
        (packed({"nodes": {}}), "its schema is None"),
        (packed([1]), "not a manifest"),
        (gzip.compress(b"{", mtime=0), "not a manifest"),
        (gzip.compress(b"[" * 100_000, mtime=0), "not a manifest"),
        (packed(manifest(12))[:-1], "its end is missing"),
        (b"", "its end is missing"),
        (b"no gzip", "damaged"),
    ],
)
def test_one_that_cannot_be_used_says_why(
    monkeypatch: pytest.MonkeyPatch, body: bytes, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        taken(monkeypatch, body)


def test_one_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached_manifest, "_MOST", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        taken(monkeypatch, gzip.compress(json.dumps(manifest(12)).encode() + b" " * 2000))


def test_a_registry_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise StageError("registry-refused", "no")

    monkeypatch.setattr(attach, "attached", refuse)
    with pytest.raises(StageError):
        manifest_of(REGISTRY, DIGEST, PARSING, manifest(12))
