"""Copies an image between repositories by its digest, with everything that is attached to it.

Attached is what the tag `sha256-HEX` names, such as a list of the image's components: the
"referrers tag schema" of the OCI distribution specification.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.tools import http
from cipipe.tools.registry.client import INDEXES, Manifest, Registry


def attached_tag(digest: str) -> str:
    """The tag of the index of what is attached to a digest."""
    return digest.replace(":", "-")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """From one repository to another."""

    source: Registry
    target: Registry
    # Gets a line for each layer.
    line: Callable[[str], None]
    interrupt: Interrupt

    def image(self, digest: str, tag: str) -> None:
        """Copy an image, and tag it. Nothing that the target has is sent again.

        Raises StageError (`registry-image-missing`) where the source does
        not have it.
        """
        manifest = self.source.manifest(digest)
        if manifest is None:
            raise StageError(
                "registry-image-missing",
                f"{self.source.repository}@{digest} is not there any more",
                hint="Deploy the commit to the earlier environment again: that builds it.",
                where=self.source.repository,
            )
        self._content(manifest)

        attached = attached_tag(digest)
        index = self.source.manifest(attached)
        if index is not None:
            self._content(index)
            self.target.put_manifest(attached, index)
        # The tag comes last: whoever sees it sees everything.
        self.target.put_manifest(tag, manifest)

    def _content(self, manifest: Manifest) -> None:
        """Everything below a manifest, and the manifest itself by its digest."""
        document = manifest.document()
        if manifest.media_type in INDEXES:
            for entry in document.get("manifests", []):
                child = self.source.manifest(entry["digest"])
                if child is None:
                    # Of a platform that was not pushed.
                    continue
                self._content(child)
        else:
            for blob in _blobs(document):
                self._blob(blob["digest"], int(blob.get("size", 0)))
        if self.target.digest(manifest.digest) is None:
            self.target.put_manifest(manifest.digest, manifest)

    def _blob(self, digest: str, size: int) -> None:
        self.interrupt.check()
        short = digest.removeprefix("sha256:")[:12]
        if self.target.has_blob(digest):
            return
        same = self.source.host == self.target.host
        if same and self.target.mount(digest, self.source.name):
            self.line(f"{short}: taken from {self.source.name}")
            return
        with self.source.blob(digest) as pieces:
            self.target.upload(digest, http.Body(self._stoppable(pieces), size))
        self.line(f"{short}: copied, {size / 1_000_000:.1f} MB")

    def _stoppable(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.interrupt.check()
            yield piece


def _blobs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "config" in document:
        yield document["config"]
    yield from document.get("layers", [])
