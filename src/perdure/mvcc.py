"""What a connection reads and commits through: a view of a storage at one snapshot.

`adapter_for(storage)` gives a database the adapter for its storage.  The
adapter makes the views: `new_instance` for a connection, `before_instance` for
a connection to a past state, `undo_instance` for undoing.

perdure's own storages bring their views along.  The adapters here work with every
other storage that provides `IStorage` (`MVCCAdapter`) or `IMVCCStorage`
(`InstanceAdapter`).  Where a storage of stock ZODB raises
stock's errors, they come out of a view as perdure's.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from zope.interface import alsoProvides, implementer

from perdure._coexist import adopt, adopting, stock_errors
from perdure.errors import (
    ConnectionStateError,
    POSKeyError,
    ReadConflictError,
    ReadOnlyError,
)
from perdure.ids import Oid, Tid, oid_repr, readable_tid_repr
from perdure.interfaces import (
    IBlobStorage,
    IMVCCAfterCompletionStorage,
    IMVCCPrefetchStorage,
    IMVCCStorage,
)
from perdure.invalidations import InvalidationLog
from perdure.serialize import referencesf
from perdure.storage.engine import EngineStorage
from perdure.storage.view import EngineAdapter
from perdure.utils import at2before, before2at

__all__ = ["HistoricalView", "InstanceAdapter", "MVCCAdapter", "MVCCView", "adapter_for"]


def adapter_for(storage: Any) -> Any:
    """Return what makes the views of *storage*."""
    if isinstance(storage, EngineStorage) and storage.is_plain():
        return EngineAdapter(storage)
    if IMVCCStorage.providedBy(storage):
        return InstanceAdapter(storage)
    return MVCCAdapter(storage)


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


class _StorageFace:
    """The part of a storage's face that is the same at every snapshot."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        if IBlobStorage.providedBy(storage):
            alsoProvides(self, IBlobStorage)

    def __len__(self) -> int:
        return len(self._storage)

    def __bool__(self) -> bool:
        return True

    def getName(self) -> str:
        """Return the storage's name."""
        name: str = self._storage.getName()
        return name

    def getSize(self) -> int:
        """Return the storage's approximate size in bytes."""
        size: int = self._storage.getSize()
        return size

    def sortKey(self) -> str:
        """Return the storage's place among the resources of a transaction."""
        key: str = self._storage.sortKey()
        return key

    def isReadOnly(self) -> bool:
        """Tell whether nothing can be committed."""
        return bool(self._storage.isReadOnly())

    def lastTransaction(self) -> Tid:
        """Return the newest tid in the storage."""
        tid: Tid = self._storage.lastTransaction()
        return tid

    @adopting
    def history(self, oid: Oid, size: int = 1) -> Any:
        """Return descriptions of the newest revisions of an object."""
        # By keyword: there are storages with a version in between.
        return self._storage.history(oid, size=size)

    @adopting
    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last record before *tid*."""
        found: tuple[bytes, Tid, Tid | None] | None = self._storage.loadBefore(oid, tid)
        return found

    @adopting
    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return the data that one transaction wrote."""
        data: bytes = self._storage.loadSerial(oid, serial)
        return data

    def supportsUndo(self) -> bool:
        """Tell whether the storage can undo."""
        supports = getattr(self._storage, "supportsUndo", None)
        return bool(supports and supports())

    @adopting
    def undoLog(self, *args: Any, **kwargs: Any) -> Any:
        """Return descriptions of what can be undone."""
        return self._storage.undoLog(*args, **kwargs)

    @adopting
    def undoInfo(self, *args: Any, **kwargs: Any) -> Any:
        """Return descriptions of what can be undone."""
        return self._storage.undoInfo(*args, **kwargs)

    @adopting
    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's data."""
        path: str = self._storage.loadBlob(oid, serial)
        return path

    @adopting
    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as an open file."""
        return self._storage.openCommittedBlobFile(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for blobs that aren't committed yet."""
        path: str = self._storage.temporaryDirectory()
        return path

    def afterCompletion(self) -> None:
        """Take note that a transaction has ended."""


class MVCCAdapter(_StorageFace):
    """Makes views of a storage that keeps no snapshots itself."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        self.log = InvalidationLog()
        # Storages may lack what stock's own adapter doesn't insist on, either.
        self.sync_storage: Callable[[], object] = getattr(storage, "sync", _nothing)
        self.prefetch_storage: Callable[..., object] = getattr(storage, "prefetch", _nothing)
        getattr(storage, "registerDB", _nothing)(self)

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
class MVCCView(_StorageFace):
    """A storage at the snapshot of one connection."""

    def __init__(self, adapter: MVCCAdapter, storage: Any) -> None:
        super().__init__(storage)
        self._adapter = adapter
        self._log = adapter.log
        self._position = self._log.end
        self._at: Tid | None = None
        self._before: Tid | None = None
        self._modified: set[Oid] = set()
        self._resolved: set[Oid] = set()

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
            self._before = at2before(newest)
        return changed

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* at the snapshot.

        Raises POSKeyError if there is no such object, ReadConflictError if there
        is one, but not at the snapshot.
        """
        if self._before is None:
            raise ConnectionStateError(
                f"can't load {oid_repr(oid)}: no transaction has begun; "
                "call begin() on the transaction manager first"
            )
        try:
            found = self._storage.loadBefore(oid, self._before)
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
        return data, serial

    def prefetch(self, oids: Iterable[Oid]) -> None:
        """Have the storage begin to fetch records."""
        self._adapter.prefetch_storage(oids, self._before)

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
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = _nothing) -> Tid:
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


class UndoView(_StorageFace):
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
    def undo(self, transaction_id: bytes, transaction: Any) -> Any:
        """Undo a transaction, or raise UndoError."""
        result = self._storage.undo(transaction_id, transaction)
        if result:
            self._undone.update(result[1])
        return result

    @adopting
    def tpc_vote(self, transaction: Any) -> None:
        """Get ready to finish."""
        self._undone.update(self._storage.tpc_vote(transaction) or ())

    @adopting
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = _nothing) -> Any:
        """Make it permanent and tell the views."""

        def announce(tid: Tid) -> None:
            self._log.append(tid, self._undone)
            func(tid)

        return self._storage.tpc_finish(transaction, announce)

    @adopting
    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was undone."""
        self._storage.tpc_abort(transaction)


def _read_only(_self: Any, *_args: Any, **_kwargs: Any) -> Any:
    """Raise ReadOnlyError: this is a view of a past state."""
    raise ReadOnlyError("a past state can't be changed")


class HistoricalView(_StorageFace):
    """A storage as it was before a tid."""

    def __init__(self, storage: Any, before: Tid) -> None:
        super().__init__(storage)
        self._before = before

    def isReadOnly(self) -> bool:
        """Return True."""
        return True

    def supportsUndo(self) -> bool:
        """Return False."""
        return False

    def release(self) -> None:
        """Give back what the view holds."""
        if IMVCCStorage.providedBy(self._storage):
            self._storage.release()

    close = release

    def sync(self, force: bool = True) -> None:
        """Do nothing: the past doesn't change."""

    def poll_invalidations(self) -> list[Oid]:
        """Return an empty list: the past doesn't change."""
        return []

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* as it was, or raise POSKeyError."""
        found = self.loadBefore(oid, self._before)
        if found is None:
            raise POSKeyError(oid, tid=before2at(self._before))
        return found[0], found[1]

    new_oid = store = storeBlob = pack = undo = deleteObject = _read_only
    tpc_begin = tpc_vote = tpc_finish = _read_only

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: nothing can have been stored."""


class InstanceAdapter(_StorageFace):
    """Makes views of a storage that keeps snapshots itself."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        # Guards the storage's own snapshot, which serves for looking at what is newest.
        self._lock = threading.Lock()

    @contextmanager
    def _newest(self) -> Iterator[None]:
        """Have the storage itself, which no connection uses, look at the newest state."""
        with self._lock:
            self._storage.sync(True)
            self._storage.poll_invalidations()
            yield
            if IMVCCAfterCompletionStorage.providedBy(self._storage):
                self._storage.afterCompletion()

    def lastTransaction(self) -> Tid:
        """Return the newest tid in the storage."""
        with self._newest():
            return super().lastTransaction()

    def history(self, oid: Oid, size: int = 1) -> Any:
        """Return descriptions of the newest revisions of an object."""
        with self._newest():
            return super().history(oid, size)

    def new_instance(self) -> "InstanceView":
        """Return a view for a connection."""
        return InstanceView(self._storage.new_instance())

    undo_instance = new_instance

    def before_instance(self, before: Tid) -> Any:
        """Return a view of the state before the given tid."""
        return HistoricalView(self._storage.new_instance(), before)

    def pack(self, pack_time: float, referencesf: Callable[..., Any]) -> Any:
        """Pack the storage."""
        return self._storage.pack(pack_time, referencesf)

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()

    def invalidateCache(self) -> None:
        """Do nothing: the views find out by themselves."""


@implementer(IMVCCStorage)
class InstanceView(_StorageFace):
    """An instance of a storage that keeps snapshots itself."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        if IMVCCAfterCompletionStorage.providedBy(storage):
            self.afterCompletion = storage.afterCompletion  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        """Return what only this storage has (its users reach it through the connection)."""
        return getattr(self.__dict__["_storage"], name)

    def new_instance(self) -> "InstanceView":
        """Return another view."""
        return InstanceView(self._storage.new_instance())

    def release(self) -> None:
        """Give back what the instance holds."""
        self._storage.release()

    close = release

    @adopting
    def sync(self, force: bool = True) -> None:
        """Find out what the newest state is."""
        self._storage.sync(force)

    @adopting
    def poll_invalidations(self) -> list[Oid] | None:
        """Move the snapshot to the newest state; return what others changed since."""
        changed = self._storage.poll_invalidations()
        return None if changed is None else list(changed)

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* at the snapshot, or raise POSKeyError."""
        try:
            found = self._storage.load(oid)
        except stock_errors() as error:
            adopt(error)
            raise
        return found[0], found[1]

    @adopting
    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        oid: Oid = self._storage.new_oid()
        return oid

    @adopting
    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        self._storage.tpc_begin(transaction)

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> Any:
        """Store a record."""
        try:
            return self._storage.store(oid, serial, data, version, transaction)
        except stock_errors() as error:
            adopt(error)
            raise

    @adopting
    def storeBlob(
        self, oid: Oid, serial: Tid, data: bytes, path: str, version: str, transaction: Any
    ) -> Any:
        """Store a record with a blob's data."""
        return self._storage.storeBlob(oid, serial, data, path, version, transaction)

    @adopting
    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have the commit fail unless *serial* is current."""
        self._storage.checkCurrentSerialInTransaction(oid, serial, transaction)

    @adopting
    def undo(self, transaction_id: bytes, transaction: Any) -> Any:
        """Undo a transaction, or raise UndoError."""
        return self._storage.undo(transaction_id, transaction)

    @adopting
    def tpc_vote(self, transaction: Any) -> Iterable[Oid]:
        """Get ready to finish; return the oids whose conflicts were resolved."""
        return self._storage.tpc_vote(transaction) or ()

    @adopting
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = _nothing) -> Tid:
        """Make it permanent; return the tid."""
        finished: list[Tid] = []

        def note(tid: Tid) -> None:
            finished.append(tid)
            func(tid)

        returned = self._storage.tpc_finish(transaction, note)
        return returned if isinstance(returned, bytes) else finished[0]  # type: ignore[return-value]

    @adopting
    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored."""
        self._storage.tpc_abort(transaction)
