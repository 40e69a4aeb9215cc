"""Small steps on any storage, for tests at the storage's level."""

import base64
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perdure.connection.metadata import TransactionMetaData
from perdure.errors import POSKeyError
from perdure.ids import MAX_TID, NO_TID, Oid, Tid

__all__ = ["begun", "commit", "oid", "serial_of", "tid_of", "undo"]


def oid(number: int) -> Oid:
    """Return a number as an oid."""
    return Oid(struct.pack(">Q", number))


def tid_of(number: int) -> Tid:
    """Return a number as a tid."""
    return Tid(struct.pack(">Q", number))


def serial_of(storage: Any, key: Oid) -> Tid:
    """Return the serial of the current record, zeros for an object that isn't there."""
    try:
        found = storage.loadBefore(key, MAX_TID)
    except (POSKeyError, KeyError):
        return NO_TID
    serial: Tid = found[1] if found else NO_TID
    return serial


def begun(
    storage: Any, *, metadata: Callable[..., Any] = TransactionMetaData, tid: Tid | None = None
) -> Any:
    """Return a transaction that the storage has begun to commit."""
    txn = metadata()
    storage.tpc_begin(txn, *(() if tid is None else (tid,)))
    return txn


def commit(
    storage: Any,
    records: Mapping[int, bytes],
    *,
    metadata: Callable[..., Any] = TransactionMetaData,
    user: str = "",
    description: str = "",
    extension: Any = None,
    delete: Iterable[int] = (),
) -> Tid:
    """Store records, by the numbers of their oids, in one transaction; return its tid."""
    txn = metadata(user, description, extension)
    storage.tpc_begin(txn)
    for number, data in records.items():
        storage.store(oid(number), serial_of(storage, oid(number)), data, "", txn)
    for number in delete:
        storage.deleteObject(oid(number), serial_of(storage, oid(number)), txn)
    storage.tpc_vote(txn)
    tid: Tid = storage.tpc_finish(txn)
    return tid


def undo(storage: Any, tid: Tid, *, metadata: Callable[..., Any] = TransactionMetaData) -> Tid:
    """Undo a transaction; return the tid of the one that does it."""
    txn = metadata("", "undo", None)
    storage.tpc_begin(txn)
    storage.undo(base64.b64encode(tid), txn)
    storage.tpc_vote(txn)
    undone: Tid = storage.tpc_finish(txn)
    return undone
