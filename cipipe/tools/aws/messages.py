"""A request to AWS and its answer, as signing and transport pass them on, and XML in a body."""

from collections.abc import Mapping
from xml.etree import ElementTree as ET

import msgspec


class AwsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    method: str = "GET"
    # `http://HOST[:PORT]` or `https://…`.
    origin: str
    # Path and query, encoded (by `signing.path_of` and `query_of` where the
    # request is signed).
    target: str = "/"
    # Names are in lower case.
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def __repr__(self) -> str:
        # Headers and body may contain credentials.
        return f"AwsRequest({self.method} {self.origin}{self.target})"


class AwsAnswer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    # Names are in lower case.
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"AwsAnswer({self.status})"


class Unanswered(Exception):
    """No whole answer came; the message says why."""

    def __init__(self, why: str, *, retryable: bool = True) -> None:
        super().__init__(why)
        # Whether another attempt may get an answer.
        self.retryable = retryable


def document(body: bytes) -> ET.Element | None:
    """The root of an XML document; None when the body is not XML."""
    try:
        return ET.fromstring(body)  # noqa: S314 - AWS's own answer over TLS
    except (ET.ParseError, LookupError, ValueError):
        # LookupError: an unknown encoding. ValueError: an encoding of two
        # bytes per character.
        return None


def texts(body: bytes) -> dict[str, str]:
    """The text of every element of an XML document by its name, without
    name space.

    Of elements with equal names the last one counts. Empty when the body is
    not XML.
    """
    root = document(body)
    if root is None:
        return {}
    return {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root.iter()}
