"""Views of storages that keep snapshots themselves (`IMVCCStorage`)."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer

from perdure._coexist import adopt, adopting, stock_errors
from perdure.ids import Oid, Tid
from perdure.interfaces import (
    IMVCCAfterCompletionStorage,
    IMVCCPrefetchStorage,
    IMVCCStorage,
)
from perdure.mvcc.face import StorageFace, nothing
from perdure.mvcc.historical import HistoricalView
from perdure.mvcc.readahead import ReadAhead

__all__ = ["InstanceAdapter", "InstanceView"]


class InstanceAdapter(StorageFace):
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


@implementer(IMVCCStorage, IMVCCPrefetchStorage)
class InstanceView(StorageFace):
    """An instance of a storage that keeps snapshots itself."""

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        # RelStorage has it without saying so.
        self._prefetch: Callable[..., object] = getattr(storage, "prefetch", nothing)
        self._ahead = None if self._prefetch is nothing else ReadAhead(self._prefetch)
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
        if self._ahead is not None and (changed is None or changed):
            self._ahead.forget()
        return None if changed is None else list(changed)

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* at the snapshot, or raise POSKeyError."""
        try:
            found = self._storage.load(oid)
        except stock_errors() as error:
            adopt(error)
            raise
        if self._ahead is not None:
            self._ahead.loaded(oid, found[0])
        return found[0], found[1]

    def prefetch(self, oids: Iterable[Oid]) -> None:
        """Have the storage begin to fetch records, if it can."""
        self._prefetch(oids)

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
    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = nothing) -> Tid:
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
