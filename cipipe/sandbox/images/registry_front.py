"""The registry's port: what ECR does and Distribution's registry does not,
before a request is passed on.

A tag of an immutable repository cannot be moved:
https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
"""

import hashlib
import http.client
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from cipipe.sandbox.images.registry import RegistryServer
from cipipe.sandbox.web import Request, Response, StartResponse, WSGIEnvironment, json_answer

_MANIFEST = re.compile(r"/v2/(.+)/manifests/([\w][\w.-]{0,127})")

# Headers that are about one connection and are not passed on (RFC 9110,
# section 7.6.1).
_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"}

# Bytes that are read at once.
_PIECE = 1 << 18

# Whether a repository (first) forbids moving a tag (second) to another
# image.
KeepsTag = Callable[[str, str], bool]


class RegistryFront:
    """A WSGI application in front of a registry."""

    def __init__(self, registry: RegistryServer, keeps_tag: KeepsTag) -> None:
        self._registry = registry
        self._keeps_tag = keeps_tag

        # Between the look at a tag and the request that moves it nobody
        # else may move it.
        self._tagging = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except (OSError, http.client.HTTPException) as error:
            text = f"the registry does not answer: {type(error).__name__}"
            answer = json_answer({"errors": [{"code": "UNAVAILABLE", "message": text}]}, 503)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        found = _MANIFEST.fullmatch(request.path)
        if found and request.method == "PUT":
            return self._tag(request, found[1], found[2])
        return self._pass_on(request, _body(request))

    def _tag(self, request: Request, repository: str, tag: str) -> Response:
        """Put a manifest under a tag."""
        manifest = request.get_data()
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        with self._tagging:
            named = self._registry.tags(repository).get(tag)
            if named not in {None, digest} and self._keeps_tag(repository, tag):
                text = (
                    f"The image tag '{tag}' already exists in the '{repository}' repository and "
                    "cannot be overwritten because the repository is immutable."
                )
                return json_answer({"errors": [{"code": "TAG_INVALID", "message": text}]}, 400)
            return self._pass_on(request, manifest)

    def _pass_on(self, request: Request, body: bytes | Iterable[bytes] | None) -> Response:
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower() not in _HOP
        }
        if isinstance(body, bytes):
            headers["content-length"] = str(len(body))

        target = str(request.environ["RAW_URI"])
        answer = self._registry.send(request.method, target, headers=headers, body=body)
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
        response = Response(_pieces(answer), answer.status, kept, direct_passthrough=True)
        response.call_on_close(answer.close)
        return response


def _body(request: Request) -> bytes | Iterable[bytes] | None:
    # A chunked body has no length, and werkzeug says that its end is known.
    environ = request.environ
    if not environ.get("wsgi.input_terminated") and not request.content_length:
        return b"" if request.method in {"POST", "PUT", "PATCH"} else None
    return iter(lambda: request.stream.read(_PIECE), b"")


def _pieces(answer: "http.client.HTTPResponse") -> Iterator[bytes]:
    while piece := answer.read(_PIECE):
        yield piece
