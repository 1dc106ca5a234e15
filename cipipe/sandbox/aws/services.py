"""Which of moto's services the sandbox serves: those listed here, and no
others.

moto's Batch and Lambda start containers through the Docker of whoever runs
the sandbox, with any folder of the machine mounted, and its own `/moto-api`
resets and scripts everything.
"""

from collections.abc import Callable
from typing import Any

from cipipe.sandbox.aws.refusals import NOT_SERVED, refused
from cipipe.sandbox.web import Request, WSGIApplication

# moto's own names of its backends. None of these starts a process or a
# container.
SERVED = frozenset(
    {
        "applicationautoscaling",
        "athena",
        "cloudwatch",
        "dynamodb",
        "ec2",
        "ecr",
        "ecs",
        "emr",
        "events",
        "glue",
        "iam",
        "kms",
        "logs",
        "rds",
        "redshift",
        "redshiftdata",
        "resourcegroupstaggingapi",
        "s3",
        "s3control",
        "scheduler",
        "secretsmanager",
        "sns",
        "sqs",
        "ssm",
        "sts",
    }
)


def only_served(create: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """moto's `create_backend_app`, with a refusing application for services
    that are not served.

    moto requests an application by the name of the backend that it has
    chosen from host, path, scope, target and body. So the choice that would
    serve a request is the one that refuses it, and nothing in the request
    gets around that.
    """

    def create_served(service: Any) -> Any:
        return create(service) if service in SERVED else _refusing(str(service))

    return create_served


def _refusing(service: str) -> WSGIApplication:
    text = f"The sandbox does not serve {service}; it serves {', '.join(sorted(SERVED))}"
    reason = NOT_SERVED._replace(text=text)
    return lambda environ, start_response: refused(reason, service, Request(environ))(
        environ, start_response
    )
