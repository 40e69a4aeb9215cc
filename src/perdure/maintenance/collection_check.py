"""Reading everything in a collection, to find what is wrong in its members and between them."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from perdure.errors import POSError
from perdure.ids import Oid, oid_repr
from perdure.maintenance._places import DataFile
from perdure.maintenance.checking import check_together
from perdure.maintenance.references import Dangling, References
from perdure.maintenance.referrers import missing_in
from perdure.maintenance.report import CheckReport, Finding
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage

__all__ = ["check_collection"]

Progress = Callable[[int, int], object]


def check_collection(
    members: Mapping[str, Any], progress: Progress | None = None
) -> dict[str, CheckReport]:
    """Check all *members* of a collection, and their references to one another.

    *members* are what `check` takes, by the names that they refer to each other by (for opened
    databases: `db.databases`). Returns a report for each. A reference to what another member
    doesn't have is a finding of the member that refers; each object that refers to it is one, with
    the way from a root object, which may lead through all members. Nothing is changed. Raises what
    `check` raises.
    """
    reports = dict(zip(members, check_together(members, progress), strict=True))
    with ExitStack() as stack:
        storages = dict(_opened(members, stack))
        # What one that can't be opened has is unknown; its own report says so.
        unknown = set(members) - set(storages)
        if not any(_asks_for_more(report, storages, unknown) for report in reports.values()):
            return reports
        references = References(storages, progress, kept=False)
        dangling = [lost for lost in references.dangling() if lost.member not in unknown]
        return {
            name: _with_ways(report, references, name).with_findings(
                _findings(name, dangling, references, storages[name])
            )
            if name in storages
            else report
            for name, report in reports.items()
        }


def _opened(members: Mapping[str, Any], stack: ExitStack) -> Iterator[tuple[str, Any]]:
    """Give the members' storages; one that is too damaged to be opened is left out."""
    for name, member in members.items():
        if not isinstance(member, (str, os.PathLike, DataFile)):
            yield name, getattr(member, "storage", member)
            continue
        with suppress(POSError):
            storage = FileStorage(DataFile.of(member).path, read_only=True)
            stack.callback(storage.close)
            yield name, storage


def _asks_for_more(
    report: CheckReport, storages: Mapping[str, Any], unknown: Collection[str]
) -> bool:
    """Tell whether who refers to whom over the members has to be known."""
    if any(finding.oid and not finding.path for finding in report.findings):
        return True
    targets: dict[str, list[Oid]] = defaultdict(list)
    for other in report.references_to_others:
        targets[other.database].append(other.oid)
    return any(
        name not in storages or missing_in(storages[name], oids)
        for name, oids in targets.items()
        if name not in unknown
    )


def _with_ways(report: CheckReport, references: References, name: str) -> CheckReport:
    """Add the ways that lead to findings through other members."""
    findings = [
        replace(finding, path=references.path(name, finding.oid))
        if finding.oid and not finding.path
        else finding
        for finding in report.findings
    ]
    return replace(report, findings=findings)


def _findings(
    name: str, dangling: list[Dangling], references: References, storage: Any
) -> Iterator[Finding]:
    """Give the references of a member to what other members don't have."""
    for lost in dangling:
        # What is lost in the member itself, its own check has found.
        for each in lost.referrers if lost.member != name else ():
            if each.member == name:
                yield Finding(
                    kind="missing",
                    problem=_problem(lost),
                    position=_position(storage, each.oid),
                    oid=each.oid,
                    class_name=each.class_name,
                    tid=each.tid,
                    target=lost.oid,
                    target_database=lost.member,
                    path=references.path(name, each.oid),
                )


def _position(storage: Any, oid: Oid) -> int | None:
    return storage._native.position(oid) if isinstance(storage, EngineStorage) else None


def _problem(lost: Dangling) -> str:
    cls = f" ({' or '.join(lost.class_names)})" if lost.class_names else ""
    target = f"refers to {oid_repr(lost.oid)}{cls} in database {lost.member!r}, which"
    return f"{target} does not exist" if lost.known_member else f"{target} isn't in the collection"
