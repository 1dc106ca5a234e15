"""Which images a build's layers come from, generation after generation."""

import hashlib
import json
from typing import Any

import pytest

from cipipe.stages.image.layers import layer_sources
from cipipe.tools.registry.client import Manifest


class Registry:
    """Images by their digest: the layers of each."""

    def __init__(self, **images: str) -> None:
        self.images = images
        self.asked: list[str] = []

    def manifest(self, digest: str) -> Manifest | None:
        self.asked.append(digest)
        if digest not in self.images:
            return None
        layers = [{"digest": hashlib.sha256(x.encode()).hexdigest()} for x in self.images[digest]]
        return Manifest(json.dumps({"layers": layers}).encode(), "x", digest)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # Base, dependencies, files: only the files change.
        ({"a": "bd1", "b": "bd2", "c": "bd3"}, ("a",)),
        # The dependencies changed once.
        ({"a": "bd1", "b": "be2", "c": "be3"}, ("a", "b")),
        # Everything changed with the base: the first image has nothing left.
        ({"a": "bd1", "b": "ce2", "c": "ce3"}, ("b",)),
        # Nothing in common.
        ({"a": "bd1", "b": "be1", "c": "xyz"}, ()),
        # The first image was deleted: what it had is found in the next.
        ({"b": "bd2", "c": "bd3"}, ("b",)),
    ],
)
def test_each_layer_is_found_where_it_was_built(
    images: dict[str, str], expected: tuple[str, ...]
) -> None:
    registry: Any = Registry(**images)
    assert layer_sources(registry, "c", ("a", "b")) == expected


def test_an_image_is_no_source_of_itself() -> None:
    registry: Any = Registry(a="bd1", c="bd3")
    assert layer_sources(registry, "c", ("c", "a")) == ("a",)
    assert registry.asked == ["c", "a"]


def test_no_image_is_read_once_all_layers_are_found() -> None:
    registry: Any = Registry(a="bd3", b="bd2", c="bd3")
    assert layer_sources(registry, "c", ("a", "b")) == ("a",)
    assert registry.asked == ["c", "a"]


def test_an_index_has_no_layers() -> None:
    class Index(Registry):
        def manifest(self, digest: str) -> Manifest | None:
            return Manifest(b'{"manifests": []}', "x", digest)

    registry: Any = Index()
    assert layer_sources(registry, "c", ("a", "b")) == ()
