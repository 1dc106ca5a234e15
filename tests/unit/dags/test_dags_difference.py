"""Comparing what is wanted, owned and present: pure, so that every combination can be tried."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cipipe.stages.dags.bucket.difference import Difference, difference, revised
from cipipe.stages.dags.bucket.manifest import UNCERTAIN
from cipipe.stages.dags.bucket.objects import ABSENT, CurrentObject

KEYS = "abcd"
HASHES = st.sampled_from(["1", "2"])
PRESENT = st.fixed_dictionaries(
    {
        key: st.just(ABSENT)
        | st.builds(
            CurrentObject,
            sha256=HASHES,
            version=st.sampled_from(["v1", "v2"]),
            owner=st.sampled_from([None, "us"]),
        )
        for key in KEYS
    }
)
WANTED = st.dictionaries(st.sampled_from(KEYS), HASHES)
OWNED = st.dictionaries(
    st.sampled_from(KEYS),
    st.just(UNCERTAIN) | st.fixed_dictionaries({"sha256": HASHES, "version": st.just("v1")}),
)


def entry(sha256: str, version: str = "v1") -> dict[str, Any]:
    return {"sha256": sha256, "version": version}


def there(sha256: str, version: str = "v1", owner: str | None = None) -> CurrentObject:
    return CurrentObject(sha256, version, owner)


def test_nothing_to_do() -> None:
    found = difference({"a": "1"}, {"a": entry("1")}, {"a": there("1")})
    assert found == Difference(unchanged=1, manifest={"a": entry("1")})


def test_a_new_key_is_uploaded_where_no_object_is() -> None:
    found = difference({"a": "1"}, {}, {"a": ABSENT})
    assert found.uploads == found.absent == {"a"}
    assert found.adopted == ()
    assert found.manifest == {"a": UNCERTAIN}


def test_a_changed_key_is_uploaded_over_its_object() -> None:
    found = difference({"a": "2"}, {"a": entry("1")}, {"a": there("1")})
    assert found.uploads == {"a"}
    assert (found.absent, found.adopted) == (frozenset(), ())


def test_a_key_of_nobody_is_adopted_and_written_again_for_its_owner() -> None:
    found = difference({"a": "1", "b": "1"}, {}, {"a": there("1"), "b": there("2")})
    assert found.uploads == {"a", "b"}
    assert found.adopted == ("a", "b")


def test_a_key_whose_object_names_us_needs_no_upload() -> None:
    found = difference({"a": "1"}, {}, {"a": there("1", "v7", "us")})
    assert found.uploads == frozenset()
    assert found.manifest == {"a": entry("1", "v7")}


def test_what_is_no_longer_wanted_is_deleted_and_owned_until_then() -> None:
    found = difference({}, {"b": entry("1"), "a": UNCERTAIN}, {"a": ABSENT, "b": there("1")})
    assert found.gone == ("a", "b")
    assert found.manifest == {"a": UNCERTAIN, "b": entry("1")}


def test_a_second_look_adds_what_somebody_wrote_meanwhile() -> None:
    wanted = {"a": "1", "b": "1", "c": "2"}
    owned = {key: entry("1") for key in "abcd"}
    before = difference(wanted, owned, {key: there("1") for key in "abcd"})
    assert before.uploads == {"c"}
    assert before.gone == ("d",)

    found = revised(before, wanted, {"a": there("1", "v2"), "b": there("2")}, lost={"d"})
    assert found.uploads == {"b", "c"}
    assert found.gone == ()
    assert found.unchanged == 1
    assert found.manifest == {"a": entry("1", "v2"), "b": UNCERTAIN, "c": UNCERTAIN}


@given(WANTED, OWNED, PRESENT)
def test_applying_it_gives_what_is_wanted_and_touches_nothing_else(
    wanted: dict[str, str], owned: dict[str, Any], present: dict[str, CurrentObject]
) -> None:
    found = difference(wanted, owned, present)
    after = {key: now.sha256 for key, now in present.items() if now.sha256 is not None}
    after |= {key: wanted[key] for key in found.uploads}
    for key in found.gone:
        after.pop(key, None)

    ours = wanted.keys() | owned.keys()
    assert {key: sha256 for key, sha256 in after.items() if key in ours} == wanted
    assert {key for key in present if key not in ours}.isdisjoint(found.uploads | set(found.gone))


@given(WANTED, OWNED, PRESENT)
def test_every_key_that_may_be_written_is_owned_before_and_uncertain(
    wanted: dict[str, str], owned: dict[str, Any], present: dict[str, CurrentObject]
) -> None:
    found = difference(wanted, owned, present)
    assert found.manifest.keys() == wanted.keys() | owned.keys()
    assert all(found.manifest[key] == UNCERTAIN for key in found.uploads)
    certain = wanted.keys() - found.uploads
    assert all(
        found.manifest[key] == entry(wanted[key], str(present[key].version)) for key in certain
    )
    assert len(found.uploads) + found.unchanged == len(wanted)


@given(WANTED, OWNED, PRESENT)
def test_only_keys_without_an_object_are_written_on_condition(
    wanted: dict[str, str], owned: dict[str, Any], present: dict[str, CurrentObject]
) -> None:
    found = difference(wanted, owned, present)
    assert found.absent == {key for key in wanted if present[key] == ABSENT}
    assert found.absent <= found.uploads


@given(WANTED, OWNED, PRESENT, PRESENT, st.sets(st.sampled_from(KEYS)))
def test_a_second_look_at_everything_is_as_good_as_a_late_first_one(
    wanted: dict[str, str],
    owned: dict[str, Any],
    present: dict[str, CurrentObject],
    later: dict[str, CurrentObject],
    foreign: set[str],
) -> None:
    before = difference(wanted, owned, present)
    kept = wanted.keys() - before.uploads
    lost = foreign.intersection(before.gone)
    found = revised(before, wanted, {key: later[key] for key in kept}, lost)
    assert found.uploads == before.uploads | {k for k in kept if later[k].sha256 != wanted[k]}
    assert set(found.gone) == set(before.gone) - lost
    assert found.manifest.keys() == before.manifest.keys() - lost
    assert len(found.uploads) + found.unchanged == len(wanted)
