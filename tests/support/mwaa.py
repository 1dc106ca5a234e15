"""MWAA's API on this machine, in front of a moto server: an environment that can be updated, and
its Airflow's REST API.

Statuses come from a script, so that a test says how an update goes.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, cast

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

NAME = "airflow"
Rest = Callable[[str], dict[str, Any]]


def nothing(path: str) -> dict[str, Any]:
    return {"import_errors": [], "dags": [], "total_entries": 0}


class Mwaa:
    """One environment, as a WSGI application. What is not MWAA's goes to moto."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.fresh()

    def fresh(self) -> None:
        self.environment: dict[str, Any] = {
            "Name": NAME,
            "Status": "AVAILABLE",
            "DagS3Path": "dags",
        }
        # The bodies of the requests for an update.
        self.updates: list[dict[str, Any]] = []
        # How often the environment's status was read.
        self.looks = 0
        # The next statuses: one for each time that it is read.
        self.script: list[str] = []
        # The script that an update starts.
        self.after_update: list[str] = ["UPDATING", "AVAILABLE"]
        # Why the next update fails; None if it succeeds.
        self.error: dict[str, str] | None = None
        # Airflow's answers by path; it may raise `Refused`.
        self.rest: Rest = nothing
        # The paths that Airflow was asked for.
        self.asked: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        match = re.fullmatch(rf"/(environments|restapi)/{NAME}", environ["PATH_INFO"])
        if match is None:
            return cast("Iterable[bytes]", self._moto(environ, start_response))
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length) or b"{}")
        try:
            answer = (
                self._environment(environ, body) if match[1] == "environments" else self._rest(body)
            )
            status, kind = 200, {}
        except Refused as refused:
            answer, status, kind = (
                {"message": refused.message},
                refused.status,
                {"x-amzn-errortype": refused.code},
            )
        payload = json.dumps(answer).encode()
        start_response(f"{status} x", [("Content-Type", "application/json"), *kind.items()])
        return [payload]

    def _environment(self, environ: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if environ["REQUEST_METHOD"] == "PATCH":
            if self.environment["Status"] != "AVAILABLE":
                raise Refused(400, "ValidationException", "the environment is not AVAILABLE")
            self.updates.append(body)
            self.script = list(self.after_update)
            self.environment["LastUpdate"] = {
                "Status": "PENDING",
                "CreatedAt": datetime.now(UTC).timestamp(),
            }
            return {"Arn": "arn"}
        self.looks += 1
        if self.script:
            self.environment["Status"] = self.script.pop(0)
            last = self.environment.get("LastUpdate")
            if (
                last
                and self.environment["Status"] not in {"UPDATING", "ROLLING_BACK"}
                and last["Status"] == "PENDING"
            ):
                last["Status"] = "FAILED" if self.error else "SUCCESS"
                if self.error:
                    last["Error"] = self.error
                else:
                    self.environment |= self.updates[-1]
        return {"Environment": self.environment}

    def _rest(self, body: dict[str, Any]) -> dict[str, Any]:
        path = urllib.parse.urlsplit(body["Path"]).path
        self.asked.append(path)
        return {"RestApiStatusCode": 200, "RestApiResponse": self.rest(path)}


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
