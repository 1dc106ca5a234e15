"""ECR: repositories are moto's, images are the registry's.

Repository URIs in moto's answers are rewritten to the registry's address, so that Terraform's
`repository_url`, a task definition and `docker push` all name the registry that is really there.
ARNs and account ids stay as they are.
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Operations.html
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from cipipe.sandbox.aws.backend import MotoBackend
from cipipe.sandbox.images.registry import RegistryServer
from cipipe.sandbox.web import Response

TARGET = "AmazonEC2ContainerRegistry_V20150921."
_URI = re.compile(rb"(https://)?\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_TOKEN_LIFE = 12 * 3600

Forward = Callable[[], Response]
"""Has moto answer the request."""


class EcrError(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Ecr:
    """The operations on images, answered from the registry, and the rewriting of all other answers."""

    def __init__(self, backend: MotoBackend, registry: RegistryServer) -> None:
        self._backend = backend
        self._registry = registry
        self._operations: Mapping[str, Callable[[dict[str, Any], str, str], dict[str, Any]]] = {
            "ListImages": self._list,
            "DescribeImages": self._describe,
            "BatchGetImage": self._get,
            "BatchDeleteImage": self._delete,
        }

    def answer(
        self, operation: str, body: bytes, *, account_id: str, region: str, forward: Forward
    ) -> Response:
        """The answer to one operation. `forward` is called unless the registry answers it alone."""
        try:
            arguments = json.loads(body or b"{}")
            if operation in self._operations:
                name = self._repository(arguments, account_id, region)
                return _answer(self._operations[operation](arguments, name, account_id))
            if operation == "DeleteRepository":
                name = self._repository(arguments, account_id, region)
                self._empty(name, account_id, force=bool(arguments.get("force")))
        except EcrError as error:
            return _answer({"__type": error.code, "message": error.text}, 400)
        answer = forward()
        answer.set_data(_URI.sub(self._local, answer.get_data()))
        if operation == "GetAuthorizationToken" and answer.status_code == 200:
            document = json.loads(answer.get_data())
            for entry in document["authorizationData"]:
                entry["expiresAt"] = int(time.time()) + _TOKEN_LIFE
            answer.set_data(json.dumps(document))
        return answer

    def _local(self, match: re.Match[bytes]) -> bytes:
        return (b"http://" if match[1] else b"") + self._registry.host.encode()

    def _repository(self, arguments: Mapping[str, Any], account_id: str, region: str) -> str:
        name = str(arguments.get("repositoryName", ""))
        if not self._backend.has_repository(name, account_id, region):
            text = f"The repository with name '{name}' does not exist in the registry with id '{account_id}'"
            raise EcrError("RepositoryNotFoundException", text)
        return name

    def _list(self, arguments: dict[str, Any], name: str, _account: str) -> dict[str, Any]:
        wanted = arguments.get("filter", {}).get("tagStatus", "ANY")
        tags = self._registry.tags(name)
        tagged = [{"imageDigest": digest, "imageTag": tag} for tag, digest in tags.items()]
        untagged = [
            {"imageDigest": d} for d in self._registry.digests(name) if d not in tags.values()
        ]
        return {
            "imageIds": (tagged if wanted != "UNTAGGED" else [])
            + (untagged if wanted != "TAGGED" else [])
        }

    def _describe(self, arguments: dict[str, Any], name: str, account: str) -> dict[str, Any]:
        tags = self._registry.tags(name)
        digests = self._registry.digests(name)
        if asked := arguments.get("imageIds"):
            digests = []
            for entry in asked:
                digest, failure = self._find(name, entry)
                if digest is None:
                    shown = f"imageDigest:'{entry.get('imageDigest', 'null')}', imageTag:'{entry.get('imageTag', 'null')}'"
                    text = (
                        f"The image with imageId {{{shown}}} does not exist within the repository with name '{name}' in "
                        f"the registry with id '{account}'"
                    )
                    raise EcrError(f"{failure}Exception", text)
                digests.append(digest)
        wanted = arguments.get("filter", {}).get("tagStatus", "ANY")
        details = [self._details(name, digest, tags, account) for digest in dict.fromkeys(digests)]
        keep = {
            "TAGGED": lambda d: "imageTags" in d,
            "UNTAGGED": lambda d: "imageTags" not in d,
        }.get(wanted)
        return {"imageDetails": [detail for detail in details if keep is None or keep(detail)]}

    def _details(
        self, name: str, digest: str, tags: Mapping[str, str], account: str
    ) -> dict[str, Any]:
        body, media_type = self._registry.manifest(name, digest)
        manifest = json.loads(body)
        parts = [
            *manifest.get("layers", []),
            *([manifest["config"]] if "config" in manifest else []),
        ]
        named = [tag for tag, named in tags.items() if named == digest]
        return {
            "registryId": account,
            "repositoryName": name,
            "imageDigest": digest,
            **({"imageTags": named} if named else {}),
            "imageSizeInBytes": sum(part["size"] for part in parts),
            "imagePushedAt": self._registry.pushed_at(name, digest),
            "imageManifestMediaType": media_type,
        }

    def _get(self, arguments: dict[str, Any], name: str, account: str) -> dict[str, Any]:
        images, failures = [], []
        for entry in arguments.get("imageIds", []):
            digest, failure = self._find(name, entry)
            if digest is None:
                failures.append(_failure(entry, failure))
                continue
            body, media_type = self._registry.manifest(name, digest)
            images.append(
                {
                    "registryId": account,
                    "repositoryName": name,
                    "imageId": {**entry, "imageDigest": digest},
                    "imageManifest": body.decode(),
                    "imageManifestMediaType": media_type,
                }
            )
        return {"images": images, "failures": failures}

    def _delete(self, arguments: dict[str, Any], name: str, _account: str) -> dict[str, Any]:
        deleted, failures = [], []
        for entry in arguments.get("imageIds", []):
            digest, failure = self._find(name, entry)
            if digest is None:
                failures.append(_failure(entry, failure))
                continue
            named = [tag for tag, named in self._registry.tags(name).items() if named == digest]
            if "imageDigest" not in entry and len(named) > 1:
                self._registry.untag(name, entry["imageTag"])
                named = [entry["imageTag"]]
            else:
                self._registry.delete(name, digest)
            deleted += [{"imageDigest": digest, "imageTag": tag} for tag in named] or [
                {"imageDigest": digest}
            ]
        return {"imageIds": deleted, "failures": failures}

    def _find(self, name: str, entry: Mapping[str, str]) -> tuple[str | None, str]:
        """The digest that an image id names, or None and ECR's word for the failure."""
        tag, digest = entry.get("imageTag"), entry.get("imageDigest")
        if tag is None and digest is None:
            return None, "MissingDigestAndTag"
        if tag is not None:
            named = self._registry.tags(name).get(tag)
            if named is not None and digest not in {None, named}:
                return None, "ImageTagDoesNotMatchDigest"
            return named, "ImageNotFound"
        return (digest if digest in self._registry.digests(name) else None), "ImageNotFound"

    def _empty(self, name: str, account: str, *, force: bool) -> None:
        digests = self._registry.digests(name)
        if digests and not force:
            text = (
                f"The repository with name '{name}' in registry with id '{account}' cannot be deleted because it still "
                "contains images"
            )
            raise EcrError("RepositoryNotEmptyException", text)
        for digest in digests:
            self._registry.delete(name, digest)


def _failure(entry: Mapping[str, str], code: str) -> dict[str, Any]:
    return {
        "imageId": dict(entry),
        "failureCode": code,
        "failureReason": "Requested image not found",
    }


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/x-amz-json-1.1")
