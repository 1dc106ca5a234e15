"""One repository of an image registry, by the OCI distribution API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cipipe.errors import StageError
from cipipe.tools import http
from cipipe.tools.aws.clients import Aws
from cipipe.tools.registry.connections import Connections

INDEXES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)

# Without these, a registry converts a manifest to the oldest format, which
# has another digest.
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    *INDEXES,
)

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

# Characters of a registry's answer that an error quotes.
_QUOTED = 200


class Manifest(msgspec.Struct, frozen=True):
    """A manifest, or an index of manifests."""

    body: bytes
    media_type: str
    # `sha256:…` of the body.
    digest: str

    def document(self) -> dict[str, Any]:
        """The JSON. Raises StageError."""
        try:
            return dict(json.loads(self.body))
        except (ValueError, TypeError) as error:
            raise StageError(
                "registry-damaged", f"the manifest {self.digest} is not a JSON object"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One repository, with a login."""

    # `HOST/NAME`
    repository: str
    # Of the registry.
    url: str
    username: str
    password: str = field(repr=False)
    # For what the registry's own API cannot do. None: it is not ECR.
    aws: Aws | None = None
    connections: Connections = field(default_factory=Connections, repr=False)
    # Bearer tokens by scope, for registries that want them.
    _tokens: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def host(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def name(self) -> str:
        return self.repository.partition("/")[2]

    def digest(self, reference: str) -> str | None:
        """The digest of a tag or digest; None where the repository does not have it."""
        answer = self._send("HEAD", f"manifests/{reference}")
        return answer.headers["docker-content-digest"] if answer.status == 200 else None

    def manifest(self, reference: str) -> Manifest | None:
        """A manifest by tag or digest; None where the repository does not have it."""
        answer = self._send("GET", f"manifests/{reference}")
        if answer.status == 404:
            return None
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if reference.startswith("sha256:") and reference != digest:
            raise self._damaged(reference, digest)
        return Manifest(answer.body, answer.headers.get("content-type", _MANIFESTS[0]), digest)

    def put_manifest(self, reference: str, manifest: Manifest) -> None:
        """Store a manifest under a tag or its digest. What it names has to be there.

        Raises StageError (`registry-tag-immutable`) where the tag is
        another image's and may not move.
        """
        sent = {"Content-Type": manifest.media_type}
        path = f"manifests/{reference}"
        answer = self._send(
            "PUT", path, body=manifest.body, headers=sent, accept={201, 400, 403, 409}
        )
        if answer.status == 201:
            return
        if b"immutable" in answer.body.lower():
            raise StageError(
                "registry-tag-immutable",
                f"{self.repository}:{reference} is another image's tag, and tags of this "
                "repository are immutable",
                hint="Remove the tag from the stage's `tags`, or exempt it from immutability in "
                "the repository's settings.",
                where=self.name,
            )
        raise self._refused("PUT", path, answer)

    def retag(self, digest: str, tag: str) -> None:
        """Point a tag at an image of the repository. Raises StageError as `put_manifest` does."""
        if self.digest(tag) == digest:
            return
        manifest = self.manifest(digest)
        if manifest is None:
            raise StageError(
                "registry-image-missing",
                f"{self.repository}@{digest} is not there any more",
                where=self.name,
            )
        self.put_manifest(tag, manifest)

    def has_blob(self, digest: str) -> bool:
        return self._send("HEAD", f"blobs/{digest}").status == 200

    @contextmanager
    def blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        """The pieces of a blob. The end is an error if it is not what the
        digest says.

        Raises StageError.
        """
        path = f"blobs/{digest}"
        url = self._url(path)
        with http.opened(url, headers=self._authorization("GET")) as answer:
            if answer.status != 200:
                raise self._refused("GET", path, http.Response(answer.status, answer.headers, b""))
            yield self._checked(answer.pieces, digest)

    def put_blob(self, body: bytes) -> str:
        """Store a small blob. Returns its digest."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if not self.has_blob(digest):
            self.upload(digest, http.Body(iter([body]), len(body)))
        return digest

    def upload(self, digest: str, body: http.Body) -> None:
        """Store a blob in one request. Raises StageError."""
        started = self._send("POST", "blobs/uploads/", body=b"", accept={202})
        self._finish_upload(started, digest, body)

    def mount(self, digest: str, source: str) -> bool:
        """Take a blob from another repository of this registry, without
        sending it. Returns whether that worked.
        """
        path = f"blobs/uploads/?mount={digest}&from={source}"
        answer = self._send("POST", path, body=b"", accept={201, 202, 403, 404})
        return answer.status == 201

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
        """Delete images by tag. Raises StageError."""
        if self.aws is None:
            for digest in {self.digest(tag) for tag in tags} - {None}:
                self._send("DELETE", f"manifests/{digest}", accept={202, 404})
            return
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

    def _finish_upload(self, started: http.Response, digest: str, body: http.Body) -> None:
        location = started.headers.get("location", "")
        url = location if "://" in location else f"{self.url}{location}"
        separator = "&" if "?" in url else "?"
        answer = http.request(
            "PUT",
            f"{url}{separator}digest={digest}",
            headers={
                "Content-Type": "application/octet-stream",
                **self._authorization("PUT"),
            },
            body=body,
            timeout=_UPLOAD_TIMEOUT,
        )
        if answer.status != 201:
            raise self._refused("PUT", "blobs/uploads/", answer)

    def _checked(self, pieces: Iterator[bytes], digest: str) -> Iterator[bytes]:
        found = hashlib.sha256()
        for piece in pieces:
            found.update(piece)
            yield piece
        if f"sha256:{found.hexdigest()}" != digest:
            raise self._damaged(digest, f"sha256:{found.hexdigest()}")

    def _damaged(self, wanted: str, found: str) -> StageError:
        return StageError(
            "registry-damaged",
            f"the registry sent {found} for {self.repository}@{wanted}",
            hint="Repeat the run. If it happens again, the image in the registry is damaged.",
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
        sent = {"Accept": ", ".join(_MANIFESTS), **(headers or {})}
        url = self._url(path)
        request = self.connections.request
        answer = request(method, url, headers={**sent, **self._authorization(method)}, body=body)
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status == 401 and challenge.lower().startswith("bearer "):
            self._tokens[_access(method)] = self._token(challenge)
            answer = request(
                method, url, headers={**sent, **self._authorization(method)}, body=body
            )
        if answer.status not in accept:
            raise self._refused(method, path, answer)
        return answer

    def _url(self, path: str) -> str:
        return f"{self.url}/v2/{self.name}/{path}"

    def _authorization(self, method: str) -> dict[str, str]:
        token = self._tokens.get(_access(method))
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if not self.username:
            return {}
        return {"Authorization": f"Basic {self._basic}"}

    @property
    def _basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def _token(self, challenge: str) -> str:
        """A token for what the registry asks for.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        wanted = dict(_CHALLENGE.findall(challenge))
        params = {name: wanted[name] for name in ("service", "scope") if name in wanted}
        headers = {"Authorization": f"Basic {self._basic}"} if self.username else {}
        found = http.get_json(wanted.get("realm", ""), params=params, headers=headers)
        return str(found.get("token") or found.get("access_token") or "")

    def _refused(self, method: str, path: str, answer: http.Response) -> StageError:
        text = answer.body[:_QUOTED].decode(errors="replace")
        return StageError(
            "registry-refused",
            f"the registry answered {answer.status} to {method} {self._url(path)}: {text}",
            hint="Check the login and its permissions: to read, ECR needs ecr:BatchGetImage and "
            "ecr:GetDownloadUrlForLayer; to write, ecr:PutImage, ecr:InitiateLayerUpload, "
            "ecr:UploadLayerPart and ecr:CompleteLayerUpload.",
        )


# Seconds for an answer while a layer is being stored.
_UPLOAD_TIMEOUT = 600.0


def _access(method: str) -> str:
    return "read" if method in {"GET", "HEAD"} else "write"
