"""The change set of a plan: what it shows, what it hides, and how it compares with a review."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.redact import Redactor
from cipipe.stages.terraform.changes import reading, review, text
from cipipe.stages.terraform.changes.model import ChangeSet
from cipipe.tools.terraform.shown import ShownPlan

SECRET = "battery-staple-71"

Json = dict[str, Any]

# What stands beside `change`, not in it.
_TOP = ("action_reason", "previous_address", "deposed")


def changes(*resources: Json, redactor: Redactor | None = None, **more: Any) -> ChangeSet:
    shown = msgspec.convert({"resource_changes": list(resources), **more}, ShownPlan)
    return reading.change_set(shown, redactor or Redactor())


def resource(
    before: Any, after: Any, *actions: str, address: str = "aws_x.it", **more: Any
) -> Json:
    top: Json = {key: more.pop(key) for key in _TOP if key in more}
    return {
        "address": address,
        "type": address.partition(".")[0],
        "mode": "managed",
        "change": {
            "actions": list(actions or ("update",)),
            "before": before,
            "after": after,
            **more,
        },
        **top,
    }


def lines(found: ChangeSet) -> list[str]:
    return list(text.lines(found))


def test_what_changes_is_shown_by_its_path() -> None:
    before = {"name": "a", "tags": {"Owner": "x", "a.b": "1"}, "rules": [{"port": 1}, {"port": 2}]}
    after = {"name": "a", "tags": {"Owner": "y", "a.b": "2"}, "rules": [{"port": 1}, {"port": 3}]}
    assert lines(changes(resource(before, after))) == [
        "Updated in place (1)",
        "  ~   aws_x.it",
        "        rules[1].port: 2 → 3",
        '        tags.Owner: "x" → "y"',
        '        tags["a.b"]: "1" → "2"',
    ]


def test_lists_of_another_length_are_one_value() -> None:
    found = changes(resource({"zones": ["a", "b"]}, {"zones": ["c", "a", "b"]}))
    assert lines(found)[2:] == ['        zones: ["a","b"] → ["c","a","b"]']


def test_a_replacement_names_what_forces_it_and_not_its_new_id() -> None:
    found = changes(
        resource(
            {"id": "i-1", "name": "a", "size": 1},
            {"name": "b", "size": 2},
            "delete",
            "create",
            after_unknown={"id": True},
            replace_paths=[["name"]],
        )
    )
    assert lines(found) == [
        "Replaced: deleted, then created anew (1)",
        "  -/+ aws_x.it",
        '        name: "a" → "b"  forces the replacement',
        "        size: 1 → 2",
    ]


def test_consequences_come_in_order_and_are_counted() -> None:
    value = {"a": 1}
    found = changes(
        resource(None, value, "create", address="aws_x.created"),
        resource(value, {"a": 2}, address="aws_x.updated"),
        resource(value, value, "no-op", address="aws_x.moved", previous_address="aws_x.old"),
        resource(value, value, "no-op", address="aws_x.imported", importing={"id": "i-1"}),
        resource(value, None, "forget", address="aws_x.forgotten"),
        resource(value, None, "delete", address="aws_x.gone"),
        resource(value, None, "delete", address="aws_x.gone", deposed="ab12"),
        resource(value, value, "create", "delete", address="aws_x.first"),
        resource(value, value, "delete", "create", address="aws_x.second"),
        resource(value, value, "no-op", address="aws_x.same"),
    )
    assert [entry.action.value for entry in found.resources] == [
        "replace",
        "replace-create-first",
        "delete",
        "delete",
        "forget",
        "move",
        "import",
        "update",
        "create",
    ]
    summary = (
        "2 to replace, 2 to destroy, 1 to forget, 1 to add, 1 to change, 1 to move, 1 to import"
    )
    assert text.summary(found) == summary
    assert text.summary(found, done=True).startswith("2 replaced, 2 destroyed, 1 forgotten")
    assert "left behind by a replacement that failed" in "\n".join(lines(found))


def test_nothing_changes() -> None:
    assert lines(changes()) == ["No changes."]
    assert text.summary(changes()) == "no resource changes"
    only = changes(output_changes={"a": {"actions": ["create"], "after": "b"}})
    assert text.summary(only) == "only outputs change"
    assert not only.empty


def test_an_incomplete_plan_says_so() -> None:
    assert "leaves something out" in lines(changes(complete=False))[0]
    assert "planning failed" in lines(changes(errored=True, complete=False))[0]


def test_what_drifted_is_shown_and_is_no_change() -> None:
    drifted = resource({"a": 1}, {"a": 2}, "update")
    found = changes(resource_drift=[drifted, resource({"a": 1}, None, "delete", address="aws_x.b")])
    assert found.empty
    assert lines(found) == [
        "No changes.",
        "Changed outside of Terraform (2)",
        "  !   aws_x.b  is gone",
        "  !   aws_x.it",
        "        a: 1 → 2",
    ]


def test_null_that_is_read_back_as_empty_is_no_drift() -> None:
    """As of `tags` after the first apply: Terraform lists the resource, and nothing changed."""
    found = changes(resource_drift=[resource({"tags": None}, {"tags": {}}, "update")])
    assert found.drift == ()
    assert lines(found) == ["No changes."]


def test_outputs() -> None:
    found = changes(
        output_changes={
            "a": {"actions": ["update"], "before": "x", "after": "y"},
            "b": {"actions": ["create"], "after_unknown": True},
            "c": {"actions": ["delete"], "before": "x"},
            "d": {"actions": ["update"], "before": ["x"], "after_unknown": True},
            "e": {
                "actions": ["update"],
                "before": SECRET,
                "after": SECRET + "2",
                "before_sensitive": True,
                "after_sensitive": True,
            },
            "f": {"actions": ["no-op"], "before": "x", "after": "x"},
        }
    )
    assert lines(found) == [
        "Outputs (5)",
        '  ~   a: "x" → "y"',
        "  +   b: (known after apply)",
        "  -   c",
        '  ~   d: ["x"] → (list, known after apply)',
        "  ~   e: (sensitive) changes",
    ]


def test_names_and_values_are_data() -> None:
    found = changes(
        resource({"a": "x"}, {"a": "\x1b[31m::error::\n"}, address='aws_x.it["\x1b]0;\x07\n"]'),
        output_changes={"o\x1b[0m": {"actions": ["create"], "after": "\x1b[1m"}},
    )
    assert "".join(lines(found)).isprintable()


# --- what is sensitive ----------------------------------------------------------------------------


def _spellings(secret: str) -> list[str]:
    return [secret, base64.b64encode(secret.encode()).decode().rstrip("="), secret.encode().hex()]


def _everything(found: ChangeSet) -> str:
    stored = review.as_json(review.reviewed(found))
    return "\n".join([*lines(found), json.dumps(found.public()), json.dumps(stored)])


def test_a_sensitive_value_is_hidden_and_that_it_changes_is_not() -> None:
    found = changes(
        resource(
            {"password": SECRET, "deep": {"key": [SECRET, "b"]}},
            {"password": f"{SECRET}2", "deep": {"key": [f"{SECRET}3", "c"]}},
            before_sensitive={"password": True, "deep": {"key": [True, False]}},
            after_sensitive={"password": True, "deep": {"key": [True, False]}},
        )
    )
    assert lines(found)[2:] == [
        '        deep.key: ["(sensitive)","b"] → ["(sensitive)","c"]',
        "        password: (sensitive) changes",
    ]
    assert not any(spelling in _everything(found) for spelling in _spellings(SECRET))


def test_a_secret_among_the_keys_hides_the_whole_map() -> None:
    marked = resource(
        None, {"it": SECRET}, "create", after_sensitive={"it": True}, address="aws_x.marked"
    )
    found = changes(
        marked,
        resource({"tags": {"a": "1"}, "l": []}, {"tags": {SECRET: "1"}, "l": [{SECRET: True}]}),
        output_changes={"o": {"actions": ["create"], "after": {"deep": {f"x-{SECRET}": 1}}}},
    )
    assert SECRET not in _everything(found)
    assert '        tags: {"a":"1"} → (sensitive)' in lines(found)


def test_what_a_data_source_read_is_a_secret_too() -> None:
    """A provider may take a marked value apart, and the parts are not marked."""
    read = {
        "type": "aws_secretsmanager_secret_version",
        "mode": "data",
        "values": {"secret_string": SECRET},
        "sensitive_values": {"secret_string": True},
    }
    found = changes(
        resource({"a": "x"}, {"a": f"user={SECRET}"}),
        prior_state={
            "values": {"root_module": {"resources": [], "child_modules": [{"resources": [read]}]}}
        },
    )
    assert SECRET not in _everything(found)


@pytest.mark.parametrize(
    "copied",
    [SECRET, f"user:{SECRET}@host", base64.b64encode(f"x{SECRET}y".encode()).decode()],
)
def test_a_copy_that_is_not_marked_is_hidden_too(copied: str) -> None:
    redactor = Redactor()
    found = changes(
        resource(None, {"input": SECRET}, "create", after_sensitive={"input": True}, address="a.b"),
        resource({"output": "old"}, {"output": copied}, address="c.d"),
        redactor=redactor,
    )
    assert 'output: "old" → (sensitive)' in "\n".join(lines(found))
    assert not any(spelling in _everything(found) for spelling in _spellings(SECRET))
    assert SECRET not in redactor.text(copied)


def test_variables_that_are_declared_as_sensitive_count() -> None:
    found = changes(
        resource({"a": "x"}, {"a": SECRET}),
        variables={"password": {"value": SECRET}},
        configuration={"root_module": {"variables": {"password": {"sensitive": True}}}},
    )
    assert SECRET not in _everything(found)


_LEAF = st.one_of(st.just(SECRET), st.text(max_size=4), st.integers(0, 9), st.booleans(), st.none())
_VALUE = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
_ATTRIBUTES = st.dictionaries(st.sampled_from("xyz"), _VALUE, max_size=3)


@given(before=_ATTRIBUTES, after=_ATTRIBUTES)
def test_a_sensitive_value_is_nowhere(before: Json, after: Json) -> None:
    marked = resource(
        None, {"it": SECRET}, "create", after_sensitive={"it": True}, address="aws_x.marked"
    )
    found = changes(
        marked,
        resource(before, after),
        resource(None, after, "create", address="aws_x.new"),
        resource_drift=[resource(before, after)],
        output_changes={"o": {"actions": ["update"], "before": before, "after": after}},
    )
    assert SECRET not in _everything(found)


# --- what was reviewed ----------------------------------------------------------------------------


def beyond(planned: ChangeSet, reviewed: ChangeSet) -> tuple[str, ...]:
    # As it is after it was stored and read.
    stored = json.loads(json.dumps(review.as_json(review.reviewed(reviewed))))
    return review.unreviewed(planned, review.from_json(stored))


@given(before=_ATTRIBUTES, after=_ATTRIBUTES)
def test_a_plan_is_as_reviewed_by_itself(before: Json, after: Json) -> None:
    found = changes(resource(before, after), resource(None, after, "create", address="aws_x.b"))
    assert beyond(found, found) == ()
    assert review.reviewed(found).digest == review.reviewed(found).digest


@given(before=_ATTRIBUTES, other=_ATTRIBUTES, after=_ATTRIBUTES)
def test_what_was_there_before_does_not_count(before: Json, other: Json, after: Json) -> None:
    """Where the same attributes change to the same values, it is what was reviewed."""
    found = changes(resource(before, after))
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    again = changes(resource({**after, **{n: other.get(n) for n in names}}, after))
    assert beyond(again, found) == ()


def test_less_than_what_was_reviewed_is_fine() -> None:
    one = resource({"a": 1}, {"a": 2}, address="aws_x.one")
    two = resource(None, {"a": 2}, "create", address="aws_x.two")
    assert beyond(changes(one), changes(one, two)) == ()
    assert beyond(changes(), changes(one, two)) == ()


UPDATE = resource({"a": 1, "b": 1}, {"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("planned", "reviewed", "words"),
    [
        (UPDATE, None, "aws_x.it: updates, which was not reviewed"),
        (resource({"a": 1}, {"a": 3}), UPDATE, "aws_x.it: a gets another value"),
        (resource({"a": 1, "b": 1}, {"a": 2, "b": 2}), UPDATE, "aws_x.it: b changes too"),
        (
            resource({"a": 1}, {"a": 2}, "delete", "create"),
            UPDATE,
            "aws_x.it: replaces; what was reviewed updates it",
        ),
        (
            resource({"a": 1}, None, "delete"),
            UPDATE,
            "aws_x.it: deletes; what was reviewed updates",
        ),
        (
            resource({"t": {"x": 1}}, {"t": {"x": 2, "y": 3}}),
            resource({"t": {"x": 1}}, {"t": {"x": 2}}),
            "aws_x.it: t.y gets another value",
        ),
        (
            resource({"t": {"x": 1, "y": 1}}, {"t": {"x": 2}}),
            resource({"t": {"x": 1}}, {"t": {"x": 2, "y": 1}}),
            "aws_x.it: t.y gets another value",
        ),
        # A value that is removed, too.
        (resource({"a": 1, "b": 1}, {"a": 2, "b": None}), UPDATE, "aws_x.it: b changes too"),
        # A new object without what the reviewed one was to get.
        (
            resource(None, {"a": 1}, "create"),
            resource(None, {"a": 1, "boundary": "arn"}, "create"),
            "aws_x.it: boundary is not set",
        ),
        (
            resource({"a": 1, "b": 1}, {"a": 2}, "delete", "create"),
            resource({"a": 1, "b": 1}, {"a": 2, "b": 1}, "delete", "create"),
            "aws_x.it: b is not set",
        ),
        (
            resource({"a": 1, "b": 1}, {"a": 2, "b": 2}, "delete", "create"),
            resource({"a": 1, "b": 1}, {"a": 2, "b": 1}, "delete", "create"),
            "aws_x.it: b gets another value",
        ),
        (
            resource(None, {"a": 1}, "create"),
            resource({"a": 1}, {"a": 1}),
            "aws_x.it: creates",
        ),
        (
            resource({"l": [1]}, {"l": [2, 3]}),
            resource({"l": [1]}, {"l": [3, 2]}),
            "aws_x.it: l[0] gets another value",
        ),
        (
            resource({"l": []}, {"l": [2, 3]}),
            resource({"l": []}, {"l": [2]}),
            "aws_x.it: l gets another value",
        ),
        (
            resource({"a": 1}, {}, after_unknown={"a": True}),
            UPDATE,
            "aws_x.it: a gets another value",
        ),
        (
            resource({}, {}, "no-op", importing={"id": "other"}),
            resource({}, {}, "no-op", importing={"id": "one"}),
            "aws_x.it: is imported from another object",
        ),
        (
            resource({}, {}, "no-op", previous_address="aws_x.b"),
            resource({}, {}, "no-op", previous_address="aws_x.a"),
            "aws_x.it: is moved from aws_x.b",
        ),
    ],
)
def test_more_than_what_was_reviewed_is_named(
    planned: Json, reviewed: Json | None, words: str
) -> None:
    (found,) = beyond(changes(planned), changes(*filter(None, [reviewed])))
    assert found.startswith(words)


def test_outputs_are_part_of_the_review() -> None:
    def output(value: str) -> ChangeSet:
        return changes(output_changes={"o": {"actions": ["create"], "after": value}})

    assert beyond(output("a"), output("a")) == ()
    assert beyond(output("a"), output("b")) == (
        "output o: o gets another value than the reviewed one",
    )
    assert beyond(output("a"), changes()) == ("output o: changes, which was not reviewed",)


@pytest.mark.parametrize(
    ("planned", "reviewed"),
    [
        # Known now, and was not when it was reviewed: a run that failed in between.
        (
            resource({}, {"vpc": "vpc-1", "l": ["s-1", "s-2"]}),
            resource({}, {"l": [None, None]}, after_unknown={"vpc": True, "l": [True, True]}),
        ),
        (resource({}, {"all": {"a": 1}}), resource({}, {}, after_unknown={"all": True})),
        # Its items may have been in another order while they were not known.
        (
            resource({}, {"set": [{"id": "s-1", "n": 2}, {"id": "s-2", "n": 1}]}),
            resource(
                {},
                {"set": [{"n": 1}, {"n": 2}]},
                after_unknown={"set": [{"id": True}, {"id": True}]},
            ),
        ),
        # What was left half made is made anew.
        (
            resource(
                {"a": 1}, {"a": 1}, "delete", "create", action_reason="replace_because_tainted"
            ),
            resource(None, {"a": 1}, "create"),
        ),
        # A replacement that failed after it had deleted: its second half is left.
        (
            resource(None, {"a": 2, "b": 1}, "create"),
            resource(
                {"a": 1, "b": 1},
                {"a": 2, "b": 1},
                "delete",
                "create",
                after_unknown={"id": True},
            ),
        ),
        # The item that is known completely is no match for another one.
        (
            resource({}, {"set": [{"id": "s-1", "n": 1}, {"id": "s-2", "n": 1}]}),
            resource(
                {},
                {"set": [{"n": 1}, {"id": "s-1", "n": 1}]},
                after_unknown={"set": [{"id": True}, {}]},
            ),
        ),
        # What a replacement that failed left behind.
        (resource({"a": 1}, None, "delete", deposed="ab12"), UPDATE),
        # Null is the same as not set.
        (resource({"a": 1}, {"a": 2, "n": None}), UPDATE),
    ],
)
def test_what_was_not_known_may_be_anything_now(planned: Json, reviewed: Json) -> None:
    assert beyond(changes(planned), changes(reviewed)) == ()


def test_an_unknown_value_keeps_its_type() -> None:
    unknown = resource({"a": ["x"]}, {}, after_unknown={"a": True})
    assert beyond(changes(resource({"a": ["x"]}, {"a": ["y"]})), changes(unknown)) == ()
    assert beyond(changes(resource({"a": ["x"]}, {"a": {"y": 1}})), changes(unknown)) != ()
