"""Telling records that only layers can read from damaged ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from perdure._messages import encoded_message, encoding_of
from perdure.errors import POSError
from perdure.maintenance.report import CheckReport, Finding

__all__ = ["told_of_file", "told_of_storage"]

_HEADER_BYTES: Final = 42
_MARK_BYTES: Final = 2


def told_of_file(report: CheckReport, path: Path) -> CheckReport:
    """Say of unreadable records of a data file if they look compressed or encrypted."""
    if not _has_unreadable(report):
        return report
    with path.open("rb") as file:

        def beginning(finding: Finding) -> bytes:
            file.seek((finding.position or 0) + _HEADER_BYTES)
            return file.read(_MARK_BYTES)

        return _told(report, beginning)


def told_of_storage(report: CheckReport, storage: Any) -> CheckReport:
    """Say of unreadable records of a storage if they look compressed or encrypted."""

    def beginning(finding: Finding) -> bytes:
        try:
            data: bytes = storage.loadSerial(finding.oid, finding.tid)
        except POSError:
            return b""
        return data

    return _told(report, beginning) if _has_unreadable(report) else report


def _has_unreadable(report: CheckReport) -> bool:
    return any(finding.kind == "unreadable" for finding in report.findings)


def _told(report: CheckReport, beginning: Callable[[Finding], bytes]) -> CheckReport:
    findings = []
    for finding in report.findings:
        encoding = encoding_of(beginning(finding)) if finding.kind == "unreadable" else None
        if encoding is not None:
            findings.append(replace(finding, problem=encoded_message(encoding), encoding=encoding))
        else:
            findings.append(finding)
    return replace(report, findings=findings)
