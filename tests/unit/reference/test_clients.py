"""boto3 clients for a role, assumed on first use and again before its credentials expire."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dbt_deployment.clients import Clients

ROLE = "arn:aws:iam::111111111111:role/dbt-service"


class Session:
    """A boto3 session with an STS that issues credentials with the given lifetimes."""

    def __init__(self, *lifetimes: timedelta) -> None:
        self.lifetimes = list(lifetimes)
        self.assumed: list[dict[str, Any]] = []
        self.made: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str, **options: Any) -> Any:
        self.made.append((service, options))
        return self if service == "sts" else (service, len(self.made))

    def assume_role(self, **request: Any) -> Any:
        self.assumed.append(request)
        expires = datetime.now(UTC) + self.lifetimes.pop(0)
        keys = {"AccessKeyId": "id", "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": {**keys, "Expiration": expires}}


def test_without_a_role_nothing_is_assumed() -> None:
    session = Session()
    clients = Clients(session, "eu-central-1")
    assert clients("ecs") is clients("ecs")
    assert session.made == [("ecs", {"region_name": "eu-central-1"})]


def test_a_role_is_assumed_once_for_all_clients() -> None:
    session = Session(timedelta(hours=1))
    clients = Clients(session, "eu-central-1", ROLE, "airflow/dbt build")
    assert clients("ecs") is clients("ecs")
    clients("logs")
    assert session.assumed == [
        {"RoleArn": ROLE, "RoleSessionName": "airflow-dbt-build", "DurationSeconds": 3600}
    ]
    keys = {
        "aws_access_key_id": "id",
        "aws_secret_access_key": "secret",
        "aws_session_token": "token",
    }
    assert [options for service, options in session.made if service != "sts"] == [
        {"region_name": "eu-central-1", **keys},
        {"region_name": "eu-central-1", **keys},
    ]


def test_credentials_are_renewed_before_they_expire() -> None:
    session = Session(timedelta(minutes=5), timedelta(hours=1))
    clients = Clients(session, "eu-central-1", ROLE)
    # Five minutes is less than the margin, so the first credentials are renewed at once.
    before = clients("ecs")
    after = clients("ecs")
    assert before is not after
    assert clients("ecs") is after
    assert len(session.assumed) == 2


def test_a_session_name_fits() -> None:
    session = Session(timedelta(hours=1))
    Clients(session, "eu-central-1", ROLE, "ü" * 100)("ecs")
    assert session.assumed[0]["RoleSessionName"] == "-" * 64
