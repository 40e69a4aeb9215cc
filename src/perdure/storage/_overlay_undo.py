"""Undoing a transaction of an overlay's changes.

The changes alone can't do it where the revision to go back to is in the base: to them
the object would be new, and undone it would be gone.
"""

import base64
import binascii
import os
import shutil
import tempfile
from typing import Any

from perdure.errors import ConflictError, UndoError
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage
from perdure.storage._missing import missing_object

__all__ = ["undo"]


def undo(overlay: Any, transaction_id: bytes, transaction: Any) -> tuple[Tid | None, list[Oid]]:
    """Undo the transaction that *transaction_id* (of ``undoLog``) names.

    Returns the tid, None where it isn't known yet, and the oids of the objects that
    go back to what they were. Raises UndoError, with nothing stored, where a later
    change stands in the way.
    """
    tid = _tid(transaction_id)
    oids = [record.oid for found in overlay.changes.iterator(tid, tid) for record in found]
    if not oids:
        raise UndoError(f"there is no transaction {tid.hex()} that could be undone")
    if all(_has_before(overlay.changes, oid, tid) for oid in oids):
        done: tuple[Tid | None, list[Oid]] = overlay.changes.undo(transaction_id, transaction)
        return done
    for oid in oids:
        _go_back(overlay, oid, tid, transaction)
    return overlay._tid, oids


def _tid(transaction_id: bytes) -> Tid:
    try:
        tid = base64.b64decode(transaction_id, validate=True)
    except binascii.Error:
        tid = b""
    if len(tid) != 8:
        raise UndoError(f"no id of a transaction in the undo log: {transaction_id!r}")
    return Tid(tid)


def _has_before(storage: Any, oid: Oid, tid: Tid) -> bool:
    return _revision_before(storage, oid, tid) is not None


def _revision_before(storage: Any, oid: Oid, tid: Tid) -> tuple[bytes, Tid] | None:
    try:
        found = storage.loadBefore(oid, tid)
    except missing_object():
        return None
    return None if found is None else found[:2]


def _go_back(overlay: Any, oid: Oid, tid: Tid, transaction: Any) -> None:
    before = _revision_before(overlay, oid, tid)
    current = overlay._current_tid(oid)
    if before is None:
        if current != tid:
            raise UndoError("it was changed since it was made", oid)
        overlay.deleteObject(oid, tid, transaction)
        return
    data, serial = before
    if current is not None and current != tid:
        data = _merged(overlay, oid, current, tid, data)
    replaced = tid if current is None else current
    path = _copy_of_blob(overlay, oid, serial)
    if path is None:
        overlay.changes.store(oid, replaced, data, "", transaction)
    else:
        overlay.changes.storeBlob(oid, replaced, data, path, "", transaction)


def _merged(overlay: Any, oid: Oid, current: Tid, tid: Tid, data: bytes) -> bytes:
    """The current state without the change that *tid* made to the one before it."""
    try:
        merged: bytes = overlay.tryToResolveConflict(oid, current, tid, data)
    except ConflictError as error:
        raise UndoError("a later transaction changed it", oid) from error
    return merged


def _copy_of_blob(overlay: Any, oid: Oid, serial: Tid) -> str | None:
    """Return the path of a copy of a blob's file; None: the object is no blob."""
    if not IBlobStorage.providedBy(overlay):
        return None
    try:
        path: str = overlay.loadBlob(oid, serial)
    except missing_object():
        return None
    directory: str = overlay.temporaryDirectory()
    handle, copied = tempfile.mkstemp(dir=directory)
    os.close(handle)
    shutil.copyfile(path, copied)
    return copied
