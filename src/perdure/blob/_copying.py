"""Copying transactions from storage to storage, with the blobs in them."""

import os
import shutil
from typing import Any

from perdure.blob._records import is_blob_record
from perdure.interfaces import IBlobStorage
from perdure.utils import mktemp

__all__ = ["copyTransactionsFromTo"]


def copyTransactionsFromTo(source: Any, destination: Any) -> None:
    """Copy all transactions of *source* into *destination*, with their tids and blobs.

    *source* provides `IStorageIteration`, *destination* `IStorageRestoreable` and, for
    blobs, `IBlobStorageRestoreable`.
    """
    for transaction in source.iterator():
        destination.tpc_begin(transaction, transaction.tid, transaction.status)
        try:
            for record in transaction:
                _copy_record(source, destination, record, transaction)
            destination.tpc_vote(transaction)
        except BaseException:
            destination.tpc_abort(transaction)
            raise
        destination.tpc_finish(transaction)


def _copy_record(source: Any, destination: Any, record: Any, transaction: Any) -> None:
    path = _blob_of(source, record)
    if path is None:
        destination.restore(record.oid, record.tid, record.data, "", record.data_txn, transaction)
        return
    copied = mktemp(dir=destination.temporaryDirectory(), prefix="CTFT")
    try:
        shutil.copyfile(path, copied)
        destination.restoreBlob(
            record.oid, record.tid, record.data, copied, record.data_txn, transaction
        )
    except BaseException:
        if os.path.exists(copied):
            os.remove(copied)
        raise


def _blob_of(source: Any, record: Any) -> str | None:
    """Return the path of the blob file that belongs to a record; None: it has none."""
    if not IBlobStorage.providedBy(source) or not is_blob_record(record.data):
        return None
    try:
        path: str = source.loadBlob(record.oid, record.tid)
    except KeyError:
        return None
    return path
