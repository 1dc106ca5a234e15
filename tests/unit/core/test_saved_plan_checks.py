"""What a saved plan is refused for, before anything starts: one clear error for each difference."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from cipipe.approvals import new_id, stage_of
from cipipe.errors import RefusedError
from cipipe.model import Mode
from cipipe.pipeline.approval.checks import Situation, refuse, refuse_environment
from cipipe.stages.terraform.apply.approval import refuse_incomplete, refuse_versions
from cipipe.tools.terraform.shown import ShownPlan
from support.saved import CONTENT, NOW, PLACE, VERSIONS, saved

HERE = Situation(place=PLACE, content=CONTENT, now=NOW + timedelta(hours=23))


def refused(here: Situation, **changes: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        refuse(saved(**changes), here)
    assert caught.value.exit_status == 5
    assert caught.value.hint
    return caught.value


def test_the_plan_of_this_very_content_and_place_is_accepted() -> None:
    refuse(saved(), HERE)


@pytest.mark.parametrize(
    ("field", "other", "shown"),
    [
        ("project", "blog", "project shop, and this is blog"),
        ("environment", "dev", "environment live, and this is dev"),
        ("account_id", "222222222222", "account 111111111111, and this is 222222222222"),
        ("region", "eu-west-1", "region eu-central-1, and this is eu-west-1"),
        ("backend", "s3 4567", "backend s3 0123, and this is s3 4567"),
        ("workspace", "blue", "workspace default, and this is blue"),
    ],
)
def test_another_place(field: str, other: str, shown: str) -> None:
    place = msgspec.structs.replace(PLACE, **{field: other})
    error = refused(msgspec.structs.replace(HERE, place=place))
    assert error.id == "saved-plan-other-place"
    assert error.message.endswith(f"was made for {shown}")


@pytest.mark.parametrize(
    ("field", "id"),
    [
        ("commit", "saved-plan-other-commit"),
        ("record", "saved-plan-outdated"),
        ("fingerprint", "saved-plan-other-inputs"),
        ("effective", "saved-plan-other-inputs"),
    ],
)
def test_other_content(field: str, id: str) -> None:
    content = msgspec.structs.replace(CONTENT, **{field: "another"})
    assert refused(msgspec.structs.replace(HERE, content=content)).id == id


def test_an_expired_plan() -> None:
    error = refused(msgspec.structs.replace(HERE, now=NOW + timedelta(hours=24)))
    assert error.id == "saved-plan-expired"
    assert "2026-01-03T03:04:05+00:00" in error.message


def test_a_plan_that_destroys() -> None:
    assert refused(HERE, mode=Mode.DESTROY).id == "saved-plan-other-mode"


def test_a_used_plan_says_by_whom() -> None:
    error = refused(HERE, used_at="2026-01-02T04:00:00+00:00", used_by="https://ci/8")
    assert error.id == "saved-plan-used"
    assert "https://ci/8 at 2026-01-02T04:00:00+00:00" in error.message


def test_the_id_names_the_environment() -> None:
    made = new_id("dev", "iac", NOW)
    refuse_environment(made, "dev")
    assert stage_of(made) == "iac"
    with pytest.raises(RefusedError) as caught:
        refuse_environment(made, "live")
    assert caught.value.id == "saved-plan-other-place"
    assert "environment dev, and this is live" in caught.value.message


@pytest.mark.parametrize(
    "id",
    ["", "7", "../../x", "dev.iac.20260102T030405Z", f"dev.iac.20260102T030405Z.{20 * 'a'}/../x"],
)
def test_what_is_no_id(id: str) -> None:
    with pytest.raises(RefusedError) as caught:
        refuse_environment(id, "dev")
    assert caught.value.id == "saved-plan-unknown"


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("cipipe", "version of cipipe: 1.0.0, and this job has other"),
        ("terraform", "version of Terraform: 1.11.4, and this job has other"),
        ("providers", "version of the dependency lock file"),
    ],
)
def test_other_versions(field: str, shown: str) -> None:
    refuse_versions(saved(), VERSIONS)
    with pytest.raises(RefusedError) as caught:
        refuse_versions(saved(), msgspec.structs.replace(VERSIONS, **{field: "other"}))
    assert caught.value.id == "saved-plan-other-versions"
    assert shown in caught.value.message


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (ShownPlan(errored=True, complete=False), "planning failed"),
        (ShownPlan(complete=False), "-target"),
        (ShownPlan(applyable=False), "nothing in it to apply"),
    ],
)
def test_a_plan_that_is_not_complete(shown: ShownPlan, why: str) -> None:
    refuse_incomplete(ShownPlan(), "x", where="terraform")
    with pytest.raises(RefusedError) as caught:
        refuse_incomplete(shown, "x", where="terraform")
    assert caught.value.id == "saved-plan-incomplete"
    assert why in caught.value.message
