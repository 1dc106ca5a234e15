"""Which differences that Terraform reports are drift, and what is said of them."""

from typing import Any

import msgspec

from cipipe.redact import Redactor
from cipipe.results import DriftFinding
from cipipe.stages.terraform.changes.reading import change_set
from cipipe.stages.terraform.drifted import differences, without_unknown
from cipipe.tools.terraform.shown import ShownPlan

SECRET = "swordfish-1234"


def change(address: str, actions: str, before: Any, after: Any, **more: Any) -> dict[str, Any]:
    return {
        "address": address,
        "type": address.partition(".")[0],
        "mode": "managed",
        "change": {"actions": actions.split("+"), "before": before, "after": after, **more},
    }


def found(**document: Any) -> list[DriftFinding]:
    shown = msgspec.convert(document, ShownPlan)
    changes = without_unknown(change_set(shown, Redactor()), shown)
    return list(differences(changes, stage="iac", again="--env dev --sandbox"))


def named(findings: list[DriftFinding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.what) for finding in findings]


def test_nothing() -> None:
    assert found(resource_changes=[change("a.x", "no-op", {"n": 1}, {"n": 1})]) == []


def test_what_the_plan_leaves_as_it_is() -> None:
    """Computed attributes, what `ignore_changes` names, null and empty, the order of a set."""
    drift = [
        change("a.computed", "update", {"version": 1}, {"version": 2}),
        change("a.empty", "update", {"tags": None}, {"tags": {}}),
        change("a.order", "update", {"ids": ["a", "b"]}, {"ids": ["b", "a"]}),
    ]
    same = [change(entry["address"], "no-op", {}, {}) for entry in drift]
    assert found(resource_drift=drift, resource_changes=same) == []


def test_changed_outside() -> None:
    drift = [change("a.x", "update", {"tags": {"o": "1"}, "v": 1}, {"tags": {"o": "2"}, "v": 2})]
    plan = [change("a.x", "update", {"tags": {"o": "2"}, "v": 2}, {"tags": {"o": "1"}, "v": 2})]
    (finding,) = found(resource_drift=drift, resource_changes=plan)
    assert named([finding]) == [("resource-changed", "a.x")]
    assert finding.actual == "changed outside of Terraform: tags.o"
    assert "cipipe run iac --force iac --env dev --sandbox" in finding.hint


def test_deleted_outside_and_what_follows_from_it() -> None:
    drift = [
        change("a.gone", "delete", {"n": 1}, None),
        # Noise, in a resource that the plan changes for another reason.
        change("a.follows", "update", {"version": 1, "of": "x"}, {"version": 2, "of": "x"}),
    ]
    plan = [
        change("a.gone", "create", None, {"n": 1}),
        change("a.follows", "update", {"of": "x"}, {}, after_unknown={"of": True}),
        change("a.replaced", "delete+create", {"of": "x"}, {}, after_unknown={"of": True}),
        change(
            "a.hidden",
            "update",
            {"of": "x"},
            {},
            after_unknown={"of": True},
            before_sensitive={"of": True},
            after_sensitive={"of": True},
        ),
    ]
    outputs = {"o": {"actions": ["update"], "before": "x", "after_unknown": True}}
    findings = found(resource_drift=drift, resource_changes=plan, output_changes=outputs)
    assert named(findings) == [("resource-deleted", "a.gone")]


def test_what_only_the_plan_changes() -> None:
    plan = [
        change("a.new", "create", None, {"n": 1}),
        change("a.old", "delete", {"n": 1}, None),
        change("a.replaced", "create+delete", {"n": 1}, {"n": 2}),
        change("a.changed", "update", {"n": [1, 2]}, {"n": [1, 3]}),
        change("a.left", "forget", {"n": 1}, None),
        {**change("data.x", "read", None, {}), "mode": "data"},
    ]
    findings = found(resource_changes=plan)
    assert {finding.what: finding.actual for finding in findings} == {
        "a.new": "Terraform would create it",
        "a.old": "Terraform would delete it",
        "a.replaced": "Terraform would replace it: n",
        "a.changed": "Terraform would change it: n",
        "a.left": "Terraform would remove it from the state",
    }
    assert {finding.kind for finding in findings} == {"resource-differs"}


def test_what_is_unknown_is_a_finding_where_nothing_explains_it() -> None:
    plan = [change("a.x", "update", {"of": "x"}, {}, after_unknown={"of": True})]
    assert named(found(resource_changes=plan)) == [("resource-differs", "a.x")]


def test_outputs_alone() -> None:
    outputs = {
        "same": {"actions": ["no-op"], "before": 1, "after": 1},
        "o": {"actions": ["update"], "before": SECRET, "after": "2"},
    }
    findings = found(output_changes=outputs)
    assert named(findings) == [("output-differs", "output o")]
    assert SECRET not in str(findings)


def test_no_value_and_no_key_of_a_secret_is_told() -> None:
    before = {"all": {SECRET: 1}, "part": {"open": SECRET, "list": [{"k": SECRET}]}, "many": []}
    after = {"all": {SECRET: 2}, "part": {"open": 1, "list": [{"k": 2}]}, "many": [SECRET]}
    marks = {"all": True, "part": {"list": [{"k": True}]}}
    drift = [change("a.x", "update", after, before, before_sensitive=marks, after_sensitive=marks)]
    plan = [change("a.x", "update", before, after, before_sensitive=marks, after_sensitive=marks)]
    (finding,) = found(resource_drift=drift, resource_changes=plan)
    assert finding.actual.endswith(": all, many, part.list[0].k, part.open")
    assert SECRET not in str(finding)


def test_many_attributes_are_counted() -> None:
    before = {f"a{number}": 1 for number in range(8)}
    after = dict.fromkeys(before, 2)
    (finding,) = found(resource_changes=[change("a.x", "update", before, after)])
    assert finding.actual == "Terraform would change it: a0, a1, a2, a3, a4 and 3 more"
