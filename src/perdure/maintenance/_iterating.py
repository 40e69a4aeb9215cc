"""Checking a storage that is no file of perdure's, record by record."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from perdure import _native
from perdure.errors import Unsupported
from perdure.ids import ROOT_OID, Oid, Tid, oid_repr
from perdure.interfaces import IStorageIteration
from perdure.maintenance.report import CheckReport, Finding, OtherReference, Step

__all__ = ["check_by_iteration"]


@dataclass
class _Current:
    """The newest record of an object."""

    tid: Tid
    class_name: str
    references: list[Oid]
    others: list[tuple[str, Oid]]
    problem: str | None = None


@dataclass
class _Met:
    """What an iteration has met so far."""

    objects: dict[Oid, _Current] = field(default_factory=dict)
    transactions: int = 0
    records: int = 0
    bytes_read: int = 0


def check_by_iteration(
    storage: Any, progress: Callable[[int, int], object] | None = None
) -> CheckReport:
    """Check all current records that an iteration over *storage* gives.

    Raises Unsupported if it can't be iterated over.
    """
    if not IStorageIteration.providedBy(storage):
        raise Unsupported(f"{storage!r} can't be iterated over, so it can't be checked")
    met = _Met()
    for transaction in storage.iterator():
        met.transactions += 1
        for record in transaction:
            _note(met, record)
        if progress is not None and met.transactions % 1000 == 0:
            progress(met.transactions, 0)
    findings = [
        Finding(
            kind=kind,
            problem=problem,
            position=None,
            oid=oid,
            class_name=met.objects[oid].class_name,
            tid=met.objects[oid].tid,
            target=target,
        )
        for oid, kind, problem, target in _problems(met)
    ]
    return CheckReport(
        name=str(storage.getName()),
        transactions=met.transactions,
        records=met.records,
        objects=len(met.objects),
        bytes_read=met.bytes_read,
        findings=_with_paths(findings, met),
        findings_total=len(findings),
        references_to_others=[
            OtherReference(database, other, oid)
            for oid, current in met.objects.items()
            for database, other in current.others
        ],
    )


def _note(met: _Met, record: Any) -> None:
    met.records += 1
    if record.data is None:
        met.objects.pop(record.oid, None)
        return
    met.bytes_read += len(record.data)
    current = _Current(record.tid, "", [], [])
    try:
        current.class_name = ".".join(_native.class_name(record.data) or ())
        for kind, oid, database in _native.all_references(record.data):
            if kind == "same":
                current.references.append(oid)
            elif kind == "other":
                current.others.append((str(database), oid))
    except ValueError as error:
        current.problem = str(error)
    met.objects[record.oid] = current


def _problems(met: _Met) -> list[tuple[Oid, str, str, Oid | None]]:
    found: list[tuple[Oid, str, str, Oid | None]] = []
    for oid, current in met.objects.items():
        if current.problem is not None:
            found.append((oid, "unreadable", current.problem, None))
        for target in dict.fromkeys(current.references):
            if target not in met.objects:
                problem = f"refers to {oid_repr(target)}, which does not exist"
                found.append((oid, "missing", problem, target))
    return found


def _with_paths(findings: list[Finding], met: _Met) -> list[Finding]:
    if not findings:
        return findings
    parents: dict[Oid, Oid | None] = {ROOT_OID: None}
    waiting = deque([ROOT_OID])
    while waiting:
        oid = waiting.popleft()
        current = met.objects.get(oid)
        for target in current.references if current else ():
            if target not in parents:
                parents[target] = oid
                waiting.append(target)
    return [_with_path(finding, parents, met) for finding in findings]


def _with_path(finding: Finding, parents: dict[Oid, Oid | None], met: _Met) -> Finding:
    path: list[Step] = []
    oid = finding.oid
    if oid not in parents:
        return finding
    while oid is not None:
        current = met.objects.get(oid)
        path.append(Step(oid, current.class_name if current else ""))
        oid = parents[oid]
    return replace(finding, path=tuple(reversed(path)))
