"""The list of what is in an image, in the format CycloneDX.

It comes from the records of pip and of Debian's dpkg in the image's file system. No code of the
image is run, and what the records say is data: it is quoted, and never interpreted.

https://packaging.python.org/en/latest/specifications/core-metadata,
https://cyclonedx.org/docs/1.6/json
"""

import io
import posixpath
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.message import Message
from email.parser import HeaderParser

import msgspec
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import cipipe

# Bytes of a file that are read. The fields of METADATA come before its long
# description; dpkg's list has about a kilobyte for each package.
_MAX_METADATA = 1_000_000
_MAX_STATUS = 50_000_000

# A longer "licence" is its text, or was not written for a machine.
_MAX_LICENSE = 100

_OS_RELEASE = frozenset({"etc/os-release", "usr/lib/os-release"})
_STATUS = "var/lib/dpkg/status"
# Images without a package manager have a file for each package.
_STATUS_FOLDER = "var/lib/dpkg/status.d"

_CLASSIFIER = re.compile(r"License :: (?:.* :: )?(.+)")


class ImageOfList(msgspec.Struct, frozen=True):
    """What a list is about."""

    name: str
    # `sha256:…`
    digest: str
    created: datetime


def components(archive: tarfile.TarFile) -> tuple[Component, ...]:
    """The packages in a container's exported file system, which is read
    once from start to end.
    """
    release: dict[str, str] = {}
    debian: list[Message] = []
    found: dict[str, Component] = {}
    for member in archive:
        if not member.isreg():
            continue
        path = member.name.removeprefix("./").lstrip("/")
        folder, name = posixpath.split(path)
        if name == "METADATA" and folder.endswith(".dist-info"):
            text = _read(archive, member, _MAX_METADATA)
            made = _python(posixpath.basename(folder), _fields(text))
            found[made.bom_ref.value or ""] = made
        elif path == _STATUS or (folder == _STATUS_FOLDER and not name.endswith(".md5sums")):
            debian += _paragraphs(_read(archive, member, _MAX_STATUS))
        elif path in _OS_RELEASE:
            release.update(_assignments(_read(archive, member, _MAX_METADATA)))

    # The distribution is known only now: its file may come last.
    for fields in debian:
        package = _debian(fields, release)
        if package is not None:
            found[package.bom_ref.value or ""] = package
    return tuple(found[ref] for ref in sorted(found))


def document(image: ImageOfList, found: tuple[Component, ...]) -> bytes:
    """The list as JSON. The same image and commit give the same bytes."""
    top = Component(
        type=ComponentType.CONTAINER, name=image.name, version=image.digest, bom_ref="image"
    )
    tool = Component(type=ComponentType.APPLICATION, name="cipipe", version=cipipe.__version__)
    tool.bom_ref.value = "cipipe"
    bom = Bom(
        components=found,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, image.digest),
        metadata=BomMetaData(
            component=top, timestamp=image.created, tools=ToolRepository(components=[tool])
        ),
    )
    bom.register_dependency(top, found)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode()


def _python(folder: str, fields: Message) -> Component:
    # A file without these fields still says that something is installed.
    name, _, version = folder.removesuffix(".dist-info").partition("-")
    name = _value(fields, "Name") or _visible(name) or "unknown"
    version = _value(fields, "Version") or _visible(version)
    purl = PackageURL(type="pypi", name=name, version=version or None)
    named = _license(fields)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version or None,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[named] if named else [],
    )


def _license(fields: Message) -> License | None:
    factory = LicenseFactory()
    expression = _value(fields, "License-Expression")
    if 0 < len(expression) <= _MAX_LICENSE:
        return factory.make_from_string(expression)
    given = _value(fields, "License")
    if 0 < len(given) <= _MAX_LICENSE and given.upper() != "UNKNOWN":
        return factory.make_from_string(given)
    for classifier in fields.get_all("Classifier", []):
        match = _CLASSIFIER.fullmatch(str(classifier).strip())
        if match:
            return factory.make_with_name(match[1])
    return None


def _debian(fields: Message, release: Mapping[str, str]) -> Component | None:
    name = _value(fields, "Package")
    status = _value(fields, "Status")
    # A package that was removed keeps its entry.
    if not name or (status and not status.endswith(" installed")):
        return None
    version = _value(fields, "Version")
    system = release.get("ID") or "debian"
    number = release.get("VERSION_ID")
    qualifiers = {"arch": _value(fields, "Architecture")}
    if number:
        qualifiers["distro"] = f"{system}-{number}"
    purl = PackageURL(
        type="deb",
        namespace=system,
        name=name,
        version=version or None,
        qualifiers={key: value for key, value in qualifiers.items() if value},
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version or None,
        purl=purl,
        bom_ref=purl.to_string(),
    )


def _paragraphs(text: str) -> Iterator[Message]:
    for paragraph in re.split(r"\n[ \t]*\n", text):
        if paragraph.strip():
            yield _fields(paragraph.strip("\n"))


def _fields(text: str) -> Message:
    return HeaderParser().parse(io.StringIO(text), headersonly=True)


def _value(fields: Message, name: str) -> str:
    """A field in one line; empty where it is not there."""
    return " ".join(str(fields.get(name, "")).split())


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """`ID=debian`, `VERSION_ID="12"`"""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip().strip("\"'")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> str:
    body = archive.extractfile(member)
    return "" if body is None else body.read(most).decode(errors="replace")


def _visible(text: str) -> str:
    return text.encode(errors="replace").decode()
