"""The list of an image's components, made from its file system."""

import io
import json
import tarfile
from datetime import UTC, datetime
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from cipipe.stages.image import evidence

_ABOUT = evidence.ImageOfList(
    name="shop", digest=f"sha256:{'ab' * 32}", created=datetime(2026, 1, 2, tzinfo=UTC)
)
_PACKAGES = "usr/lib/python3/site-packages"

_STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 Package: not-a-package

Package: gone
Status: deinstall ok config-files
Version: 1
"""


def _made(files: dict[str, str | bytes]) -> bytes:
    """The list of an image with these files."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, text in files.items():
            body = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    written.seek(0)
    # As it comes from the daemon: without going back.
    with tarfile.open(fileobj=written, mode="r|") as tar:
        return evidence.document(_ABOUT, evidence.components(tar))


def _listed(files: dict[str, str | bytes]) -> dict[str, dict[str, Any]]:
    """The components by name."""
    document = _made(files)
    return {one["name"]: one for one in json.loads(document).get("components", [])}


def _metadata(folder: str, text: str | bytes) -> dict[str, str | bytes]:
    return {f"{_PACKAGES}/{folder}.dist-info/METADATA": text}


def test_python_packages_have_versions_and_licences() -> None:
    found = _listed(
        {
            **_metadata(
                "dbt_core-1.9.0",
                "Metadata-Version: 2.4\nName: dbt-core\nVersion: 1.9.0\n"
                "License-Expression: Apache-2.0\n\nName: a-word-of-the-description\n",
            ),
            **_metadata(
                "old-2",
                "Name: old\nVersion: 2\nLicense: UNKNOWN\n"
                "Classifier: License :: OSI Approved :: MIT License\n",
            ),
            **_metadata("text-3", f"Name: text\nVersion: 3\nLicense: {'Permission is ' * 50}\n"),
        }
    )
    assert set(found) == {"dbt-core", "old", "text"}
    assert found["dbt-core"]["purl"] == "pkg:pypi/dbt-core@1.9.0"
    assert found["dbt-core"]["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert found["old"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert "licenses" not in found["text"]


def test_debian_packages_name_their_distribution() -> None:
    found = _listed(
        {
            "var/lib/dpkg/status": _STATUS,
            "usr/lib/os-release": 'NAME="Debian"\nVERSION_ID="12"\nID=debian\n',
        }
    )
    assert set(found) == {"libc6"}
    purl = "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12"
    assert found["libc6"]["purl"] == purl


def test_images_without_a_package_manager_have_a_file_for_each_package() -> None:
    found = _listed(
        {
            "./var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\n",
            "./var/lib/dpkg/status.d/tzdata.md5sums": "Package: none\n",
        }
    )
    assert found["tzdata"]["purl"] == "pkg:deb/debian/tzdata@2024a"


def test_an_image_without_packages_has_an_empty_list() -> None:
    document = _made({"bin/sh": b"\x7fELF", "METADATA": "Name: outside\n"})
    assert json.loads(document)["metadata"]["component"]["name"] == "shop"
    assert "components" not in json.loads(document)
    assert _is_valid(document)


def test_the_same_image_gives_the_same_bytes() -> None:
    files = {
        **_metadata("a-1", "Name: a\nVersion: 1\n"),
        **_metadata("b-1", "Name: b\nVersion: 1\n"),
        "var/lib/dpkg/status": _STATUS,
    }
    document = _made(files)
    assert document == _made(dict(reversed(files.items())))
    assert json.loads(document)["metadata"]["timestamp"] == "2026-01-02T00:00:00+00:00"
    assert _is_valid(document)


def test_what_a_hostile_image_says_stays_data() -> None:
    document = _made(
        {
            **_metadata("quotes-1", 'Name: "}],"x":[{"\nVersion: 1"\n'),
            **_metadata("purl-1", "Name: ../../evil?x=1#y@9\nVersion: %00/..\n"),
            **_metadata("bytes-1", b"Name: \xff\xfe\x00\x1b[31m\nVersion: \xf0\x28\n"),
            **_metadata("empty-7", ""),
            **_metadata("", "\n"),
            **_metadata("license-1", f"Name: l\nLicense-Expression: {'(' * 90}\n"),
            **_metadata("huge-1", b"Name: huge\nVersion: 1\nSummary: " + b"x" * 3_000_000),
            "etc/os-release": "ID=../../x\nVERSION_ID=&a=b\n",
            "var/lib/dpkg/status": "Package: p?&#\nVersion: 1 2\nArchitecture: a&b=c\n\n:\n\n \n",
        }
    )
    assert _is_valid(document)
    assert len(document) < 100_000
    found = {one["name"]: one for one in json.loads(document)["components"]}
    assert found['"}],"x":[{"']["version"] == '1"'
    # Nothing begins a qualifier or a subpath.
    assert found["../../evil?x=1#y@9"]["purl"] == "pkg:pypi/../../evil%3fx%3d1%23y%409@%2500/.."
    assert found["empty"]["version"] == "7"
    assert found["l"]["licenses"] == [{"license": {"name": "(" * 90}}]
    assert found["huge"]["version"] == "1"
    qualifiers = PackageURL.from_string(found["p?&#"]["purl"]).qualifiers
    assert qualifiers == {"arch": "a&b=c", "distro": "../../x-&a=b"}


def _is_valid(document: bytes) -> bool:
    """Whether CycloneDX's own schema accepts it."""
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())
    assert problem is None, problem
    return True
