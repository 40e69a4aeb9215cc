"""Comparing the files of blobs with what their records say."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from perdure._blobtail import length_in
from perdure.blob import is_blob_record, require_length
from perdure.errors import POSError
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage, IStorageIteration
from perdure.maintenance.references import References
from perdure.maintenance.report import Finding
from perdure.storage.engine import EngineStorage

__all__ = ["blob_findings"]

_TRANSACTIONS_PER_CALL = 1000

_Record = tuple[Oid, Tid, bytes | None]


def blob_findings(
    storage: Any, progress: Callable[[int, int], object] | None = None
) -> list[Finding]:
    """Tell which files of blobs are missing, cut or too long; nothing without blobs."""
    if not (IBlobStorage.providedBy(storage) and IStorageIteration.providedBy(storage)):
        return []
    found = list(_findings(storage, progress))
    if found:
        ways = References({"": storage}, progress, kept=False)
        found = [replace(each, path=ways.path("", each.oid)) for each in found if each.oid]
    return found


def _findings(storage: Any, progress: Callable[[int, int], object] | None) -> Iterator[Finding]:
    records = _native_records if isinstance(storage, EngineStorage) else _records
    for oid, tid, data in records(storage, progress):
        problem = _problem(storage, oid, tid, data)
        if problem is not None:
            yield Finding(
                kind="blob",
                problem=problem,
                position=None,
                oid=oid,
                class_name="ZODB.blob.Blob",
                tid=tid,
            )


def _records(storage: Any, progress: Callable[[int, int], object] | None) -> Iterator[_Record]:
    for number, transaction in enumerate(storage.iterator(), 1):
        for record in transaction:
            yield record.oid, record.tid, record.data
        if progress is not None and number % _TRANSACTIONS_PER_CALL == 0:
            progress(number, 0)


def _native_records(
    storage: EngineStorage, progress: Callable[[int, int], object] | None
) -> Iterator[_Record]:
    """Give the records of blobs; the others are passed over natively."""
    for number, (*_fields, records) in enumerate(storage._native.transactions(), 1):
        while (found := records.next_blob()) is not None:
            yield found.oid, found.tid, found.data
        if progress is not None and number % _TRANSACTIONS_PER_CALL == 0:
            progress(number, 0)


def _problem(storage: Any, oid: Oid, tid: Tid, record: bytes | None) -> str | None:
    if record is None or not is_blob_record(record):
        return None
    try:
        with storage.openCommittedBlobFile(oid, tid) as file:
            length = file.seek(0, os.SEEK_END)
            require_length(length_in(record), length, oid, tid, str(file.name))
    except (POSError, KeyError, OSError) as error:
        return str(error)
    return None
