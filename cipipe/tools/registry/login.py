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
from cipipe.tools.registry.connections import Connections

_ECR = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)"
)


def is_ecr(host: str) -> bool:
    """Whether a registry is Amazon ECR's."""
    return _ECR.fullmatch(host) is not None


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
        made = here.registry_login()
    except AwsError as error:
        raise StageError(
            "registry-login-failed",
            f"no login for {host}: {error.text}",
            hint="The role needs ecr:GetAuthorizationToken.",
        ) from error
    redactor.register(made.password)
    redactor.register(made.basic)

    url = made.url
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
    return Registry(
        aws=here,
        repository=repository,
        url=url,
        username=made.username,
        password=made.password,
        connections=Connections(here.endpoint.ca_bundle),
    )


def other(
    repository: str,
    *,
    username: str,
    password: str,
    ca_bundle: str | None,
    redactor: Redactor,
) -> Registry:
    """A repository of a registry that is not ECR. `ca_bundle` is a file of
    certificates to trust. Raises StageError.
    """
    host, _, name = repository.partition("/")
    if not name:
        raise _bad(repository)
    redactor.register(password)
    redactor.register(base64.b64encode(f"{username}:{password}".encode()).decode())
    return Registry(
        repository=repository,
        url=_url(host),
        username=username,
        password=password,
        connections=Connections(ca_bundle),
    )


def anonymous(repository: str, *, ca_bundle: str | None) -> Registry:
    """A repository that everybody may read."""
    return Registry(
        repository=repository,
        url=_url(repository.partition("/")[0]),
        username="",
        password="",
        connections=Connections(ca_bundle),
    )


def _url(host: str) -> str:
    scheme = "http" if host.partition(":")[0] in LOOPBACK else "https"
    return f"{scheme}://{host}"


def _bad(repository: str) -> StageError:
    return StageError(
        "registry-bad-repository",
        f"{repository!r} is not of the form REGISTRY/NAME",
        where="repository",
    )
