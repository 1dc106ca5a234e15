"""JDBC URLs of Redshift and Snowflake.

https://docs.aws.amazon.com/redshift/latest/mgmt/jdbc20-obtain-url.html,
https://docs.snowflake.com/en/developer-guide/jdbc/jdbc-configure
"""

import re
import urllib.parse

_REDSHIFT = re.compile(r"jdbc:redshift(?::iam)?://([^:/;?]+)(?::(\d+))?/([^;?]+)")
_SNOWFLAKE = re.compile(
    r"jdbc:snowflake://([^/?:]+?)(?:\.snowflakecomputing\.(?:com|cn))?(?::\d+)?/?(?:\?(.*))?"
)

# Parameter of a Snowflake URL → variable
_PARAMETERS = {
    "user": "SNOWFLAKE_USER",
    "role": "SNOWFLAKE_ROLE",
    "warehouse": "SNOWFLAKE_WAREHOUSE",
    "db": "SNOWFLAKE_DATABASE",
}


def variables_of_url(url: str, target: str) -> dict[str, str] | None:
    """The variables in a URL for a target of profiles.yml; None if it is not one for it."""
    if target == "redshift" and (found := _REDSHIFT.match(url)):
        host, port, database = found.groups()
        variables = {"REDSHIFT_HOST": host, "REDSHIFT_DATABASE": urllib.parse.unquote(database)}
        return variables | ({"REDSHIFT_PORT": port} if port else {})
    if target == "snowflake" and (found := _SNOWFLAKE.fullmatch(url)):
        given = dict(urllib.parse.parse_qsl(found[2] or ""))
        known = {name: given[key] for key, name in _PARAMETERS.items() if key in given}
        return {"SNOWFLAKE_ACCOUNT": found[1]} | known
    return None
