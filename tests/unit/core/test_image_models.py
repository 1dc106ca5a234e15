"""What differs between two manifests, given what dbt says is modified."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cipipe.stages.image.models import (
    ModelChanges,
    changes,
    large_seeds,
    listed,
    parsed,
    shown,
    summary,
)

OLD = {
    "nodes": {
        "model.a": {},
        "model.b": {},
        "seed.s": {"resource_type": "seed", "checksum": {"name": "sha256"}},
        "seed.l": {"resource_type": "seed", "checksum": {"name": "path"}},
    },
    "sources": {"source.x": {}},
}
NEW = {
    "nodes": {
        "model.a": {},
        "model.c": {},
        "model.d": {},
        "seed.s": {"resource_type": "seed", "checksum": {"name": "sha256"}},
        "seed.l": {
            "resource_type": "seed",
            "checksum": {"name": "path"},
            "original_file_path": "seeds/l.csv",
        },
        "seed.n": {"resource_type": "seed", "checksum": {"name": "path"}},
    },
    "sources": {"source.x": {}},
    "child_map": {"model.a": ["model.c"], "model.c": ["model.d", "model.c"], "model.d": []},
}


def test_changes() -> None:
    found = changes(OLD, NEW, {"model.a", "model.nowhere"})
    assert found == ModelChanges(
        modified=("model.a",), downstream=("model.c", "model.d"), deleted=("model.b",)
    )
    assert summary(found) == "dbt: 1 modified, 2 downstream, 1 deleted"
    assert next(iter(shown(found))) == "modified   model.a"
    assert summary(changes(OLD, OLD, set())) == "no model changes"


def test_only_seeds_that_dbt_does_not_compare_are_large() -> None:
    assert large_seeds(OLD, NEW) == {"seed.l": "seeds/l.csv"}


def test_ids_are_read_among_other_lines() -> None:
    lines = ['{"event": "start"}', '{"unique_id": "model.a"}', "12:00", "[1]", '{"unique_id": 1}']
    text = "\n".join(lines)
    assert listed(text) == {"model.a"}
    assert listed('{"unique_id": "model.\\u001b[31m"}') == {"model.\x1b[31m"}


@given(st.text())
def test_any_output_is_read(text: str) -> None:
    assert isinstance(listed(text), set)
    assert parsed(text.encode(errors="surrogatepass")) is None


def test_a_manifest() -> None:
    assert parsed(json.dumps(OLD).encode()) == OLD
    assert parsed(b'{"nodes": []}') is None
    assert parsed(b"[" * 100_000) is None
