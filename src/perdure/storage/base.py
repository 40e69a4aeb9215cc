"""A base class for storages written in Python, and copying between storages."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from perdure import _native
from perdure.errors import (
    ReadConflictError,
    ReadOnlyError,
    StorageTransactionError,
    Unsupported,
)
from perdure.ids import Oid, Tid
from perdure.storage._extension import extension_bytes_of
from perdure.timestamp import TimeStamp, tid_after
from perdure.utils import load_current, p64, u64

__all__ = ["BaseStorage", "copy"]

_NO_OID: Final = Oid(b"\0" * 8)


class BaseStorage:
    """What a storage written in Python can be built on.

    It keeps the locks and the state of the commit; a subclass adds `load` or
    `loadBefore`, `store`, and the hooks `_begin`, `_vote`, `_finish`, `_abort`
    and `_clear_temp`.  One transaction at a time is between begin and finish.

    Args:
        name: what `getName` and `sortKey` return.
        base: a storage to go on numbering oids from.
    """

    _transaction: Any = None
    _tstatus = " "
    _is_read_only = False
    _ude: tuple[bytes, bytes, bytes] | None = None

    def __init__(self, name: str, base: Any = None) -> None:
        self.__name__ = name
        # Guards the attributes below; taken after the commit lock, never before.
        self._lock = threading.RLock()
        # Held from tpc_begin to tpc_finish or tpc_abort.
        self._commit_lock = threading.Lock()
        self._lock_acquire = self._lock.acquire
        self._lock_release = self._lock.release
        self._commit_lock_acquire = self._commit_lock.acquire
        self._commit_lock_release = self._commit_lock.release
        self._tid = Tid(_native.tid_of_time(time.time()))
        self._ts = TimeStamp(self._tid)
        self._oid: Oid = _NO_OID if base is None else getattr(base, "_oid", _NO_OID)
        self._resolved: list[Oid] = []

    # Facts.

    def getName(self) -> str:
        """Return the storage's name."""
        return self.__name__

    def sortKey(self) -> str:
        """Return the storage's place among the resources of a transaction."""
        return self.__name__

    def getSize(self) -> int:
        """Return a guess of the size in bytes."""
        return len(self) * 300

    def __len__(self) -> int:
        return 0

    def isReadOnly(self) -> bool:
        """Tell whether nothing can be committed."""
        return self._is_read_only

    def registerDB(self, db: Any) -> None:
        """Accept the database above this storage."""

    def history(self, oid: Oid, size: int = 1) -> Any:
        """Return nothing: this storage keeps no history."""
        return ()

    def lastTransaction(self) -> Tid:
        """Return the newest transaction."""
        with self._lock:
            newest: Tid = self._ltid  # type: ignore[attr-defined]
            return newest

    def getTid(self, oid: Oid) -> Tid:
        """Return the serial of an object's current revision, or raise POSKeyError."""
        with self._lock:
            return load_current(self, oid)[1]

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return None: this storage keeps no history."""
        return None

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Raise Unsupported: this storage keeps no history."""
        raise Unsupported("Retrieval of historical revisions is not supported")

    def close(self) -> None:
        """Close the storage."""

    # Oids.

    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        if self._is_read_only:
            raise ReadOnlyError(f"{self.__name__} is read-only")
        with self._lock:
            self._oid = Oid(p64(u64(self._oid) + 1))
            return self._oid

    def set_max_oid(self, possible_new_max_oid: Oid) -> None:
        """Give out only greater oids from now on."""
        with self._lock:
            self._oid = max(self._oid, possible_new_max_oid)

    # Committing.

    def tpc_begin(self, transaction: Any, tid: Tid | None = None, status: str = " ") -> None:
        """Begin to commit: wait for the other transaction, choose the tid, call `_begin`."""
        if self._is_read_only:
            raise ReadOnlyError(f"{self.__name__} is read-only")
        with self._lock:
            if self._transaction is transaction:
                raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        self._commit_lock.acquire()
        with self._lock:
            self._transaction = transaction
            self._clear_temp()
            user, description = transaction.user, transaction.description
            extension = extension_bytes_of(transaction)
            self._ude = user, description, extension
            self._tid = tid if tid is not None else tid_after(Tid(self._ts.raw()))
            self._ts = TimeStamp(self._tid)
            self._resolved.clear()
            self._tstatus = status
            self._begin(self._tid, user, description, extension)

    def tpc_transaction(self) -> Any:
        """Return the transaction that is being committed, None if there is none."""
        return self._transaction

    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Raise ReadConflictError unless *serial* is the current revision of the object."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        current = self.getTid(oid)
        if current != serial:
            raise ReadConflictError(oid=oid, serials=(current, serial))

    def tpc_vote(self, transaction: Any) -> Any:
        """Call `_vote`; returns the oids whose conflicts were resolved."""
        with self._lock:
            self._check(transaction, "tpc_vote")
            return self._vote()

    def tpc_finish(self, transaction: Any, f: Callable[[Tid], object] | None = None) -> Tid:
        """Call *f* with the tid, then `_finish`; return the tid."""
        with self._lock:
            self._check(transaction, "tpc_finish")
            try:
                if f is not None:
                    f(self._tid)
                user, description, extension = self._ude or (b"", b"", b"")
                self._finish(self._tid, user, description, extension)
                self._clear_temp()
            finally:
                self._ude = None
                self._transaction = None
                self._commit_lock.release()
            return self._tid

    def tpc_abort(self, transaction: Any) -> None:
        """Call `_abort`; ignored where the transaction is not this storage's."""
        with self._lock:
            if transaction is not self._transaction:
                return
            try:
                self._abort()
                self._clear_temp()
                self._transaction = None
            finally:
                self._commit_lock.release()

    def _check(self, transaction: Any, call: str) -> None:
        if transaction is not self._transaction:
            raise StorageTransactionError(f"{call} called with wrong transaction")

    # Hooks.

    def _begin(self, tid: Tid, u: bytes, d: bytes, e: bytes) -> None:
        """Start a transaction."""

    def _vote(self) -> Any:
        """Get ready to finish; return the oids whose conflicts were resolved."""
        return self._resolved

    def _finish(self, tid: Tid, u: bytes, d: bytes, e: bytes) -> None:
        """Make the transaction permanent."""

    def _abort(self) -> None:
        """Drop the transaction."""

    def _clear_temp(self) -> None:
        """Forget what only the running transaction needed."""

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of another storage into this one."""
        copy(other, self)


_log = logging.getLogger("perdure.copy")


def copy(source: Any, target: Any) -> int:
    """Copy all transactions of *source* into *target*, with their tids.

    Both are storages: *source* provides `IStorageIteration`; *target* provides
    `IStorageRestoreable`, or stores the records as changes of its own.  Returns
    the number of transactions.
    """
    restoring = callable(getattr(target, "restore", None))
    serials: dict[Oid, Tid] = {}
    last: Tid | None = None
    count = 0
    for transaction in source.iterator():
        tid = transaction.tid
        if last is not None and tid <= last:
            tid = Tid(p64(u64(last) + 1))
            _log.warning("transaction %r is out of order and is copied as %r", transaction.tid, tid)
        last = tid
        target.tpc_begin(transaction, tid, transaction.status)
        try:
            for record in transaction:
                if restoring:
                    target.restore(record.oid, tid, record.data, "", record.data_txn, transaction)
                else:
                    before = serials.get(record.oid)
                    target.store(record.oid, before, record.data, "", transaction)
                    serials[record.oid] = tid
            target.tpc_vote(transaction)
        except BaseException:
            target.tpc_abort(transaction)
            raise
        target.tpc_finish(transaction)
        count += 1
    return count
