"""What connections read and commit through where the storage is perdure's own."""

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any

from zope.interface import alsoProvides, implementer

from perdure import _native
from perdure.errors import ReadOnlyError, StorageTransactionError
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage, IMVCCStorage
from perdure.serialize import referencesf
from perdure.storage._running import Judge
from perdure.storage.engine import EngineStorage
from perdure.utils import before2at

if TYPE_CHECKING:
    from perdure.storage.joint import JointCommit

__all__ = ["EngineAdapter", "EngineFace", "EngineView", "read_only"]


class EngineFace:
    """The part of a storage's face that is the same at every snapshot."""

    _storage: Any
    """What is shown: a storage of perdure's own, or the highest of the layers over it."""
    engine: EngineStorage
    """The storage of perdure's own."""

    def __len__(self) -> int:
        return len(self._storage)

    def __bool__(self) -> bool:
        return True

    def getName(self) -> str:
        """Return the storage's name."""
        name: str = self._storage.getName()
        return name

    def getSize(self) -> int:
        """Return the storage's size in bytes."""
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

    def history(self, oid: Oid, size: int = 1) -> Any:
        """Return descriptions of the newest revisions of an object."""
        return self._storage.history(oid, size)

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last revision before *tid*."""
        found: tuple[bytes, Tid, Tid | None] | None = self._storage.loadBefore(oid, tid)
        return found

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return the data of one revision."""
        data: bytes = self._storage.loadSerial(oid, serial)
        return data

    def supportsUndo(self) -> bool:
        """Tell whether transactions can be undone."""
        return bool(self._storage.supportsUndo())

    def undoLog(self, *args: Any, **kwargs: Any) -> Any:
        """Return descriptions of transactions that can be undone."""
        return self._storage.undoLog(*args, **kwargs)

    def undoInfo(self, *args: Any, **kwargs: Any) -> Any:
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
        path: str = self._storage.loadBlob(oid, serial)
        return path

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        return self._storage.openCommittedBlobFile(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        path: str = self._storage.temporaryDirectory()
        return path


class EngineAdapter(EngineFace):
    """Makes the views of a storage of perdure's own, or of layers over one.

    It is what the storage may call: `IStorageWrapper`.
    """

    def __init__(self, storage: Any, engine: EngineStorage) -> None:
        self._storage = storage
        self.engine = engine
        self.resets = 0
        """How often everything cached had to be forgotten."""
        storage.registerDB(self)

    def new_instance(self) -> "EngineView":
        """Return a view for a connection."""
        return EngineView(self.engine._native, None, self)

    def before_instance(self, before: Tid) -> "EngineView":
        """Return a view of the state before the given tid."""
        return HistoricalEngineView(self.engine._native, before2at(before), self)

    undo_instance = new_instance

    def invalidateCache(self) -> None:
        """Have all connections forget what they have cached."""
        self.resets += 1

    def invalidate(self, transaction_id: Tid, oids: Iterable[Oid]) -> None:
        """Have all connections forget what they have cached: others wrote to the storage."""
        self.resets += 1

    def references(self, record: bytes, oids: list[Oid] | None = None) -> list[Oid]:
        """Return the oids that a record refers to."""
        return referencesf(record, oids)

    def transform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data

    def untransform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()


@implementer(IMVCCStorage)
class EngineView(_native.StorageView, EngineFace):
    """A storage of perdure's own at the snapshot of one connection.

    `load`, `new_oid`, `store`, `checkCurrentSerialInTransaction`, `sync` and `afterCompletion`
    are native.
    """

    def __init__(self, native: _native.Storage, snapshot: Tid | None, adapter: Any) -> None:
        self._adapter = adapter
        self._storage, self.engine = adapter._storage, adapter.engine
        self._transaction: Any = None
        self._joint: JointCommit | None = None
        if IBlobStorage.providedBy(self._storage):
            alsoProvides(self, IBlobStorage)
        self._resets_seen = adapter.resets
        self.judge: Judge | None = None
        """Has the last word at each vote, under the commit lock."""
        if type(self.engine).new_oid is not EngineStorage.new_oid:
            vars(self)["new_oid"] = self.engine.new_oid

    def new_instance(self) -> "EngineView":
        """Return another view."""
        made: EngineView = self._adapter.new_instance()
        return made

    def release(self) -> None:
        """Give back what the view holds."""
        self.tpc_abort(self._transaction)

    close = release

    def poll_invalidations(self, at: Tid | None = None, known: Any = None) -> list[Oid] | None:
        """Move the snapshot to the newest state; return what others changed since.

        With *at*, move to that transaction, forth or back.  With *known*, a connection, leave
        out what it has as ghosts only.  None stands for everything.
        """
        changed = self.advance(at) if known is None else known._advance(self, at)
        if self._resets_seen == self._adapter.resets:
            return changed
        self._resets_seen = self._adapter.resets
        return None

    # Committing: the same steps as the storage's own, without its bookkeeping.

    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        # An interrupt may have come when the last one was permanent.
        if self._transaction is not None and self.committed is None:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        if self._storage.isReadOnly():
            raise ReadOnlyError(f"{self._storage.getName()} is read-only")
        self._begin(transaction)
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
        return None, self.engine._undo_draft(self._draft(transaction), transaction_id, oids)

    def finishes_with_vote(self) -> bool:
        """Tell whether the vote may do what `tpc_finish` does, or somebody replaced either."""
        if type(self) is not EngineView:
            return False
        own = vars(self)
        return "tpc_vote" not in own and "tpc_finish" not in own

    def tpc_vote(self, transaction: Any, *, alone: bool = False) -> Iterable[Oid]:
        """Get ready to finish; return the oids whose conflicts were resolved.

        *alone*: nobody else has a say, so it may be finished as well.  Then `committed` is its
        tid, and the transaction is over.
        """
        draft = self._draft(transaction)
        if self._joint is not None:
            if not (self._joint.is_of_one() and len(draft)):
                return self._joint.vote(self)
            # Nothing but a transaction of one database, as most are.
            self._joint = None
        blobs = self.engine.blobs
        at_once = alone and len(draft) and (blobs is None or not blobs.has_staged(draft))
        vote = self.commit if at_once else None
        resolved, tid = self.engine._vote_draft(draft, self.judge, vote)
        if self.committed == tid:
            self._transaction = None
        return resolved

    # What a joint commit asks for, when it is the view's turn.

    def whole_draft(self, transaction: Any) -> _native.Draft:
        """Return the draft with all that was stored in it; nothing more can be stored then."""
        return self._draft(transaction)

    def new_data(self, number: int) -> bytes | None:
        """Return a record of the transaction that is being stored, by its number."""
        return self._own_draft().data(number)

    def drafted(self) -> _native.Draft:
        """Return the draft with all that was stored in it; nothing more can be stored then."""
        return self._own_draft()

    def is_indifferent(self) -> bool:
        """Tell whether any tid will do, and the vote where nothing is in the way."""
        return self.judge is None or self.judge.is_content()

    def lock_draft(self) -> tuple[_native.Draft, list[Oid]]:
        """Wait for the turn; return the draft, and the oids whose conflicts were resolved.

        The judge is not asked: that is for when all have their turn.
        """
        draft = self._own_draft()
        return draft, self.engine._lock_draft(draft)

    def tie_draft(self, tid: Tid) -> None:
        """Put the records as they are kept in *tid*: they are already."""

    def voted(self, resolved: list[Oid], tid: Tid | None, finish: Callable[[], Tid]) -> None:
        """Put the files of blobs that were stored where they belong; *tid* was written."""
        if tid is not None and self.engine.blobs is not None:
            self.engine.blobs.place(self._own_draft(), tid)

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] | None = None) -> Tid:
        """Make it permanent; return the tid."""
        draft = self._draft(transaction)
        joint, self._joint, self._transaction = self._joint, None, None
        blobs = self.engine.blobs
        try:
            tid = self.finish(func) if joint is None else self._finish_joint(joint, func)
        except BaseException:
            if blobs is not None:
                blobs.given_up(draft, draft.may_be_committed())
            raise
        if blobs is not None:
            blobs.finished(draft)
        return tid

    def _finish_joint(self, joint: "JointCommit", func: Callable[[Tid], object] | None) -> Tid:
        tid = joint.finish()
        self.detach()
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
                if self.engine.blobs is not None:
                    self.engine.blobs.given_up(draft, draft.may_be_committed())

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
        blobs = self.engine.require_blobs()
        self.store(oid, oldserial, data, version, transaction)
        blobs.stage(self._draft(transaction), oid, blobfilename)


def read_only(*_args: Any, **_kwargs: Any) -> Any:
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

    new_oid = store = pack = deleteObject = tpc_begin = tpc_vote = tpc_finish = read_only
