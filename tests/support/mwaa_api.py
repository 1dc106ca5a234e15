"""MWAA's API, as far as Terraform uses it: environments that are created, changed and deleted.

Terraform reaches it as a proxy: the host of its requests does not exist.
"""

import json
import re
import time
import urllib.parse
from collections.abc import Iterable
from typing import Any

from support.stack_root import ACCOUNT, REGION

ROUTE = re.compile(r"/(environments|tags)/(.+)")

# What an environment has if a request does not say it.
DEFAULTS: dict[str, Any] = {
    "EndpointManagement": "SERVICE",
    "MaxWebservers": 2,
    "MinWebservers": 2,
    "MinWorkers": 1,
    "Schedulers": 2,
    "WeeklyMaintenanceWindowStart": "SUN:01:00",
}


class MwaaApi:
    """A WSGI application. Each state is seen once before it changes."""

    def __init__(self) -> None:
        self.environments: dict[str, dict[str, Any]] = {}
        # Method, path and body of all requests that change something.
        self.changes: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length) or b"{}")
        method, path = environ["REQUEST_METHOD"], urllib.parse.unquote(environ["PATH_INFO"])
        if method != "GET":
            self.changes.append((method, path, body))
        route = ROUTE.fullmatch(path)
        found = None if route is None else self._answer(method, route[1], route[2], body)
        status = "404 x" if found is None else "200 x"
        kind = [("x-amzn-errortype", "ResourceNotFoundException")] if found is None else []
        start_response(status, [("Content-Type", "application/json"), *kind])
        return [json.dumps({"message": "no such thing"} if found is None else found).encode()]

    def _answer(
        self, method: str, kind: str, name: str, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        if kind == "tags":
            environment = self.environments[name.rpartition("/")[2]]
            return {"Tags": environment["Tags"]}
        if method == "PUT":
            return self._create(name, body)
        if name not in self.environments:
            return None
        environment = self.environments[name]
        if method == "PATCH":
            environment.update(_written(body))
            environment["Status"] = "UPDATING"
        elif method == "DELETE":
            environment["Status"] = "DELETING"
        else:
            return self._seen(name)
        return {"Arn": environment["Arn"]}

    def _create(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        arn = f"arn:aws:airflow:{REGION}:{ACCOUNT}:environment/{name}"
        self.environments[name] = {
            **DEFAULTS,
            **_written(body),
            "Arn": arn,
            "CreatedAt": time.time(),
            "Name": name,
            "ServiceRoleArn": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/airflow",
            "Status": "CREATING",
            "WebserverUrl": "example.airflow.amazonaws.com",
        }
        return {"Arn": arn}

    def _seen(self, name: str) -> dict[str, Any]:
        environment = dict(self.environments[name])
        if environment["Status"] == "DELETING":
            del self.environments[name]
        else:
            self.environments[name]["Status"] = "AVAILABLE"
        return {"Environment": environment}


def _written(body: dict[str, Any]) -> dict[str, Any]:
    """A request as an environment shows it: each kind of logs has a group."""
    logs = {
        kind: {
            **settings,
            "CloudWatchLogGroupArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:airflow-{kind}",
        }
        for kind, settings in body.get("LoggingConfiguration", {}).items()
    }
    return {**body, "LoggingConfiguration": logs} if logs else dict(body)
