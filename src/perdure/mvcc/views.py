"""Snapshots of storages that keep none themselves."""

from collections.abc import Callable, Container, Iterable
from typing import Any

from zope.interface import implementer

from perdure._coexist import adopt, adopting, stock_errors
from perdure.errors import ConnectionStateError, ReadConflictError
from perdure.ids import Oid, Tid, oid_repr, readable_tid_repr
from perdure.interfaces import IMVCCPrefetchStorage, IMVCCStorage
from perdure.invalidations import InvalidationLog
from perdure.mvcc.face import StorageFace, nothing
from perdure.mvcc.historical import HistoricalView
from perdure.mvcc.readahead import ReadAhead
from perdure.serialize import referencesf
from perdure.utils import at2before

__all__ = ["MVCCAdapter", "MVCCView", "UndoView"]


class MVCCAdapter(StorageFace):
    """Makes views of a storage that keeps no snapshots itself."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        self.log = InvalidationLog()
        # Storages may lack what stock's own adapter doesn't insist on, either.
        self.sync_storage: Callable[[], object] = getattr(storage, "sync", nothing)
        self.prefetch_storage: Callable[..., object] = getattr(storage, "prefetch", nothing)
        self.fetches_ahead = self.prefetch_storage is not nothing
        getattr(storage, "registerDB", nothing)(self)

    def new_instance(self) -> "MVCCView":
        """Return a view for a connection."""
        return MVCCView(self, self._storage)

    def before_instance(self, before: Tid) -> "HistoricalView":
        """Return a view of the state before the given tid."""
        return HistoricalView(self._storage, before)

    def undo_instance(self) -> "UndoView":
        """Return a view for undoing."""
        return UndoView(self, self._storage)

    def pack(self, pack_time: float, referencesf: Callable[..., Any]) -> Any:
        """Pack the storage."""
        return self._storage.pack(pack_time, referencesf)

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()

    # What a storage calls: IStorageWrapper.

    def invalidateCache(self) -> None:
        """Have all connections forget what they have cached."""
        self.log.forget()

    def invalidate(self, transaction_id: Tid, oids: Iterable[Oid]) -> None:
        """Take note of a transaction that was committed elsewhere."""
        self.log.append(transaction_id, oids)

    def references(self, record: bytes, oids: list[Oid] | None = None) -> list[Oid]:
        """Return the oids that a record refers to."""
        return referencesf(record, oids)

    def transform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data

    def untransform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data


@implementer(IMVCCStorage, IMVCCPrefetchStorage)
class MVCCView(StorageFace):
    """A storage at the snapshot of one connection."""

    def __init__(self, adapter: MVCCAdapter, storage: Any) -> None:
        super().__init__(storage)
        self._adapter = adapter
        self._log = adapter.log
        self._position = self._log.end
        self._at: Tid | None = None
        self._start: Tid | None = None
        self._modified: set[Oid] = set()
        self._resolved: set[Oid] = set()
        self._ahead = ReadAhead(self.prefetch) if adapter.fetches_ahead else None

    def new_instance(self) -> "MVCCView":
        """Return another view."""
        return self._adapter.new_instance()

    def release(self) -> None:
        """Give back what the view holds."""

    close = release

    def sync(self, force: bool = True) -> None:
        """Have the storage find out what the newest state is."""
        if force:
            self._adapter.sync_storage()

    def poll_invalidations(self) -> list[Oid] | None:
        """Move the snapshot to the newest state; return what others changed since."""
        # The storage may know of a transaction before it is in the log (after a
        # reconnection), and the log of one that the storage is just finishing.
        newest = self._storage.lastTransaction()
        changed, last, self._position = self._log.since(self._position, self)
        newest = max(newest, last)
        if newest != self._at:
            self._at = newest
            self._start = at2before(newest)
            if self._ahead is not None:
                self._ahead.forget()
        return changed

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* at the snapshot.

        Raises POSKeyError if there is no such object, ReadConflictError if there
        is one, but not at the snapshot.
        """
        if self._start is None:
            raise ConnectionStateError(
                f"can't load {oid_repr(oid)}: no transaction has begun; "
                "call begin() on the transaction manager first"
            )
        try:
            found = self._storage.loadBefore(oid, self._start)
        except stock_errors() as error:
            adopt(error)
            raise
        if found is None:
            # Deleted, or packed away by somebody who looked from a later time:
            # a new transaction will see what is right, so this can be retried.
            raise ReadConflictError(
                f"object {oid_repr(oid)} isn't there at {readable_tid_repr(self._at)}: "
                "it was deleted, packed away or created later",
                oid=oid,
            )
        data, serial, _ = found
        if self._ahead is not None:
            self._ahead.loaded(oid, data)
        return data, serial

    def prefetch(self, oids: Iterable[Oid]) -> None:
        """Have the storage begin to fetch records."""
        self._adapter.prefetch_storage(oids, self._start)

    @adopting
    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        oid: Oid = self._storage.new_oid()
        return oid

    @adopting
    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        self._storage.tpc_begin(transaction)
        self._modified = set()
        self._resolved = set()

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Store a record."""
        try:
            self._storage.store(oid, serial, data, version, transaction)
        except stock_errors() as error:
            adopt(error)
            raise
        self._modified.add(oid)

    @adopting
    def storeBlob(
        self, oid: Oid, serial: Tid, data: bytes, path: str, version: str, transaction: Any
    ) -> None:
        """Store a record with a blob's data."""
        self._storage.storeBlob(oid, serial, data, path, version, transaction)
        self._modified.add(oid)

    @adopting
    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have the commit fail unless *serial* is current."""
        self._storage.checkCurrentSerialInTransaction(oid, serial, transaction)

    @adopting
    def deleteObject(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist."""
        self._storage.deleteObject(oid, serial, transaction)
        self._modified.add(oid)

    @adopting
    def tpc_vote(self, transaction: Any) -> Iterable[Oid]:
        """Get ready to finish; return the oids whose conflicts were resolved."""
        resolved = self._storage.tpc_vote(transaction) or ()
        self._resolved.update(resolved)
        return list(self._resolved)

    @adopting
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = nothing) -> Tid:
        """Make it permanent and tell the other views; return the tid."""
        finished: list[Tid] = []

        def announce(tid: Tid) -> None:
            finished.append(tid)
            self._log.append(tid, self._modified, self, self._resolved)
            func(tid)

        returned = self._storage.tpc_finish(transaction, announce)
        return returned if isinstance(returned, bytes) else finished[0]  # type: ignore[return-value]

    @adopting
    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored."""
        self._storage.tpc_abort(transaction)


class UndoView(StorageFace):
    """What undoes transactions of a storage that keeps no snapshots itself."""

    def __init__(self, adapter: MVCCAdapter, storage: Any) -> None:
        super().__init__(storage)
        self._log = adapter.log
        self._undone: set[Oid] = set()

    def release(self) -> None:
        """Give back what the view holds."""

    close = release

    @adopting
    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        self._storage.tpc_begin(transaction)
        self._undone = set()

    @adopting
    def undo(self, transaction_id: bytes, transaction: Any, *chosen: Container[Oid]) -> Any:
        """Undo a transaction (of *chosen* objects alone), or raise UndoError."""
        result = self._storage.undo(transaction_id, transaction, *chosen)
        if result:
            self._undone.update(result[1])
        return result

    @adopting
    def tpc_vote(self, transaction: Any) -> None:
        """Get ready to finish."""
        self._undone.update(self._storage.tpc_vote(transaction) or ())

    @adopting
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = nothing) -> Any:
        """Make it permanent and tell the views."""

        def announce(tid: Tid) -> None:
            self._log.append(tid, self._undone)
            func(tid)

        return self._storage.tpc_finish(transaction, announce)

    @adopting
    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was undone."""
        self._storage.tpc_abort(transaction)
