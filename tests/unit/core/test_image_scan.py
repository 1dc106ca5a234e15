"""ECR's scan as a gate."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipipe.errors import StageError
from cipipe.interrupt import Interrupt
from cipipe.stages import image
from cipipe.stages.image import scan
from cipipe.stages.image.scan import ScanFinding, findings_of
from cipipe.stages.image.settings import LoginVariables, ScanGate
from cipipe.stages.settings import Stage
from cipipe.tools.aws.errors import AwsError
from cipipe.tools.registry.client import Registry
from support.contexts import stage_context


def basic(name: str, severity: str) -> dict[str, Any]:
    attributes = [
        {"key": "package_name", "value": "openssl"},
        {"key": "package_version", "value": "3.0.1"},
    ]
    return {"name": name, "severity": severity, "attributes": attributes}


ENHANCED = {
    "title": "CVE-2026-3 - libssl",
    "severity": "CRITICAL",
    "packageVulnerabilityDetails": {
        "vulnerabilityId": "CVE-2026-3",
        "vulnerablePackages": [{"name": "libssl", "version": "1", "fixedInVersion": "2"}],
    },
}


def answer(*findings: dict[str, Any], state: str = "COMPLETE", **more: Any) -> dict[str, Any]:
    return {
        "imageScanStatus": {"status": state},
        "imageScanFindings": {"findings": list(findings)},
        **more,
    }


class Ecr:
    """Answers in turn; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, _: str, operation: str, **arguments: Any) -> Any:
        self.asked.append((operation, arguments))
        if operation == "start_image_scan":
            return {}
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def gated(monkeypatch: pytest.MonkeyPatch, ecr: Ecr, wanted: ScanGate) -> tuple[str, list[str]]:
    there: Any = Registry(
        repository="r.test/app",
        url="https://r.test",
        username="",
        password="",
        aws=ecr,  # type: ignore[arg-type]
    )
    monkeypatch.setattr(scan, "registry", lambda _: there)
    monkeypatch.setattr(scan, "_INTERVAL", 0.0)
    settings = image.Settings(context="app", repository="r.test/app", scan=wanted)
    lines: list[str] = []
    context = stage_context(
        stage=Stage("app", "image", settings), line=lines.append, interrupt=Interrupt()
    )
    return scan.gate(context, "sha256:1"), lines


def test_what_is_less_severe_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    ecr = Ecr(
        answer(state="IN_PROGRESS"),
        answer(basic("CVE-2026-1", "MEDIUM"), nextToken="more"),
        answer(basic("CVE-2026-2", "LOW"), basic("CVE-2026-9", "HIGH")),
    )
    summary, lines = gated(monkeypatch, ecr, ScanGate(ignore=("CVE-2026-9",)))
    assert summary == "scan: 1 medium, 1 low, 1 ignored"
    assert lines[0] == "medium CVE-2026-1 in openssl 3.0.1"
    assert ecr.asked[-1][1]["nextToken"] == "more"
    assert ecr.asked[0][1]["imageId"] == {"imageDigest": "sha256:1"}


@pytest.mark.parametrize("severity", ["critical", "high", "medium"])
def test_what_is_severe_fails(monkeypatch: pytest.MonkeyPatch, severity: Any) -> None:
    found = answer(basic("CVE-2026-1", "LOW"))
    found["imageScanFindings"]["enhancedFindings"] = [ENHANCED]
    with pytest.raises(StageError) as caught:
        gated(monkeypatch, Ecr(found), ScanGate(severity=severity))
    assert caught.value.id == "image-scan-findings"
    assert "critical CVE-2026-3 in libssl 1, fixed in 2" in caught.value.message


def test_a_scan_is_started_once_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = AwsError("ecr:DescribeImageScanFindings", "ScanNotFoundException", "no scan", 400)
    ecr = Ecr(missing, missing, answer())
    assert gated(monkeypatch, ecr, ScanGate())[0] == "scan: nothing found"
    assert [operation for operation, _ in ecr.asked].count("start_image_scan") == 1


@pytest.mark.parametrize(
    ("found", "wanted", "id"),
    [
        (answer(state="FAILED"), ScanGate(), "image-scan-failed"),
        (answer(state="UNSUPPORTED_IMAGE"), ScanGate(), "image-scan-failed"),
        (answer(state="PENDING"), ScanGate(timeout=0), "image-scan-timeout"),
    ],
)
def test_a_scan_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch, found: Any, wanted: ScanGate, id: str
) -> None:
    with pytest.raises(StageError) as caught:
        gated(monkeypatch, Ecr(found), wanted)
    assert caught.value.id == id


def test_an_unknown_state_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError) as caught:
        gated(monkeypatch, Ecr(answer(state="SLEEPING")), ScanGate())
    assert caught.value.id == "image-scan-failed"
    assert "'SLEEPING', which this version of cipipe does not know" in caught.value.message
    with pytest.raises(StageError, match="its state is 'None'"):
        gated(monkeypatch, Ecr({}), ScanGate())


def test_only_ecr_scans() -> None:
    login = LoginVariables(username_variable="U", password_variable="P")
    settings = image.Settings(context="app", repository="r.test/app", login=login, scan=ScanGate())
    found = list(image.problems(Stage("app", "image", settings)))
    assert [(one.id, one.where) for one in found] == [("config-scan-needs-ecr", "scan")]


@given(
    st.recursive(
        st.none() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_an_unknown_severity_is_the_least(value: Any) -> None:
    found = list(findings_of(answer({"name": "X", "severity": str(value)})))
    assert found == [ScanFinding("X", str(value).lower())]
