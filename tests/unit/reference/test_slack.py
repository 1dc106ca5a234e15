"""Slack messages: their text and address, and that they never fail a task."""

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from dbt_deployment import slack


@dataclass
class Connection:
    host: str | None = None
    schema: str | None = None
    password: str | None = "T0/B0/token"


class Connections:
    def __init__(self, connection: Connection | None) -> None:
        self.connection = connection

    def get(self, name: str) -> Connection | None:
        assert name == "slack_webhook"
        return self.connection


@dataclass
class Instance:
    dag_id: str = "dbt_redshift"
    task_id: str = "build"
    run_id: str = "manual__<now>"


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(slack, "_post", lambda address, message: found.append((address, message)))
    return found


def context(connection: Connection | None, **more: Any) -> dict[str, Any]:
    return {"ti": Instance(), "conn": Connections(connection), **more}


def test_success_and_failure_name_the_run(posted: list[tuple[str, dict[str, str]]]) -> None:
    slack.notify_success(context(Connection()))
    slack.notify_failure(context(Connection(), exception=RuntimeError("exit code 1 & <stopped>")))
    # Airflow does not always pass the exception on.
    slack.notify_failure(context(Connection()))
    assert [message["text"] for _, message in posted] == [
        ":white_check_mark: *dbt_redshift.build of manual__&lt;now&gt;* succeeded",
        ":x: *dbt_redshift.build of manual__&lt;now&gt;* failed: exit code 1 &amp; &lt;stopped&gt;",
        ":x: *dbt_redshift.build of manual__&lt;now&gt;* failed: its log says why",
    ]


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        (Connection(), "https://hooks.slack.com/services/T0/B0/token"),
        (
            Connection(host="https://hooks.slack.com/services/"),
            "https://hooks.slack.com/services/T0/B0/token",
        ),
        (
            Connection(host="hooks.slack.com/services", schema="https"),
            "https://hooks.slack.com/services/T0/B0/token",
        ),
        (Connection(host="hooks.example.com", password=" /x\n"), "https://hooks.example.com/x"),
    ],
)
def test_the_address_is_built_from_the_connection(
    posted: list[tuple[str, dict[str, str]]], connection: Connection, address: str
) -> None:
    slack.notify_success(context(connection))
    assert [to for to, _ in posted] == [address]


def test_without_the_connection_nothing_is_sent(posted: list[tuple[str, dict[str, str]]]) -> None:
    slack.notify_success(context(None))
    assert posted == []


def test_a_message_that_cannot_be_sent_fails_nothing_and_logs_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(address: str, message: dict[str, str]) -> None:
        # requests puts the address, which is secret, into its messages.
        raise ConnectionError(address)

    monkeypatch.setattr(slack, "_post", refuse)
    with caplog.at_level(logging.INFO):
        slack.notify_failure(context(Connection()))
        slack.notify_failure({})
    assert [record.getMessage() for record in caplog.records] == [
        "No message was sent to Slack: ConnectionError",
        "No message was sent to Slack: KeyError",
    ]
