"""Callbacks that report a task's result to a Slack channel. If a message cannot be sent, that is
only a line in the log.

The webhook's address is a secret. It is read just before a message is sent, from the connection
`slack_webhook` (type HTTP; password: the part of the address after
https://hooks.slack.com/services/). Without the connection, nothing is sent.
"""

import logging
from typing import Any

CONNECTION = "slack_webhook"
_SERVICES = "https://hooks.slack.com/services"
_TIMEOUT = 10  # seconds

log = logging.getLogger(__name__)


def notify_success(context: Any) -> None:
    """For `on_success_callback`."""
    _send(context, ":white_check_mark: *{}* succeeded")


def notify_failure(context: Any) -> None:
    """For `on_failure_callback`, which is called after the last try."""
    # Not every way to fail passes an exception on.
    reason = str(context.get("exception") or "its log says why")[:1000]
    _send(context, ":x: *{}* failed: {}", reason)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _send(context: Any, text: str, *details: str) -> None:
    try:
        instance = context["ti"]
        title = f"{instance.dag_id}.{instance.task_id} of {instance.run_id}"
        connection = context["conn"].get(CONNECTION)
        if connection is None:
            log.info("No connection %s: no message to Slack", CONNECTION)
            return

        parts = map(_escaped, (title, *details))
        _post(_address(connection), {"text": text.format(*parts)})
    except Exception as error:  # noqa: BLE001 - a lost message must not fail the task
        # Only the error's type: the messages of requests contain the address.
        log.warning("No message was sent to Slack: %s", type(error).__name__)


def _address(connection: Any) -> str:
    host = connection.host or _SERVICES
    base = host if "://" in host else f"{connection.schema or 'https'}://{host}"
    return f"{base.rstrip('/')}/{(connection.password or '').strip().lstrip('/')}"


def _post(address: str, message: dict[str, str]) -> None:
    import requests

    requests.post(address, json=message, timeout=_TIMEOUT).raise_for_status()
