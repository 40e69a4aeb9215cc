"""Copying transactions from storage to storage, with the blobs in them."""

import os
import shutil
from collections.abc import Callable
from typing import Any

from perdure._blobtail import length_in
from perdure.blob._blob import require_length
from perdure.blob._records import is_blob_record
from perdure.errors import DamagedBlobError
from perdure.interfaces import IBlobStorage
from perdure.utils import mktemp

__all__ = ["copyTransactionsFromTo"]

_Told = Callable[[Exception], object]


def copyTransactionsFromTo(source: Any, destination: Any, damaged: _Told | None = None) -> None:
    """Copy all transactions of *source* into *destination*, with their tids and blobs.

    *source* provides `IStorageIteration`, *destination* `IStorageRestoreable` and, for
    blobs, `IBlobStorageRestoreable`.

    *damaged* is called with the error of each blob whose file is missing, or hasn't the length
    that was stored, and is copied as it is. Without it, a missing one is passed over, as in ZODB,
    and one of another length is a DamagedBlobError.
    """
    for transaction in source.iterator():
        destination.tpc_begin(transaction, transaction.tid, transaction.status)
        try:
            for record in transaction:
                _copy_record(source, destination, record, transaction, damaged)
            destination.tpc_vote(transaction)
        except BaseException:
            destination.tpc_abort(transaction)
            raise
        destination.tpc_finish(transaction)


def _copy_record(
    source: Any, destination: Any, record: Any, transaction: Any, damaged: _Told | None
) -> None:
    path = _blob_of(source, record, damaged)
    if path is None:
        destination.restore(record.oid, record.tid, record.data, "", record.data_txn, transaction)
        return
    copied = mktemp(dir=destination.temporaryDirectory(), prefix="CTFT")
    try:
        shutil.copyfile(path, copied)
        _compare_length(record, path, os.path.getsize(copied), damaged)
        destination.restoreBlob(
            record.oid, record.tid, record.data, copied, record.data_txn, transaction
        )
    except BaseException:
        if os.path.exists(copied):
            os.remove(copied)
        raise


def _compare_length(record: Any, path: str, length: int, damaged: _Told | None) -> None:
    try:
        require_length(length_in(record.data), length, record.oid, record.tid, path)
    except DamagedBlobError as error:
        if damaged is None:
            raise
        damaged(error)


def _blob_of(source: Any, record: Any, damaged: _Told | None) -> str | None:
    """Return the path of the blob file that belongs to a record; None: it has none."""
    if not IBlobStorage.providedBy(source) or not is_blob_record(record.data):
        return None
    try:
        path: str = source.loadBlob(record.oid, record.tid)
    except KeyError as error:
        if damaged is not None:
            damaged(error)
        return None
    return path
