"""ECR: repositories are moto's, images are the registry's.

Repository URIs in moto's answers are replaced by the registry's address, so that Terraform's
`repository_url`, a task definition and `docker push` name the registry that is really there. ARNs
and account ids stay as they are.
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

# Seconds, as AWS documents it. moto names a moment in 2015.
_TOKEN_LIFE = 12 * 3600

# Lets moto answer the request.
Forward = Callable[[], Response]

Arguments = Mapping[str, Any]


class EcrError(Exception):
    """A refusal, with AWS's code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Ecr:
    """The operations on images, answered from the registry; all other answers are rewritten."""

    def __init__(self, backend: MotoBackend, registry: RegistryServer) -> None:
        self._backend = backend
        self._registry = registry

        # Each gets the arguments, the repository's name and the account.
        self._operations: Mapping[str, Callable[[Arguments, str, str], dict[str, Any]]] = {
            "ListImages": self._list,
            "DescribeImages": self._describe,
            "BatchGetImage": self._get,
            "BatchDeleteImage": self._delete,
            "StartImageScan": self._start_scan,
            "DescribeImageScanFindings": self._findings,
        }

    def answer(
        self, operation: str, body: bytes, *, account_id: str, region: str, forward: Forward
    ) -> Response:
        """The answer to one operation. `forward` is called unless the registry alone answers."""
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

    def _repository(self, arguments: Arguments, account_id: str, region: str) -> str:
        name = str(arguments.get("repositoryName", ""))
        if not self._backend.has_repository(name, account_id, region):
            raise EcrError(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id "
                f"'{account_id}'",
            )
        return name

    def _list(self, arguments: Arguments, name: str, _account: str) -> dict[str, Any]:
        wanted = _tag_status(arguments)
        tags = self._registry.tags(name)
        images = []
        if wanted != "UNTAGGED":
            images += [{"imageDigest": digest, "imageTag": tag} for tag, digest in tags.items()]
        if wanted != "TAGGED":
            untagged = [one for one in self._registry.digests(name) if one not in tags.values()]
            images += [{"imageDigest": digest} for digest in untagged]
        return {"imageIds": images}

    def _describe(self, arguments: Arguments, name: str, account: str) -> dict[str, Any]:
        digests = self._registry.digests(name)
        if image_ids := arguments.get("imageIds"):
            digests = [self._existing(name, image_id, account) for image_id in image_ids]

        tags = self._registry.tags(name)
        details = [
            self._details(name, digest, tags=tags, account=account)
            for digest in dict.fromkeys(digests)
        ]
        wanted = _tag_status(arguments)
        if wanted in {"TAGGED", "UNTAGGED"}:
            tagged = wanted == "TAGGED"
            details = [detail for detail in details if ("imageTags" in detail) is tagged]
        return {"imageDetails": details}

    def _existing(self, name: str, image_id: Mapping[str, str], account: str) -> str:
        digest, failure = self._find(name, image_id)
        if digest is not None:
            return digest
        by_digest = image_id.get("imageDigest", "null")
        by_tag = image_id.get("imageTag", "null")
        shown = f"imageDigest:'{by_digest}', imageTag:'{by_tag}'"
        raise EcrError(
            f"{failure}Exception",
            f"The image with imageId {{{shown}}} does not exist within the repository with name "
            f"'{name}' in the registry with id '{account}'",
        )

    def _details(
        self, name: str, digest: str, *, tags: Mapping[str, str], account: str
    ) -> dict[str, Any]:
        body, media_type = self._registry.manifest(name, digest)
        manifest = json.loads(body)
        parts = list(manifest.get("layers", []))

        # An index has manifests instead: it has neither layers nor a
        # config.
        if "config" in manifest:
            parts.append(manifest["config"])

        details = {
            "registryId": account,
            "repositoryName": name,
            "imageDigest": digest,
            "imageSizeInBytes": sum(part["size"] for part in parts),
            "imagePushedAt": self._registry.pushed_at(name, digest),
            "imageManifestMediaType": media_type,
        }
        named = [tag for tag, named in tags.items() if named == digest]
        if named:
            details["imageTags"] = named
        return details

    def _get(self, arguments: Arguments, name: str, account: str) -> dict[str, Any]:
        images = []
        failures = []
        for image_id in arguments.get("imageIds", []):
            digest, failure = self._find(name, image_id)
            if digest is None:
                failures.append(_failure(image_id, failure))
                continue
            body, media_type = self._registry.manifest(name, digest)
            image = {
                "registryId": account,
                "repositoryName": name,
                "imageId": {**image_id, "imageDigest": digest},
                "imageManifest": body.decode(),
                "imageManifestMediaType": media_type,
            }
            images.append(image)
        return {"images": images, "failures": failures}

    def _delete(self, arguments: Arguments, name: str, _account: str) -> dict[str, Any]:
        deleted = []
        failures = []
        for image_id in arguments.get("imageIds", []):
            digest, failure = self._find(name, image_id)
            if digest is None:
                failures.append(_failure(image_id, failure))
                continue

            # A tag is deleted on its own while the image has others; with
            # the last one the image goes, and with a digest the image and
            # all its tags.
            named = [tag for tag, named in self._registry.tags(name).items() if named == digest]
            if "imageDigest" not in image_id and len(named) > 1:
                self._registry.untag(name, image_id["imageTag"])
                named = [image_id["imageTag"]]
            else:
                self._registry.delete(name, digest)
            gone = [{"imageDigest": digest, "imageTag": tag} for tag in named]
            deleted += gone or [{"imageDigest": digest}]
        return {"imageIds": deleted, "failures": failures}

    def _start_scan(self, arguments: Arguments, name: str, account: str) -> dict[str, Any]:
        return self._scan(arguments, name, account, "IN_PROGRESS")

    def _findings(self, arguments: Arguments, name: str, account: str) -> dict[str, Any]:
        """A scan of the sandbox has always ended, and finds nothing: there
        is no database of vulnerabilities.
        """
        now = time.time()
        findings = {
            "imageScanCompletedAt": now,
            "vulnerabilitySourceUpdatedAt": now,
            "findings": [],
            "findingSeverityCounts": {},
        }
        answer = self._scan(arguments, name, account, "COMPLETE")
        return {**answer, "imageScanFindings": findings}

    def _scan(self, arguments: Arguments, name: str, account: str, state: str) -> dict[str, Any]:
        image_id = arguments.get("imageId", {})
        digest = self._existing(name, image_id, account)
        return {
            "registryId": account,
            "repositoryName": name,
            "imageId": {**image_id, "imageDigest": digest},
            "imageScanStatus": {"status": state},
        }

    def _find(self, name: str, image_id: Mapping[str, str]) -> tuple[str | None, str]:
        """The digest of an image id; None and ECR's failure code if there is no such image."""
        tag = image_id.get("imageTag")
        digest = image_id.get("imageDigest")
        if tag is None and digest is None:
            return None, "MissingDigestAndTag"
        if tag is not None:
            named = self._registry.tags(name).get(tag)
            if named is not None and digest not in {None, named}:
                return None, "ImageTagDoesNotMatchDigest"
            return named, "ImageNotFound"
        return (digest if digest in self._registry.digests(name) else None), "ImageNotFound"

    def _empty(self, name: str, account: str, *, force: bool) -> None:
        """Delete a repository's images before moto deletes the repository."""
        digests = self._registry.digests(name)
        if digests and not force:
            raise EcrError(
                "RepositoryNotEmptyException",
                f"The repository with name '{name}' in registry with id '{account}' cannot be "
                "deleted because it still contains images",
            )
        for digest in digests:
            self._registry.delete(name, digest)


def _tag_status(arguments: Arguments) -> str:
    return str(arguments.get("filter", {}).get("tagStatus", "ANY"))


def _failure(image_id: Mapping[str, str], code: str) -> dict[str, Any]:
    return {
        "imageId": dict(image_id),
        "failureCode": code,
        "failureReason": "Requested image not found",
    }


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/x-amz-json-1.1")
