"""What the log of an apply says: progress now and then, and at the end what was done to each
resource. The messages are those of Terraform 1.11.
"""

from typing import Any

from cipipe.tools.terraform.log.apply_log import ApplyLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def planned(address: str, action: str) -> dict[str, Any]:
    change = {"resource": {"addr": address}, "action": action}
    return {"@message": "Plan to …", "type": "planned_change", "change": change}


def hook(kind: str, address: str, action: str = "create", text: str = "") -> dict[str, Any]:
    resource = {"addr": address}
    return {"@message": text, "type": kind, "hook": {"resource": resource, "action": action}}


def failed(address: str, summary: str, detail: str = "") -> dict[str, Any]:
    found = {"severity": "error", "summary": summary, "detail": detail, "address": address}
    return {"@message": "Error", "type": "diagnostic", "diagnostic": found}


def test_what_was_done_is_counted_and_the_plan_is_not_repeated() -> None:
    log = ApplyLog()
    assert log.line(planned("a", "create")) is None
    assert log.line(planned("b", "replace")) is None
    assert log.line(planned("c", "move")) is None
    assert log.line(hook("apply_start", "a", text="a: Creating...")) == "a: Creating..."
    done = log.line(hook("apply_complete", "a", text="a: Creation complete after 1s"))
    assert done == "a: Creation complete after 1s (1/3)"
    log.line(hook("apply_start", "b", "delete"))
    assert log.line(hook("apply_complete", "b", "delete", "gone")) == "gone (2/3)"


def test_a_data_source_is_not_counted() -> None:
    log = ApplyLog()
    log.line(planned("a", "create"))
    log.line(hook("apply_start", "data.x", "read"))
    assert log.line(hook("apply_complete", "data.x", "read", "Read complete")) == "Read complete"
    assert log.outcome().done["created"] == ()
    assert not log.outcome().changed_anything


def test_long_work_is_reported_every_30_seconds_in_one_line() -> None:
    clock = Clock()
    log = ApplyLog(clock)
    for name in "abcde":
        log.line(planned(name, "create"))
        log.line(hook("apply_start", name, "update" if name == "b" else "create"))
    shown = []
    for clock.now in range(10, 70, 10):
        shown += [log.line(hook("apply_progress", name)) for name in "abcde"]
    lines = [line for line in shown if line is not None]
    assert lines == [
        f"0/5 done, still a (creating for {seconds}s), b (changing for {seconds}s), "
        f"c (creating for {seconds}s) and 2 more"
        for seconds in (30, 60)
    ]


def test_the_outcome_by_address() -> None:
    log = ApplyLog()
    for name, action in [("a", "create"), ("b", "replace"), ("c", "delete"), ("d", "update")]:
        log.line(planned(name, action))
    for name in ("e", "f"):
        log.line(planned(name, "create"))
    for name, action in [("a", "create"), ("b", "delete")]:
        log.line(hook("apply_start", name, action))
        log.line(hook("apply_complete", name, action))
    log.line(hook("apply_start", "b"))
    log.line(hook("apply_errored", "b"))
    log.line(hook("apply_start", "d", "update"))
    log.line(failed("b", "creating it", "no quota"))
    log.line(hook("apply_start", "e"))
    log.line(hook("apply_errored", "e"))

    found = log.outcome()

    assert found.done == {"created": ("a",), "changed": (), "destroyed": ("b",)}
    assert [(one.address, one.action, one.error) for one in found.failed] == [
        ("b", "create", "creating it: no quota"),
        ("e", "create", "Terraform gave no reason"),
    ]
    assert found.unknown == ("d",)
    assert found.not_started == ("c", "f")


def test_nothing_was_done() -> None:
    log = ApplyLog()
    log.line(planned("a", "create"))
    assert not log.outcome().changed_anything
    assert log.outcome().not_started == ("a",)


def test_a_state_in_the_log_is_kept_and_not_shown() -> None:
    log = ApplyLog()
    state = {"serial": 3, "outputs": {"password": "seeded"}}
    assert log.line({"@message": "Emergency state dump", "type": "log", "state": state}) is None
    assert log.dumped == state
