"""What connections read and commit through where the storage is perdure's own."""

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any

from zope.interface import alsoProvides, implementer

from perdure import _native
from perdure.errors import ReadOnlyError, StorageTransactionError
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage, IMVCCStorage
from perdure.storage.engine import EngineStorage, Judge
from perdure.utils import before2at

if TYPE_CHECKING:
    from perdure.storage.joint import JointCommit

__all__ = ["EngineAdapter", "EngineView"]


class _EngineFace:
    """The part of a storage's face that is the same at every snapshot."""

    _storage: EngineStorage

    def __len__(self) -> int:
        return len(self._storage)

    def __bool__(self) -> bool:
        return True

    def getName(self) -> str:
        """Return the storage's name."""
        return self._storage.getName()

    def getSize(self) -> int:
        """Return the storage's size in bytes."""
        return self._storage.getSize()

    def sortKey(self) -> str:
        """Return the storage's place among the resources of a transaction."""
        return self._storage.sortKey()

    def isReadOnly(self) -> bool:
        """Tell whether nothing can be committed."""
        return self._storage.isReadOnly()

    def lastTransaction(self) -> Tid:
        """Return the newest tid in the storage."""
        return self._storage.lastTransaction()

    def history(self, oid: Oid, size: int = 1) -> list[dict[str, Any]]:
        """Return descriptions of the newest revisions of an object."""
        return self._storage.history(oid, size)

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last revision before *tid*."""
        return self._storage.loadBefore(oid, tid)

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return the data of one revision."""
        return self._storage.loadSerial(oid, serial)

    def supportsUndo(self) -> bool:
        """Tell whether transactions can be undone."""
        return self._storage.supportsUndo()

    def undoLog(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Return descriptions of transactions that can be undone."""
        return self._storage.undoLog(*args, **kwargs)

    def undoInfo(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Return descriptions of transactions that can be undone."""
        return self._storage.undoInfo(*args, **kwargs)

    def undo_plan(self, transaction_id: bytes, oids: Container[Oid] | None = None) -> Any:
        """Say what undoing a transaction would do."""
        return self._storage.undo_plan(transaction_id, oids)

    def pack(self, pack_time: float, referencesf: Callable[..., Any]) -> Any:
        """Pack the storage."""
        return self._storage.pack(pack_time, referencesf)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        return self._storage.loadBlob(oid, serial)

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        return self._storage.openCommittedBlobFile(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        return self._storage.temporaryDirectory()


class EngineAdapter(_EngineFace):
    """Makes the views of a storage of perdure's own."""

    def __init__(self, storage: EngineStorage) -> None:
        self._storage = storage
        self.resets = 0
        """How often everything cached had to be forgotten."""

    def new_instance(self) -> "EngineView":
        """Return a view for a connection."""
        return EngineView(self._storage._native, None, self)

    def before_instance(self, before: Tid) -> "HistoricalEngineView":
        """Return a view of the state before the given tid."""
        return HistoricalEngineView(self._storage._native, before2at(before), self)

    undo_instance = new_instance

    def invalidateCache(self) -> None:
        """Have all connections forget what they have cached."""
        self.resets += 1

    def invalidate(self, transaction_id: Tid, oids: Iterable[Oid]) -> None:
        """Have all connections forget what they have cached: others wrote to the storage."""
        self.resets += 1

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()


@implementer(IMVCCStorage)
class EngineView(_native.StorageView, _EngineFace):
    """A storage of perdure's own at the snapshot of one connection.

    `load`, `new_oid`, `store` and `checkCurrentSerialInTransaction` are native.
    """

    def __init__(
        self, native: _native.Storage, snapshot: Tid | None, adapter: EngineAdapter
    ) -> None:
        self._adapter = adapter
        self._storage = adapter._storage
        self._transaction: Any = None
        self._joint: JointCommit | None = None
        if adapter._storage.blobs is not None:
            alsoProvides(self, IBlobStorage)
        self._resets_seen = adapter.resets
        self.judge: Judge | None = None
        """Has the last word at each vote, under the commit lock."""
        if type(self._storage).new_oid is not EngineStorage.new_oid:
            vars(self)["new_oid"] = self._storage.new_oid

    def new_instance(self) -> "EngineView":
        """Return another view."""
        return self._adapter.new_instance()

    def release(self) -> None:
        """Give back what the view holds."""
        self.tpc_abort(self._transaction)

    close = release

    def sync(self, force: bool = True) -> None:
        """Do nothing: the newest state is always known."""

    def afterCompletion(self) -> None:
        """Take note that a transaction has ended."""

    def poll_invalidations(self, at: Tid | None = None) -> list[Oid] | None:
        """Move the snapshot to the newest state; return what others changed since.

        With *at*, move to that transaction, forth or back.  None stands for everything.
        """
        changed = self.advance(at)
        if self._resets_seen == self._adapter.resets:
            return changed
        self._resets_seen = self._adapter.resets
        return None

    # Committing: the same steps as the storage's own, without its bookkeeping.

    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        if self._transaction is not None:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        if self._storage.isReadOnly():
            raise ReadOnlyError(f"{self._storage.getName()} is read-only")
        self.attach(self._storage._begin_draft(transaction, None, " "))
        self._transaction = transaction

    def _own_draft(self) -> _native.Draft:
        return self._draft(self._transaction)

    def _draft(self, transaction: Any) -> _native.Draft:
        draft = self.draft
        if draft is None or transaction is not self._transaction:
            raise StorageTransactionError(self._storage, transaction)
        return draft

    def deleteObject(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist."""
        self._draft(transaction).delete(oid, serial)

    def undo(
        self, transaction_id: bytes, transaction: Any, oids: Container[Oid] | None = None
    ) -> tuple[Tid | None, list[Oid]]:
        """Undo a transaction, or raise UndoError; return (None, changed oids)."""
        return None, self._storage._undo_draft(self._draft(transaction), transaction_id, oids)

    def tpc_vote(self, transaction: Any) -> Iterable[Oid]:
        """Get ready to finish; return the oids whose conflicts were resolved."""
        draft = self._draft(transaction)
        if self._joint is not None:
            return self._joint.vote(self)
        resolved, _tid = self._storage._vote_draft(draft, self.judge)
        return resolved

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] | None = None) -> Tid:
        """Make it permanent; return the tid."""
        draft = self._draft(transaction)
        joint, self._joint, self._transaction = self._joint, None, None
        try:
            return self.finish(func) if joint is None else self._finish_joint(joint, draft, func)
        finally:
            if self._storage.blobs is not None:
                self._storage.blobs.finished(draft)

    def _finish_joint(
        self, joint: "JointCommit", draft: _native.Draft, func: Callable[[Tid], object] | None
    ) -> Tid:
        tid = joint.finish()
        self.detach()
        draft.abort()  # frees the lock where nothing was written
        if func is not None:
            func(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored; ignored where it is another transaction."""
        if transaction is not None and transaction is self._transaction:
            self._transaction = self._joint = None
            draft = self.detach()
            if draft is not None:
                draft.abort()
                if self._storage.blobs is not None:
                    self._storage.blobs.aborted(draft)

    # Blobs, where the storage keeps them.

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> None:
        """Store a record and take over the blob's file."""
        blobs = self._storage.require_blobs()
        self.store(oid, oldserial, data, version, transaction)
        blobs.stage(self._draft(transaction), oid, blobfilename)

    def place_blobs(self, tid: Tid) -> None:
        """Put the files of blobs that were stored where they belong; *tid* was written."""
        if self._storage.blobs is not None:
            self._storage.blobs.place(self._own_draft(), tid)


def _read_only(*_args: Any, **_kwargs: Any) -> Any:
    """Raise ReadOnlyError: this is a view of a past state."""
    raise ReadOnlyError("a past state can't be changed")


class HistoricalEngineView(EngineView):
    """A storage of perdure's own as it was at a transaction."""

    def isReadOnly(self) -> bool:
        """Return True."""
        return True

    def supportsUndo(self) -> bool:
        """Return False."""
        return False

    new_oid = store = pack = deleteObject = tpc_begin = tpc_vote = tpc_finish = _read_only
