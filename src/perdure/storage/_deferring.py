"""The base of layers that have to know a transaction's tid before they encode its records.

What is stored waits here until the vote. Over perdure's own storages, it is given to them
encoded without the tid then, and encoded anew when they have the commit lock and the tid is
known. Over others to which no one else commits (`ITakesTids`), the layer chooses the tid and
has the storage below begin with it; over all others, the records are encoded without it.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from perdure.blob import BlobStorage
from perdure.errors import ConflictError, ReadOnlyError, StorageTransactionError
from perdure.ids import Oid, Tid
from perdure.storage._layers import engine_below, transforming_layers
from perdure.storage._missing import missing_object
from perdure.storage._tids import ITakesTids
from perdure.storage._transforming import RecordTransform, TransformingStorage
from perdure.timestamp import tid_after

__all__ = ["DeferringStorage", "Pending", "hand_down"]

Call = Callable[[Tid | None], object]


class Pending:
    """A transaction, and what it has asked for: steps that are given the tid."""

    def __init__(self, transaction: Any, tid: Tid | None, status: str) -> None:
        self.transaction = transaction
        self.tid = tid
        self.status = status
        self.records: dict[Oid, Call] = {}
        self.checks: list[Call] = []
        self.undone: dict[Oid, bytes | None] = {}
        """What undoing has stored; None: the object is gone."""
        self.files: list[str] = []
        """Files that are removed at the end, if they are still there."""
        self.begun = False
        """Whether the storage below knows of it: it has voted, or tried to."""

    def remove_files(self) -> None:
        """Remove what wasn't taken over."""
        for path in self.files:
            Path(path).unlink(missing_ok=True)


class DeferringStorage(TransformingStorage):
    """A layer that gives *base* a transaction's records when it votes."""

    def __init__(self, base: Any, transform: RecordTransform) -> None:
        super().__init__(base, transform)
        self._ties = True
        self._engine = engine_below(base)
        # For storages that are not perdure's own. Held while a tid is chosen and until the
        # vote below is through: votes happen in the order of their tids. Taken before the
        # locks of the storage below.
        self._choosing = threading.Lock()
        self._last_tid: Tid | None = None
        self._pending: dict[int, Pending] = {}

    def new_instance(self) -> "DeferringStorage":
        """Return this layer over another instance of the base."""
        instance = super().new_instance()
        assert isinstance(instance, DeferringStorage)
        instance._pending = {}
        return instance

    def close(self) -> None:
        """Close the base; transactions that are not finished are forgotten."""
        for pending in list(self._pending.values()):
            self.tpc_abort(pending.transaction)
        self.base.close()

    def tpc_begin(self, transaction: Any, tid: Tid | None = None, status: str = " ") -> None:
        """Begin to commit; with *tid*, to copy a transaction committed elsewhere."""
        if self.base.isReadOnly():
            raise ReadOnlyError(f"{self.getName()} is read-only")
        if id(transaction) in self._pending:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        self._pending[id(transaction)] = Pending(transaction, tid, status)

    def _known(self, transaction: Any) -> Pending:
        pending = self._pending.get(id(transaction))
        if pending is None:
            raise StorageTransactionError(self, transaction)
        return pending

    def _running(self, transaction: Any) -> Pending:
        """Return what a transaction that hasn't voted has asked for."""
        pending = self._known(transaction)
        if pending.begun:
            raise StorageTransactionError("the transaction has voted already", transaction)
        return pending

    def deleteObject(self, oid: Oid, oldserial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist.

        Raises POSKeyError where there is no such object; the vote raises ConflictError
        unless *oldserial* is current.
        """
        pending = self._running(transaction)
        self.base.getTid(oid)
        pending.records[oid] = lambda _tid: self._delete(oid, oldserial, transaction)

    def _delete(self, oid: Oid, oldserial: Tid, transaction: Any) -> None:
        try:
            self.base.deleteObject(oid, oldserial, transaction)
        except missing_object() as error:
            raise ConflictError("the object was deleted by another transaction", oid=oid) from error

    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have the vote fail with ReadConflictError unless *serial* is current."""
        self._running(transaction).checks.append(
            lambda _tid: self.base.checkCurrentSerialInTransaction(oid, serial, transaction)
        )

    def tpc_vote(self, transaction: Any) -> Any:
        """Give the base all of the transaction; return the oids whose conflicts were resolved."""
        pending = self._known(transaction)
        if self._engine is not None:
            if not pending.begun:
                self.hand_down(transaction)
            with self._encoding_for(pending.tid):
                return self.base.tpc_vote(transaction)
        pending = self._running(transaction)
        with self._choosing:
            tid = self._tid_for(pending)
            with self._encoding_for(tid):
                self._give(pending, tid)
                return self.base.tpc_vote(transaction)

    def commit_after(self, tid: Tid) -> None:
        """Give the transactions from now on later tids than *tid* (`ITakesTids`)."""
        if self._engine is not None:
            self._engine.commit_after(tid)
        with self._choosing:
            self._last_tid = tid if self._last_tid is None else max(tid, self._last_tid)

    def hand_down(self, transaction: Any) -> None:
        """Give the base, which is perdure's own, all of a transaction that is about to vote."""
        pending = self._running(transaction)
        self._give(pending, pending.tid)
        hand_down(self.base, transaction)
        if self._engine is not None:
            lowest = transforming_layers(self)[0]
            self._engine._running_for(transaction).tie = lowest.tied

    def _give(self, pending: Pending, tid: Tid | None) -> None:
        pending.begun = True
        if tid is None:
            self.base.tpc_begin(pending.transaction)
        else:
            self.base.tpc_begin(pending.transaction, tid, pending.status)
        for step in (*pending.records.values(), *pending.checks):
            step(tid)
        pending.records.clear()

    def _tid_for(self, pending: Pending) -> Tid | None:
        tid = pending.tid
        if tid is None:
            if not ITakesTids.providedBy(self.base):
                return None
            last: Tid = self.base.lastTransaction()
            tid = tid_after(last if self._last_tid is None else max(last, self._last_tid))
        self._last_tid = tid if self._last_tid is None else max(tid, self._last_tid)
        return tid

    def _encoding_for(self, tid: Tid | None) -> AbstractContextManager[None]:
        """Have the records that the base merges in this thread encoded for *tid*."""
        raise NotImplementedError

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = lambda tid: None) -> Any:
        """Make the transaction permanent and return its tid."""
        pending = self._known(transaction)
        if not pending.begun:
            raise StorageTransactionError("tpc_finish comes after tpc_vote")
        tid = self.base.tpc_finish(transaction, func)
        del self._pending[id(transaction)]
        pending.remove_files()
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored; ignored if it isn't this storage's transaction."""
        pending = self._pending.pop(id(transaction), None)
        if pending is None:
            return
        try:
            if pending.begun:
                self.base.tpc_abort(transaction)
        finally:
            pending.remove_files()

    def tpc_transaction(self) -> Any:
        """Return the transaction that is being committed, None if there is none."""
        pending = list(self._pending.values())
        for each in pending:
            if each.begun:
                return each.transaction
        return pending[-1].transaction if pending else None


def hand_down(storage: Any, transaction: Any) -> None:
    """Have the layers from *storage* downwards give all of a transaction to what is below."""
    if isinstance(storage, DeferringStorage):
        storage.hand_down(transaction)
    elif isinstance(storage, TransformingStorage | BlobStorage):
        hand_down(storage.base, transaction)
