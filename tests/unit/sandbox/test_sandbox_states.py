"""The sandbox's store of Terraform states, as Terraform and GitLab address it."""

import json

from werkzeug.test import Client

from cipipe.sandbox.states import States

STATE = "/gitlab.com/api/v4/projects/1/terraform/state/dev"
OURS, OTHERS = {"ID": "1", "Who": "us"}, {"ID": "2", "Who": "them"}


def test_a_state_is_kept_by_its_address() -> None:
    store = Client(States())
    assert store.get(STATE).status_code == 404
    assert store.post(STATE, data=b"{}").status_code == 200
    assert store.get(STATE).data == b"{}"
    assert store.get("/gitlab.example.com/state/dev").status_code == 404
    assert store.delete(STATE).status_code == 200
    assert store.get(STATE).status_code == 404


def test_a_lock_keeps_others_out() -> None:
    """By GitLab's addresses and by the methods LOCK and UNLOCK alike."""
    store = Client(States())
    assert store.post(f"{STATE}/lock", json=OURS).status_code == 200
    for refused in (
        store.post(f"{STATE}/lock", json=OTHERS),
        store.open(STATE, method="LOCK", json=OTHERS),
        store.post(STATE, data=b"{}"),
        store.post(f"{STATE}?ID=2", data=b"{}"),
        store.delete(f"{STATE}/lock", json=OTHERS),
        store.open(STATE, method="UNLOCK", json=OTHERS),
    ):
        assert refused.status_code == 423
        assert json.loads(refused.data) == OURS
    assert store.post(f"{STATE}?ID=1", data=b"{}").status_code == 200
    assert store.open(STATE, method="UNLOCK", json=OURS).status_code == 200
    assert store.post(f"{STATE}/lock", json=OTHERS).status_code == 200


def test_force_unlock_releases_any_lock() -> None:
    store = Client(States())
    store.post(f"{STATE}/lock", json=OTHERS)
    assert store.delete(f"{STATE}/lock").status_code == 200
    assert store.post(f"{STATE}/lock", json=OURS).status_code == 200


def test_what_is_no_lock_and_no_method() -> None:
    store = Client(States())
    for body in (b"", b"[]", b"{"):
        assert store.post(f"{STATE}/lock", data=body).status_code == 400
    assert store.patch(STATE).status_code == 405
