"""boto3 clients, of a role where one is named, with credentials that are renewed before they
expire.

Airflow's own credentials are those of a role already, and a role that is assumed by a role lasts an
hour at most. A dbt run may take longer.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_EARLY = timedelta(minutes=10)


class Clients:
    """Call it with the name of a service. `session` is a boto3 session; `role_arn` None means the
    session's own rights.
    """

    def __init__(
        self, session: Any, region: str, role_arn: str | None = None, session_name: str = "airflow"
    ) -> None:
        self._session, self._region = session, region
        self._role_arn, self._session_name = role_arn, session_name
        self._made: dict[str, Any] = {}
        self._keys: dict[str, str] = {}
        self._expires = (
            datetime.max.replace(tzinfo=UTC)
            if role_arn is None
            else datetime.min.replace(tzinfo=UTC)
        )

    def __call__(self, service: str) -> Any:
        if datetime.now(UTC) >= self._expires:
            self._assume()
        if service not in self._made:
            self._made[service] = self._session.client(
                service, region_name=self._region, **self._keys
            )
        return self._made[service]

    def _assume(self) -> None:
        sts = self._session.client("sts", region_name=self._region)
        answer = sts.assume_role(
            RoleArn=self._role_arn, RoleSessionName=_fit(self._session_name), DurationSeconds=3600
        )
        credentials = answer["Credentials"]
        self._keys = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }
        self._expires = credentials["Expiration"] - _EARLY
        self._made = {}


def _fit(name: str) -> str:
    """A session name as STS takes it; it is what CloudTrail shows."""
    return re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", name)[:64].ljust(2, "-")
