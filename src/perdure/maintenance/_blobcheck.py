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

__all__ = ["blob_findings"]

_TRANSACTIONS_PER_CALL = 1000


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
    for number, transaction in enumerate(storage.iterator(), 1):
        for record in transaction:
            problem = _problem(storage, record.oid, record.tid, record.data)
            if problem is not None:
                yield Finding(
                    kind="blob",
                    problem=problem,
                    position=None,
                    oid=record.oid,
                    class_name="ZODB.blob.Blob",
                    tid=record.tid,
                )
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
