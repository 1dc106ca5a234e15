"""What `terraform show` prints: read as far as needed, and refused unread in another shape."""

import json
from typing import Any

import pytest

from cipipe.errors import StageError
from cipipe.tools.process import Completed, document
from cipipe.tools.terraform.shown import ShownPlan, ShownState

SECRET = "battery-staple"


def shown(answer: Any, shape: Any = ShownPlan) -> Any:
    done = Completed(("terraform", "show", "-json"), 0, json.dumps(answer).encode(), b"")
    return document(done, shape)


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        (SECRET, ShownPlan),
        (SECRET, ShownState),
        ([SECRET], ShownPlan),
        ([SECRET], ShownState),
        ({"resource_changes": SECRET}, ShownPlan),
        ({"resource_changes": [{"address": SECRET}]}, ShownPlan),
        (
            {
                "resource_changes": [
                    {
                        "address": "a.b",
                        "type": "a",
                        "change": {"actions": ["create"], "before": SECRET},
                    }
                ]
            },
            ShownPlan,
        ),
        ({"planned_values": {"outputs": [SECRET]}}, ShownPlan),
        ({"values": {"root_module": {"resources": [{SECRET: SECRET}]}}}, ShownState),
    ],
)
def test_another_shape_is_refused_and_not_quoted(answer: Any, shape: Any) -> None:
    with pytest.raises(StageError, match="did not print the JSON") as caught:
        shown(answer, shape)
    assert caught.value.id == "tool-failed"
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"


def test_a_plan() -> None:
    before = {"name": "a", "tags": None}
    made = shown(
        {
            "format_version": "1.2",
            "planned_values": {"outputs": {"one": {"sensitive": True}}, "root_module": {}},
            "resource_changes": [
                {
                    "address": "aws_vpc.a",
                    "mode": "managed",
                    "type": "aws_vpc",
                    "change": {
                        "actions": ["delete", "create"],
                        "before": before,
                        "after_unknown": {"id": True},
                    },
                    "action_reason": "replace_because_tainted",
                },
                {
                    "address": "aws_vpc.b",
                    "mode": "managed",
                    "type": "aws_vpc",
                    "change": {"actions": ["no-op"]},
                },
                {
                    "address": "data.x.y",
                    "mode": "data",
                    "type": "x",
                    "change": {"actions": ["read"], "before": None},
                },
            ],
        }
    )
    (replaced,) = made.changes()
    assert (replaced.address, replaced.type) == ("aws_vpc.a", "aws_vpc")
    assert replaced.actions == ("delete", "create")
    assert replaced.before == before
    assert replaced.tainted
    assert replaced.destroys
    assert list(made.planned_values.outputs) == ["one"]


def test_an_empty_state() -> None:
    assert shown({"format_version": "1.0"}, ShownState) == ShownState()
    assert ShownState().resources() == ()
