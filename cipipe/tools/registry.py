"""The client of an image registry: Amazon ECR's login, and the Docker
Registry HTTP API behind it.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html,
https://distribution.github.io/distribution/spec/api
"""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cipipe.errors import StageError
from cipipe.redact import Redactor
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.aws.errors import AwsError

# Without these, a registry converts a manifest to the oldest format, which
# has another digest.
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One repository in ECR, with a login."""

    # For what the registry's own API cannot do.
    aws: Aws
    # `HOST/NAME`
    repository: str
    # Of the registry.
    url: str
    username: str
    password: str = field(repr=False)

    @property
    def host(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def name(self) -> str:
        return self.repository.partition("/")[2]

    def digest(self, tag: str) -> str | None:
        """The digest (`sha256:…`) of a tag; None where the repository has no such tag."""
        answer = self._send("HEAD", f"manifests/{tag}")
        return answer.headers["docker-content-digest"] if answer.status == 200 else None

    def retag(self, digest: str, tag: str) -> None:
        """Point a tag at an image of the repository.

        Raises StageError where the repository's tags are immutable.
        """
        if self.digest(tag) == digest:
            return
        manifest = self._send("GET", f"manifests/{digest}")
        sent = {"Content-Type": manifest.headers["content-type"]}
        self._send("PUT", f"manifests/{tag}", body=manifest.body, headers=sent, accept={201})

    def tags(self) -> list[str]:
        """Every tag. Empty where the repository does not exist."""
        found: list[str] = []
        path = "tags/list?n=1000"
        while path:
            answer = self._send("GET", path)
            if answer.status == 404:
                return []
            found += answer.json().get("tags") or []
            # `<URL?n=…&last=…>; rel="next"`, until the last page.
            link = answer.headers.get("link", "")
            query = link.partition("?")[2].partition(">")[0]
            path = f"tags/list?{query}" if 'rel="next"' in link else ""
        return sorted(found)

    def delete(self, tags: list[str]) -> None:
        """Delete images by tag."""
        # ECR accepts a hundred at a time.
        for start in range(0, len(tags), 100):
            batch = [{"imageTag": tag} for tag in tags[start : start + 100]]
            answer = self.aws.call(
                "ecr", "batch_delete_image", repositoryName=self.name, imageIds=batch
            )
            failures = [
                failure
                for failure in answer.get("failures", ())
                if failure.get("failureCode") != "ImageNotFound"
            ]
            if failures:
                reasons = "; ".join(
                    f"{failure['imageId']}: {failure['failureReason']}" for failure in failures
                )
                raise StageError(
                    "registry-delete-failed",
                    f"images could not be deleted: {reasons}",
                    where=self.name,
                )

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (200, 404),
    ) -> http.Response:
        url = f"{self.url}/v2/{self.name}/{path}"
        basic = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        sent = {
            "Accept": ", ".join(_MANIFESTS),
            "Authorization": f"Basic {basic}",
            **(headers or {}),
        }
        answer = http.request(method, url, headers=sent, body=body)
        if answer.status not in accept:
            raise StageError(
                "registry-refused",
                f"the registry answered {answer.status} to {method} {url}: "
                + answer.body[:200].decode(errors="replace"),
                hint="The role needs ecr:BatchGetImage, ecr:GetDownloadUrlForLayer, ecr:ListImages "
                "and ecr:PutImage; an extra tag cannot move in a repository with immutable tags.",
            )
        return answer


def login(aws: Aws, repository: str, redactor: Redactor) -> Registry:
    """Log in to the ECR registry of `repository`, `HOST/NAME` as Terraform
    outputs it.

    Raises StageError.
    """
    host, _, name = repository.partition("/")
    if not name:
        raise StageError(
            "registry-bad-repository",
            f"{repository!r} is not of the form REGISTRY/NAME",
            where="repository",
        )
    try:
        data = aws.call("ecr", "get_authorization_token")["authorizationData"][0]
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
    if url.partition("://")[2] != host:
        raise StageError(
            "registry-bad-repository",
            f"{repository} is not in this account's registry, which is {url}",
            hint="An image stage pushes to the Amazon ECR registry of the environment's own "
            "account and region.",
            where="repository",
        )
    return Registry(aws=aws, repository=repository, url=url, username=username, password=password)
