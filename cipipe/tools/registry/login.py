"""Logins: Amazon ECR's, in any account and region that the role may use, and those of other
registries.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
"""

import base64
import re

from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.http import LOOPBACK
from cipipe.tools.registry.client import Registry

_ECR = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)"
)


def login(aws: Aws, repository: str, redactor: Redactor) -> Registry:
    """Log in to the ECR registry of `repository`, `HOST/NAME` as Terraform
    outputs it. Raises StageError.
    """
    host, _, name = repository.partition("/")
    if not name:
        raise _bad(repository)

    found = _ECR.fullmatch(host)
    here = aws.at(found[1]) if found else aws
    try:
        data = here.call("ecr", "get_authorization_token")["authorizationData"][0]
    except AwsError as error:
        raise StageError(
            "registry-login-failed",
            f"no login for {host}: {error.text}",
            hint="The role needs ecr:GetAuthorizationToken.",
        ) from error
    username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    redactor.register(password)
    redactor.register(data["authorizationToken"])

    url = str(data["proxyEndpoint"])
    if found is not None:
        # The token is good for every registry that the role may use.
        url = f"https://{host}"
    elif url.partition("://")[2] != host:
        raise StageError(
            "registry-bad-repository",
            f"{repository} is not in Amazon ECR; the registry of this account is {url}",
            hint="Give the stage a `login` for another registry.",
            where="repository",
        )
    return Registry(aws=here, repository=repository, url=url, username=username, password=password)


def other(repository: str, username: str, password: str, redactor: Redactor) -> Registry:
    """A repository of a registry that is not ECR. Raises StageError."""
    host, _, name = repository.partition("/")
    if not name:
        raise _bad(repository)
    redactor.register(password)
    redactor.register(base64.b64encode(f"{username}:{password}".encode()).decode())
    scheme = "http" if host.partition(":")[0] in LOOPBACK else "https"
    return Registry(
        repository=repository, url=f"{scheme}://{host}", username=username, password=password
    )


def _bad(repository: str) -> StageError:
    return StageError(
        "registry-bad-repository",
        f"{repository!r} is not of the form REGISTRY/NAME",
        where="repository",
    )
