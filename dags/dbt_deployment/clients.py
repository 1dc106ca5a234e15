"""boto3 clients, optionally for a role, with credentials that are renewed before they expire.

Airflow's own credentials are already those of a role, and AWS limits a role that is assumed from
another role to one hour. A dbt run can take longer.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_RENEW_BEFORE_EXPIRY = timedelta(minutes=10)
_ALWAYS = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)


class Clients:
    """Call it with the name of a service to get a client.

    `session` is a boto3 session. With `role_arn` None, clients use the session's own credentials.
    """

    def __init__(
        self, session: Any, region: str, role_arn: str | None = None, session_name: str = "airflow"
    ) -> None:
        self._session = session
        self._region = region
        self._role_arn = role_arn
        self._session_name = session_name

        self._clients: dict[str, Any] = {}
        self._keys: dict[str, str] = {}
        self._renew_at = _ALWAYS if role_arn is None else _NEVER

    def __call__(self, service: str) -> Any:
        if datetime.now(UTC) >= self._renew_at:
            self._assume_role()
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service, region_name=self._region, **self._keys
            )
        return self._clients[service]

    def _assume_role(self) -> None:
        sts = self._session.client("sts", region_name=self._region)
        answer = sts.assume_role(
            RoleArn=self._role_arn,
            RoleSessionName=_valid_session_name(self._session_name),
            DurationSeconds=3600,
        )
        credentials = answer["Credentials"]

        self._keys = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }
        self._renew_at = credentials["Expiration"] - _RENEW_BEFORE_EXPIRY
        # Existing clients keep the old keys, so they have to be created again.
        self._clients = {}


def _valid_session_name(name: str) -> str:
    """The session name, as STS accepts it and CloudTrail shows it: 2 to 64 characters."""
    return re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", name)[:64].ljust(2, "-")
