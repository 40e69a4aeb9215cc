"""Committing to an overlay."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.blob import copyTransactionsFromTo, voted_tid
from perdure.conflict import ConflictResolvingStorage
from perdure.errors import ConflictError, ReadConflictError, StorageTransactionError
from perdure.ids import NO_TID, Oid, Tid
from perdure.interfaces import IExternalGC, IStorageRestoreable
from perdure.storage._missing import missing_object
from perdure.storage._overlay_running import Running, RunningTransactions, Stored
from perdure.storage._tids import ITakesTids, check_record
from perdure.timestamp import tid_after

__all__ = ["OverlayCommitting"]


class OverlayCommitting(ConflictResolvingStorage):
    """The part of an overlay that takes transactions: everything is written to the changes."""

    base: Any
    changes: Any
    _deletion: bytes

    if TYPE_CHECKING:

        def getTid(self, oid: Oid) -> Tid: ...

        def _blob_changes(self) -> Any: ...

        def _tids_of_changes(self, oid: Oid) -> list[Tid]: ...

        def _is_in_base(self, oid: Oid) -> bool: ...

    def __init__(self) -> None:
        # Held from the vote to the end: what is current does not change between the check
        # for conflicts and the commit. Over changes that take a lock when a transaction
        # begins, it is held from there on. Taken before the locks of the changes.
        self._commit_lock = threading.Lock()
        # For layers written for ZODB, and giving out oids; taken after the commit lock.
        self._lock = threading.RLock()
        self._running = RunningTransactions(self)

    def tpc_begin(self, transaction: Any, tid: Tid | None = None, status: str = " ") -> None:
        """Begin to commit; with *tid*, to copy a transaction committed elsewhere.

        No lock is taken, that is for the vote, unless the changes take one.
        """
        self._running.require_new(transaction)
        if ITakesTids.providedBy(self.changes):
            # Tids increase over both layers, even if the base's clock was ahead.
            self.changes.commit_after(self.base.lastTransaction())
            self._begin(transaction, tid, status)
            self._running.add(Running(transaction, locked=False))
            return
        self._commit_lock.acquire()
        try:
            if tid is None and IStorageRestoreable.providedBy(self.changes):
                tid = tid_after(max(self.base.lastTransaction(), self.changes.lastTransaction()))
            self._begin(transaction, tid, status)
        except BaseException:
            self._commit_lock.release()
            raise
        self._running.add(Running(transaction, locked=True))

    def _begin(self, transaction: Any, tid: Tid | None, status: str) -> None:
        if tid is None:
            self.changes.tpc_begin(transaction)
        else:
            self.changes.tpc_begin(transaction, tid, status)

    def commit_after(self, tid: Tid) -> None:
        """Give the transactions from now on later tids than *tid* (`ITakesTids`)."""
        self.changes.commit_after(tid)

    def _end(self, running: Running) -> None:
        self._running.remove(running)
        self._unlock(running)

    def _unlock(self, running: Running) -> None:
        if running.locked:
            running.locked = False
            self._commit_lock.release()

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Store a record in the changes; *serial* is the revision it was made from.

        Where there is a newer one and the two can't be merged, the vote raises
        ConflictError, or this does over changes that take their lock at the begin.
        """
        running = self._running.require(transaction)
        check_record(oid, serial, data)
        running.oids.add(oid)
        if running.locked:
            data, serial = self._merged(running, oid, serial, data)
            self.changes.store(oid, serial, data, version, transaction)
        else:
            running.waiting.append(Stored(oid, serial, data, version))

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> None:
        """Store a blob in the changes, as `store` does a record."""
        changes = self._blob_changes()
        running = self._running.require(transaction)
        running.oids.add(oid)
        if running.locked:
            data, oldserial = self._merged(running, oid, oldserial, data)
        else:
            # Blobs are never merged, so there will be nothing else to store.
            running.replaces[oid] = oldserial
        changes.storeBlob(oid, oldserial, data, blobfilename, version, transaction)

    def _merged(self, running: Running, oid: Oid, serial: Tid, data: bytes) -> tuple[bytes, Tid]:
        """Return the data to store and the revision to replace."""
        current = self._current_tid(oid)
        if current is None or current == serial:
            return data, serial
        merged: bytes = self.tryToResolveConflict(oid, current, serial, data)
        running.resolved.append(oid)
        return merged, current

    def _current_tid(self, oid: Oid) -> Tid | None:
        try:
            return self.getTid(oid)
        except missing_object():
            return None

    def deleteObject(self, oid: Oid, oldserial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist to the changes.

        Raises POSKeyError where there is no such object, ConflictError unless *oldserial*
        is current, as the vote does unless it still is.
        """
        running = self._running.require(transaction)
        current = self.getTid(oid)
        if current != oldserial:
            raise ConflictError(oid=oid, serials=(current, oldserial))
        running.replaces[oid] = oldserial
        if not self._is_in_base(oid) and IExternalGC.providedBy(self.changes):
            self.changes.deleteObject(oid, oldserial, transaction)
        else:
            self.changes.store(oid, oldserial, self._deletion, "", transaction)

    def restore(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes | None,
        version: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a record that was committed elsewhere in the changes; None: the object is gone."""
        self._running.require(transaction)
        if data is None and self._is_in_base(oid):
            data = self._deletion
        before = self._known_to_changes(oid, prev_txn)
        self.changes.restore(oid, serial, data, version, before, transaction)

    def restoreBlob(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a blob that was committed elsewhere in the changes."""
        changes = self._blob_changes()
        self._running.require(transaction)
        before = self._known_to_changes(oid, prev_txn)
        changes.restoreBlob(oid, serial, data, blobfilename, before, transaction)

    def _known_to_changes(self, oid: Oid, serial: Tid | None) -> Tid | None:
        """Return the serial of an earlier revision, None unless the changes have it."""
        if serial is None or serial not in self._tids_of_changes(oid):
            return None
        return serial

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of another storage, blobs included, into the changes."""
        copyTransactionsFromTo(other, self)

    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have the vote fail with ReadConflictError unless *serial* is current.

        Over changes that take their lock at the begin, this fails.
        """
        running = self._running.require(transaction)
        running.reads[oid] = serial
        if running.locked:
            self._check_reads(running)

    def tpc_vote(self, transaction: Any) -> list[Oid]:
        """Wait for the turn and look for conflicts; return the oids of those resolved."""
        running = self._running.require(transaction)
        if running.locked:
            return [*running.resolved, *(self.changes.tpc_vote(transaction) or ())]
        self._commit_lock.acquire()
        running.locked = True
        try:
            self._store_waiting(running)
            self._check_replaced(running)
            self._check_reads(running)
            return [*running.resolved, *(self.changes.tpc_vote(transaction) or ())]
        except BaseException:
            # It can only be aborted now; the others need not wait for that.
            self._unlock(running)
            raise

    def _store_waiting(self, running: Running) -> None:
        for oid, serial, data, version in running.waiting:
            kept, before = self._merged(running, oid, serial, data)
            self.changes.store(oid, before, kept, version, running.transaction)
        running.waiting.clear()

    def _check_replaced(self, running: Running) -> None:
        for oid, serial in running.replaces.items():
            current = self._current_tid(oid)
            if current not in {None, serial}:
                raise ConflictError(oid=oid, serials=(current or NO_TID, serial))

    def _check_reads(self, running: Running) -> None:
        for oid, serial in running.reads.items():
            current = self._current_tid(oid)
            if current != serial:
                raise ReadConflictError(oid=oid, serials=(current or NO_TID, serial))

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = lambda tid: None) -> Tid:
        """Make the transaction permanent in the changes and return its tid."""
        running = self._running.require(transaction)
        if not running.locked:
            raise StorageTransactionError("tpc_finish comes after tpc_vote")
        try:
            tid: Tid = self.changes.tpc_finish(transaction, func)
            self._finished(running)
        finally:
            self._end(running)
        return tid

    def _finished(self, running: Running) -> None:
        """Take note that a transaction is committed."""

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored; ignored if it isn't this storage's transaction."""
        running = self._running.get(transaction)
        if running is None:
            return
        try:
            self.changes.tpc_abort(transaction)
        finally:
            self._end(running)

    def tpc_transaction(self) -> Any:
        """Return the transaction that is being committed, or None.

        Of several, the one that has voted, else the last that was begun.
        """
        return self._running.foremost()

    @property
    def _transaction(self) -> Any:
        """What `tpc_transaction` returns, under the name that ZODB's storages have."""
        return self.tpc_transaction()

    def voted_tid(self, transaction: Any) -> Tid:
        """Return the tid of a transaction between vote and finish."""
        return voted_tid(self.changes, transaction)
