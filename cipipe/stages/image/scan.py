"""Amazon ECR's scan of the image, as a gate: the stage fails where it finds something severe.

Basic and enhanced scanning answer in different shapes.
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cipipe.errors import StageError
from cipipe.stages.context import StageContext
from cipipe.stages.image.publishing import registry
from cipipe.stages.image.settings import SEVERITIES, ImageSettings, ScanGate
from cipipe.tools.aws.errors import AwsError

if TYPE_CHECKING:
    from cipipe.tools.registry.client import Registry

# Findings that are shown, the worst ones first.
_SHOWN = 20

# Seconds between two looks at a scan.
_INTERVAL = 5.0

# States in which the findings are there, in which they may still come, and
# in which they never will.
_DONE = {"COMPLETE", "ACTIVE"}
_WAITING = {"IN_PROGRESS", "PENDING", "FINDINGS_UNAVAILABLE"}
_GIVEN_UP = {
    "FAILED",
    "IMAGE_ARCHIVED",
    "LIMIT_EXCEEDED",
    "SCAN_ELIGIBILITY_EXPIRED",
    "UNSUPPORTED_IMAGE",
}


class ScanFinding(msgspec.Struct, frozen=True):
    """One vulnerability."""

    # Such as `CVE-2026-1234`.
    name: str
    # In lower case.
    severity: str
    # `NAME VERSION`; empty where ECR does not say.
    package: str = ""
    # The version that has it no more; empty if none does, or is known.
    fixed_in: str = ""


def gate(context: StageContext[ImageSettings], digest: str) -> str:
    """Wait for the scan of a digest. Returns a line about what it found.

    Raises StageError: `image-scan-findings` if something is too severe.
    """
    wanted = context.stage.settings.scan
    assert wanted is not None  # noqa: S101  (there would be no such step)
    target = registry(context)
    found = sorted(_scanned(context, target, digest, wanted), key=_worst_first)
    ignored = [one for one in found if one.name in wanted.ignore]
    counted = [one for one in found if one.name not in wanted.ignore]
    for finding in counted[:_SHOWN]:
        context.line(_shown(finding))
    if len(counted) > _SHOWN:
        context.line(f"… and {len(counted) - _SHOWN} more")

    summary = _summary(counted, ignored)
    context.line(summary)
    limit = SEVERITIES.index(wanted.severity)
    severe = [one for one in counted if _rank(one) <= limit]
    if severe:
        raise StageError(
            "image-scan-findings",
            f"ECR's scan of {target.repository}@{digest} found {len(severe)} vulnerabilities of "
            f"severity {wanted.severity} or worse, such as {_shown(severe[0])}",
            hint="Update the base image or the package. What does not concern this image goes "
            "into `scan.ignore`.",
            where=f"stages.{context.stage.name}.scan",
        )
    return summary


def findings_of(answer: Mapping[str, Any]) -> Iterator[ScanFinding]:
    """The findings in one answer of ECR, of either kind of scan."""
    content = answer.get("imageScanFindings") or {}
    for entry in content.get("findings") or ():
        attributes = {one["key"]: one.get("value", "") for one in entry.get("attributes") or ()}
        yield ScanFinding(
            name=str(entry.get("name", "")),
            severity=str(entry.get("severity", "undefined")).lower(),
            package=_joined(attributes.get("package_name"), attributes.get("package_version")),
        )
    for entry in content.get("enhancedFindings") or ():
        details = entry.get("packageVulnerabilityDetails") or {}
        packages: list[dict[str, Any]] = details.get("vulnerablePackages") or [{}]
        package = packages[0]
        fixed = str(package.get("fixedInVersion") or "")
        yield ScanFinding(
            name=str(details.get("vulnerabilityId") or entry.get("title") or ""),
            severity=str(entry.get("severity", "undefined")).lower(),
            package=_joined(package.get("name"), package.get("version")),
            fixed_in="" if fixed == "NotAvailable" else fixed,
        )


def _scanned(
    context: StageContext[ImageSettings], target: "Registry", digest: str, wanted: ScanGate
) -> list[ScanFinding]:
    where = f"stages.{context.stage.name}.scan"
    assert target.aws is not None  # noqa: S101  (other registries have a `login`, and no scan)
    image = {"repositoryName": target.name, "imageId": {"imageDigest": digest}}
    deadline = time.monotonic() + wanted.timeout
    started = False
    while True:
        answer: Mapping[str, Any] = {"imageScanStatus": {"status": "PENDING"}}
        try:
            answer = target.aws.call("ecr", "describe_image_scan_findings", **image)
        except AwsError as error:
            if error.code != "ScanNotFoundException":
                raise
            # The repository does not scan what is pushed.
            if not started:
                context.line("the repository does not scan on push: starting a scan")
                target.aws.call("ecr", "start_image_scan", **image)
                started = True

        status = answer.get("imageScanStatus") or {}
        state = str(status.get("status"))
        if state in _DONE:
            return _all_pages(target, image, answer)
        if state not in _WAITING:
            unknown = f"its state is {state!r}, which this version of cipipe does not know"
            reason = state if state in _GIVEN_UP else unknown
            raise StageError(
                "image-scan-failed",
                f"ECR's scan of {target.repository}@{digest} has no findings: "
                f"{status.get('description') or reason}",
                hint="Look at the image in ECR's console. Without `scan`, the stage does not wait.",
                where=where,
            )
        if time.monotonic() >= deadline:
            raise StageError(
                "image-scan-timeout",
                f"ECR has not finished its scan of {target.repository}@{digest} within "
                f"{wanted.timeout} s",
                hint="Run again: the image is not pushed twice. `scan.timeout` waits longer.",
                where=where,
            )
        context.interrupt.sleep(_INTERVAL)


def _all_pages(
    target: "Registry", image: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[ScanFinding]:
    found = list(findings_of(answer))
    while token := answer.get("nextToken"):
        assert target.aws is not None  # noqa: S101  (checked by the caller)
        answer = target.aws.call("ecr", "describe_image_scan_findings", **image, nextToken=token)
        found += findings_of(answer)
    return found


def _summary(counted: list[ScanFinding], ignored: list[ScanFinding]) -> str:
    counts = Counter(one.severity for one in counted)
    parts = [f"{counts[name]} {name}" for name in (*SEVERITIES, "undefined") if counts[name]]
    text = f"scan: {', '.join(parts) or 'nothing found'}"
    return f"{text}, {len(ignored)} ignored" if ignored else text


def _shown(finding: ScanFinding) -> str:
    package = f" in {finding.package}" if finding.package else ""
    fixed = f", fixed in {finding.fixed_in}" if finding.fixed_in else ""
    return f"{finding.severity} {finding.name}{package}{fixed}"


def _rank(finding: ScanFinding) -> int:
    known = finding.severity in SEVERITIES
    return SEVERITIES.index(finding.severity) if known else len(SEVERITIES)


def _worst_first(finding: ScanFinding) -> tuple[int, str]:
    return _rank(finding), finding.name


def _joined(name: Any, version: Any) -> str:
    return " ".join(str(part) for part in (name, version) if part)
