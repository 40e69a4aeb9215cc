"""Reading everything in a database, to find what is wrong."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure import _native
from perdure.classname import get_pickle_metadata
from perdure.errors import CorruptedError, POSError, POSKeyError
from perdure.ids import Oid, Tid
from perdure.maintenance._blobcheck import blob_findings
from perdure.maintenance._encoded import told_of_file, told_of_storage
from perdure.maintenance._iterating import check_by_iteration
from perdure.maintenance._places import DataFile
from perdure.maintenance.report import CheckReport, Finding, OtherReference, Step
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage

__all__ = ["CheckReport", "Finding", "Step", "check", "check_together"]

Progress = Callable[[int, int], object]


def check(source: Any, progress: Progress | None = None) -> CheckReport:
    """Read everything in *source* and report what is wrong.

    *source* is a storage, a database, the path of a data file, or a `DataFile`. A file is read as
    it is, even one that is too damaged to be opened; nothing is changed. Everything is read once:
    headers, lengths, positions, each record's pickles and references. No pickle is executed and no
    class imported. Where there are blobs, it is seen whether each has its file, and of which
    length. *progress* is called now and then with how much of how much is done (bytes, or
    transactions); what it raises stops the check.

    Raises NotADatabase or OSError where there is no data file at the path, and Unsupported for a
    storage that can't be iterated over.
    """
    start = time.perf_counter()
    if isinstance(source, (str, os.PathLike, DataFile)):
        file = DataFile.of(source)
        report = _of_file(file, _native.check_file(file.path, progress), progress)
    else:
        storage = getattr(source, "storage", source)
        if isinstance(storage, EngineStorage):
            report = _from_native(storage.getName(), storage._native.check(progress))
            report = told_of_storage(report, storage)
            report = _with_ways(_with_checksums(report, storage), storage)
        else:
            report = check_by_iteration(storage, progress)
        report = report.with_findings(blob_findings(storage, progress))
    return replace(report, seconds=time.perf_counter() - start)


def check_together(members: Mapping[str, Any], progress: Progress | None) -> list[CheckReport]:
    """Check all *members* of a collection: files and storages of perdure's own at the same time.

    Where all are such, the reports' `references_to_others` have only those whose target none of
    the members has.  Raises what `check` raises.
    """
    sources = {name: _native_source(member) for name, member in members.items()}
    native = [(name, source) for name, source in sources.items() if source is not None]
    if len(native) < len(sources):
        return [check(member, progress) for member in members.values()]
    start = time.perf_counter()
    reports = []
    found = _native.check_members(native, progress)
    for one, member in zip(found, members.values(), strict=True):
        storage = getattr(member, "storage", member)
        if isinstance(storage, EngineStorage):
            report = told_of_storage(_from_native(storage.getName(), one), storage)
            report = _with_checksums(report, storage)
            report = report.with_findings(blob_findings(storage, progress))
        else:
            file = DataFile.of(member)
            report = _of_file(file, one, progress)
        reports.append(replace(report, seconds=time.perf_counter() - start))
    return reports


def _native_source(member: Any) -> "Path | _native.Storage | None":
    if isinstance(member, (str, os.PathLike, DataFile)):
        return DataFile.of(member).path
    storage = getattr(member, "storage", member)
    return storage._native if isinstance(storage, EngineStorage) else None


def _with_checksums(report: CheckReport, storage: EngineStorage) -> CheckReport:
    verified, _, damaged = storage._native.check_checksums()
    findings = [_damage(storage, *each) for each in damaged]
    return replace(report.with_findings(findings), verified=verified)


def _damage(
    storage: EngineStorage, position: int, tid: Tid, oid: Oid | None, problem: str
) -> Finding:
    """Return the finding of a transaction that isn't what was written, with what is known of it."""
    class_name = ""
    if oid is not None:
        try:
            class_name = ".".join(get_pickle_metadata(storage.loadSerial(oid, tid))).strip(".")
        except POSKeyError:
            # The record's header may be what is damaged: there is no such object.
            oid = None
        except POSError:
            class_name = ""
    return Finding("checksum", problem, position, oid=oid, class_name=class_name, tid=tid)


def _with_ways(report: CheckReport, storage: EngineStorage) -> CheckReport:
    """Add the ways that lead from the root to damaged objects."""
    damaged = {each.oid for each in report.findings if each.kind == "checksum" and each.oid}
    if not damaged:
        return report
    # Late: most databases are whole.
    from perdure.maintenance.references import References

    references = References({"": storage}, kept=False)
    ways = {oid: references.path("", oid) for oid in damaged}
    findings = [
        replace(each, path=ways[each.oid]) if each.oid in damaged and not each.path else each
        for each in report.findings
    ]
    return replace(report, findings=findings)


def _of_file(file: DataFile, found: dict[str, Any], progress: Progress | None) -> CheckReport:
    """Compare a data file, of which the structure was checked, with its checksums and blobs."""
    report = told_of_file(_from_native(str(file.path), found), file.path)
    if file.blob_dir is not None and not file.blob_dir.is_dir():
        raise FileNotFoundError(f"{file.blob_dir} is no folder of blobs")
    if file.blob_dir is None and not file.path.with_name(f"{file.path.name}.psums").exists():
        return _with_damage(report, file, found, progress) if found["gaps"] else report
    blob_dir = None if file.blob_dir is None else str(file.blob_dir)
    try:
        with closing(FileStorage(file.path, read_only=True, blob_dir=blob_dir)) as storage:
            report = _with_ways(_with_checksums(report, storage), storage)
            return report.with_findings(blob_findings(storage, progress))
    except CorruptedError as error:
        # Too damaged to be opened; perhaps only its checksums tell.
        report = report.with_findings(
            [Finding(kind="checksum", problem=f"can't be opened: {error}", position=error.position)]
        )
        return _with_damage(report, file, found, progress)


def _with_damage(
    report: CheckReport, file: DataFile, found: dict[str, Any], progress: Progress | None
) -> CheckReport:
    # Late: most databases are whole.
    from perdure.maintenance._damage import damage_findings

    return report.with_findings(damage_findings(file.path, found, progress))


def _from_native(name: str, found: dict[str, Any]) -> CheckReport:
    findings = [
        Finding(**(each | {"path": tuple(Step(oid, cls) for oid, cls in each["path"])}))
        for each in found["findings"]
    ]
    return CheckReport(
        name=name,
        bytes_read=found["bytes"],
        transactions=found["transactions"],
        records=found["records"],
        objects=found["objects"],
        findings=findings,
        findings_total=found["findings_total"],
        references_to_others=[OtherReference(*each) for each in found["others"]],
    )
