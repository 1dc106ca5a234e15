"""The warehouse's credentials, from Secrets Manager or a Glue connection, as the variables that
profiles.yml reads.

They only exist in the environment of dbt's process. A variable that the task definition or the
DAG sets itself is kept.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from dbt_runtime.jdbc import variables_of_url
from dbt_runtime.settings import Settings

PASSWORD = "DBT_ENV_SECRET_PASSWORD"  # noqa: S105  (a variable's name)

# dbt keeps variables of this prefix out of its own logs.
SECRET_PREFIX = "DBT_ENV_SECRET_"  # noqa: S105

# Keys of a JSON secret that go to a variable of every warehouse. The first ones are those that
# AWS writes when it manages or rotates a database's secret:
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
_SECRET_KEYS = {
    "password": PASSWORD,
    "private_key": "DBT_ENV_SECRET_PRIVATE_KEY",
    "private_key_passphrase": "DBT_ENV_SECRET_PRIVATE_KEY_PASSPHRASE",
}
_WAREHOUSE_KEYS = {
    "redshift": {
        "username": "REDSHIFT_USER",
        "user": "REDSHIFT_USER",
        "host": "REDSHIFT_HOST",
        "port": "REDSHIFT_PORT",
        "dbname": "REDSHIFT_DATABASE",
        "database": "REDSHIFT_DATABASE",
    },
    "snowflake": {
        "username": "SNOWFLAKE_USER",
        "user": "SNOWFLAKE_USER",
        "sfUser": "SNOWFLAKE_USER",
        "sfPassword": PASSWORD,
        "account": "SNOWFLAKE_ACCOUNT",
        "role": "SNOWFLAKE_ROLE",
        "warehouse": "SNOWFLAKE_WAREHOUSE",
        "database": "SNOWFLAKE_DATABASE",
    },
}
# Variables with values that nobody may see, whoever sets them.
_SECRET_NAME = re.compile(
    rf"{SECRET_PREFIX}.*|.*(PASSWORD|PASSPHRASE|PRIVATE_KEY|SECRET_ACCESS_KEY|_TOKEN)"
)
_VARIABLE_PREFIXES = (SECRET_PREFIX, "REDSHIFT_", "SNOWFLAKE_")

# A client of boto3 for a service.
Client = Callable[[str], Any]


class CredentialsError(Exception):
    """The credentials cannot be read. The message says which, and why, without a value."""


def credentials(settings: Settings, env: Mapping[str, str], client: Client) -> dict[str, str]:
    """The variables to add to dbt's environment. Raises CredentialsError."""
    target = env.get("DBT_TARGET", "duckdb")
    found: dict[str, str] = {}
    if settings.connection:
        found |= _of_connection(settings.connection, target, client)
    if settings.secret:
        found |= _of_secret(settings.secret, target, client)
    return {name: value for name, value in found.items() if name not in env}


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """The values that nobody may see."""
    return [value for name, value in env.items() if value and _SECRET_NAME.fullmatch(name)]


def variables_of_secret(text: str, target: str) -> dict[str, str]:
    """The variables in a secret: a JSON object, or the password alone."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return {PASSWORD: text} if text else {}

    known = _SECRET_KEYS | _WAREHOUSE_KEYS.get(target, {})
    found = {}
    for key, value in content.items():
        name = key if key.startswith(_VARIABLE_PREFIXES) else known.get(key)
        if name is not None and isinstance(value, str | int):
            found[name] = str(value)
    return found


def _of_secret(name: str, target: str, client: Client) -> dict[str, str]:
    answer = _asked(
        f"the secret {name}",
        lambda: client("secretsmanager").get_secret_value(SecretId=name),
    )
    if "SecretString" not in answer:
        raise CredentialsError(f"the secret {name} is binary; store text or a JSON object in it")
    found = variables_of_secret(answer["SecretString"], target)
    if not found:
        wanted = ", ".join(sorted(_SECRET_KEYS))
        raise CredentialsError(
            f"the secret {name} has none of the keys that are used: {wanted}, those of the "
            f"warehouse, or names of variables that start with {', '.join(_VARIABLE_PREFIXES)}"
        )
    return found


def _of_connection(name: str, target: str, client: Client) -> dict[str, str]:
    answer = _asked(
        f"the Glue connection {name}",
        lambda: client("glue").get_connection(Name=name, HidePassword=False),
    )
    properties = answer["Connection"].get("ConnectionProperties", {})
    found = variables_of_url(properties.get("JDBC_CONNECTION_URL", ""), target)
    if found is None:
        raise CredentialsError(
            f"the Glue connection {name} has no JDBC URL of {target}; DBT_TARGET and the "
            "connection have to name the same kind of warehouse"
        )

    named = {"username": properties.get("USERNAME"), "password": properties.get("PASSWORD")}
    given = {key: value for key, value in named.items() if value}
    found |= variables_of_secret(json.dumps(given), target)
    if properties.get("SECRET_ID"):
        found |= _of_secret(properties["SECRET_ID"], target, client)
    return found


def _asked(what: str, request: Callable[[], Any]) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return request()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        text = error.response.get("Error", {}).get("Message", "")
        raise CredentialsError(f"{what} cannot be read: {code}: {text}") from error
    except BotoCoreError as error:
        raise CredentialsError(f"{what} cannot be read: {error}") from error
