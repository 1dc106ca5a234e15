"""What the sandbox does not have: Fargate that runs a container, Athena that writes a result, EMR
that runs steps, and Slack.

A server in front of the sandbox's AWS that passes everything on. Only what moto leaves out of a
task (a container that really ends, with an exit code or without one) and of a query (its CSV file)
is put in; every request is written down.
"""

import http.client
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import docker

from cipipe.sandbox.web import Request, Response, Server, StartResponse, WSGIEnvironment
from support.clone import Aws

CSV = "movie_id,title,ratings,mean_rating\n1,Heat,2,4.5\n"
ENDINGS: dict[str, dict[str, Any]] = {
    "exit-0": {"exitCode": 0, "stopCode": "EssentialContainerExited"},
    "exit-2": {"exitCode": 2, "stopCode": "EssentialContainerExited"},
    "no-exit-code": {
        "stopCode": "SpotInterruption",
        "stoppedReason": "Your Spot Task was interrupted.",
    },
}

_NO_ACLS = (
    "<Error><Code>AccessControlListNotSupported</Code><Message>The "
    "bucket does not allow ACLs</Message></Error>"
)
_OWN_HEADERS = {"connection", "content-length", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Call:
    """One request of an AWS client."""

    # The name of the DAG run that it belongs to.
    run: str
    # As AWS calls it: RunTask, AssumeRole.
    action: str
    access_key: str
    # The request's document: JSON, or the fields of a form.
    body: dict[str, Any]


@dataclass
class Fargate:
    """The server. A run announces itself with PUT /next before it starts."""

    aws: Aws
    # The DAG run that asks at the moment.
    run: str = ""
    # How its containers end: one of `ENDINGS`; "docker", which runs the task's real container;
    # or "never", which lasts until the task is stopped. With "lost-answer", EMR starts a cluster,
    # but its answer does not arrive.
    ending: str = "exit-0"
    calls: list[Call] = field(default_factory=list)
    # The run, and a text that it sent to Slack.
    messages: list[tuple[str, str]] = field(default_factory=list)
    # The run, and the output of one of its real containers.
    printed: list[tuple[str, str]] = field(default_factory=list)
    # The access keys of the sessions that were given out.
    assumed: list[str] = field(default_factory=list)
    # By the task's ARN; None while it runs.
    _ends: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    # How often each EMR step was looked at.
    _looks: dict[str, int] = field(default_factory=dict)
    # The Docker volume with the containers' home folder; empty until the first one starts.
    _volume: str = ""

    def __post_init__(self) -> None:
        self._server = Server(self)
        self._server.start()

    @property
    def url(self) -> str:
        return self._server.url

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data()
        if request.path.startswith("/slack/"):
            self.messages.append((self.run, json.loads(body)["text"]))
            return Response("ok")(environ, start_response)
        if "X-Amz-Acl" in request.headers:  # as a bucket without ACLs answers, and moto's does not
            return Response(_NO_ACLS, 400, content_type="application/xml")(environ, start_response)
        if request.path == "/next":
            self.run, self.ending = json.loads(body)
            return Response()(environ, start_response)
        answer = self._forward(request, body)
        if answer.status_code == 200:
            answer.data = self._noted(request, body, answer.data)
        if self.ending == "lost-answer" and self._is_first_cluster(request):
            answer = Response("{}", 500)
        return answer(environ, start_response)

    def _forward(self, request: Request, body: bytes) -> Response:
        place = urllib.parse.urlsplit(self.aws.sandbox.state.aws_url)
        connection = http.client.HTTPConnection(place.netloc, timeout=120)
        connection.request(request.method, request.environ["RAW_URI"], body, dict(request.headers))
        answer = connection.getresponse()
        kept = [
            (name, value) for name, value in answer.getheaders() if name.lower() not in _OWN_HEADERS
        ]
        return Response(answer.read(), answer.status, kept)

    def _noted(self, request: Request, body: bytes, answer: bytes) -> bytes:
        target = request.headers.get("X-Amz-Target")
        form = dict(urllib.parse.parse_qsl(body.decode())) if b"Action=" in body else {}
        if target is None and not form:
            return answer
        action = target.rpartition(".")[2] if target else form["Action"]
        document = json.loads(body) if target else form
        key = re.search(r"Credential=(\w+)/", request.headers.get("Authorization", ""))
        self.calls.append(Call(self.run, action, key[1] if key else "", document))
        return self._answered(action, document, answer)

    def _is_first_cluster(self, request: Request) -> bool:
        target = request.headers.get("X-Amz-Target", "")
        return target.endswith(".RunJobFlow") and len(self.asked(self.run, "RunJobFlow")) == 1

    def asked(self, run: str, action: str) -> list[Call]:
        return [call for call in self.calls if (call.run, call.action) == (run, action)]

    def _answered(self, action: str, request: dict[str, Any], answer: bytes) -> bytes:
        """The answer to a request, with what moto left out."""
        match action:
            case "RunTask":
                self._start(request, json.loads(answer)["tasks"][0]["taskArn"])
            case "DescribeTasks":
                document = json.loads(answer)
                for task in document["tasks"]:
                    self._end(task)
                return json.dumps(document).encode()
            case "StopTask":
                self._ends[request["task"]] = {
                    "stopCode": "UserInitiated",
                    "stoppedReason": request["reason"],
                }
            case "DescribeStep":
                return self._step(request, json.loads(answer))
            case "DescribeCluster":
                return self._cluster(json.loads(answer))
            case "AssumeRole":
                self.assumed += re.findall(r"<AccessKeyId>(\w+)<", answer.decode())
            case "StartQueryExecution" if "OutputLocation" in request.get(
                "ResultConfiguration", {}
            ):
                place = urllib.parse.urlsplit(request["ResultConfiguration"]["OutputLocation"])
                key = f"{place.path.strip('/')}/{json.loads(answer)['QueryExecutionId']}.csv"
                self.aws.client("s3").put_object(Bucket=place.netloc, Key=key, Body=CSV.encode())
        return answer

    def _step(self, request: dict[str, Any], answer: dict[str, Any]) -> bytes:
        """A step as EMR describes it: it runs at first, and its command ends as `ending` says. If
        one fails, those after it are cancelled.
        """
        status = answer["Step"]["Status"]
        self._looks[request["StepId"]] = self._looks.get(request["StepId"], 0) + 1
        if self.ending == "no-cluster":
            status["State"] = "CANCELLED"
        elif self._looks[request["StepId"]] == 1:
            status["State"] = "RUNNING"
        elif self.ending == "exit-2":
            status |= {"State": "FAILED", "FailureDetails": {"Reason": "exit code 2"}}
        else:
            status["State"] = "COMPLETED"
        return json.dumps(answer).encode()

    def _cluster(self, answer: dict[str, Any]) -> bytes:
        """A cluster that was terminated is TERMINATED, without moto's delay."""
        if answer["Cluster"]["Status"]["State"] == "TERMINATING":
            answer["Cluster"]["Status"]["State"] = "TERMINATED"
        return json.dumps(answer).encode()

    def _start(self, request: dict[str, Any], arn: str) -> None:
        self._ends[arn] = ENDINGS.get(self.ending)
        if self.ending != "docker":
            self._log(self._definition(request), arn, f"this container ends with {self.ending}")
        else:
            threading.Thread(target=self._contain, args=(request, arn), daemon=True).start()

    def _contain(self, request: dict[str, Any], arn: str) -> None:
        """Run the container that the task definition names, with its home folder kept from task to
        task.
        """
        definition = self._definition(request)
        override = request["overrides"]["containerOverrides"][0]
        assert override["name"] == definition["name"]
        try:
            status, text = self.contain(definition["image"], override["command"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to see it
            status, text = 125, str(error)
        self.printed.append((self.run, text))
        self._log(definition, arn, text)
        self._ends[arn] = {"exitCode": status, "stopCode": "EssentialContainerExited"}

    def _definition(self, request: dict[str, Any]) -> dict[str, Any]:
        described = self.aws.client("ecs").describe_task_definition(
            taskDefinition=request["taskDefinition"]
        )
        return dict(described["taskDefinition"]["containerDefinitions"][0])

    def remove(self) -> None:
        """The volume that containers have kept their files in."""
        if self._volume:
            self._engine().volumes.get(self._volume).remove()

    def contain(self, image: str, command: list[str]) -> tuple[int, str]:
        """Exit status and output of a container of that image."""
        engine = self._engine()
        self._volume = self._volume or str(engine.volumes.create().name)
        container = engine.containers.run(
            image,
            command,
            detach=True,
            environment={"DBT_ENVIRONMENT": "dev"},
            network_disabled=True,
            volumes={self._volume: {"bind": "/home/dbt"}},
        )
        status = container.wait()["StatusCode"]
        text = container.logs().decode()
        container.remove()
        return status, text

    def _engine(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.aws.sandbox.state.docker_host or None, timeout=120)

    def _log(self, definition: dict[str, Any], arn: str, text: str) -> None:
        options, logs = definition["logConfiguration"]["options"], self.aws.client("logs")
        stream = f"{options['awslogs-stream-prefix']}/{definition['name']}/{arn.rpartition('/')[2]}"
        where = {"logGroupName": options["awslogs-group"], "logStreamName": stream}
        logs.create_log_stream(**where)
        now = int(time.time() * 1000)
        logs.put_log_events(
            **where,
            logEvents=[{"timestamp": now, "message": line} for line in text.splitlines() if line],
        )

    def _end(self, task: dict[str, Any]) -> None:
        ending = self._ends[task["taskArn"]]
        task["lastStatus"] = "STOPPED" if ending else "RUNNING"
        for container in task["containers"]:
            container.pop("exitCode", None)
            container["lastStatus"] = task["lastStatus"]
            if ending and "exitCode" in ending:
                container["exitCode"] = ending["exitCode"]
        task |= {name: value for name, value in (ending or {}).items() if name != "exitCode"}
