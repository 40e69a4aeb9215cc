"""What connections read and commit through where layers stand on a storage of perdure's own.

Snapshots, invalidations and conflicts are the storage's; the layers read and write.  So a
database under a layer takes part in joint commits as one without.
"""

from collections.abc import Callable, Iterable
from typing import Any

from perdure import _native
from perdure.errors import StorageTransactionError
from perdure.ids import NO_TID, Oid, Tid
from perdure.storage._deferring import hand_down
from perdure.storage._layers import transforming_layers
from perdure.storage.view import EngineAdapter, EngineView, read_only
from perdure.utils import before2at

__all__ = ["LayeredAdapter", "LayeredView"]


class LayeredAdapter(EngineAdapter):
    """Makes the views of a layer, which stands on the engine's storage with all others."""

    def new_instance(self) -> "LayeredView":
        """Return a view for a connection."""
        return LayeredView(self.engine._native, None, self)

    def before_instance(self, before: Tid) -> "HistoricalLayeredView":
        """Return a view of the state before the given tid."""
        return HistoricalLayeredView(self.engine._native, before2at(before), self)

    undo_instance = new_instance

    def invalidate(self, transaction_id: Tid, oids: Iterable[Oid]) -> None:
        """Do nothing: the views find out by themselves."""


class LayeredView(EngineView):
    """Layers over a storage of perdure's own, at the snapshot of one connection."""

    def __init__(
        self, native: _native.Storage, snapshot: Tid | None, adapter: LayeredAdapter
    ) -> None:
        super().__init__(native, snapshot, adapter)
        self._layers = transforming_layers(adapter._storage)

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, Tid]:
        """Return data and serial of *oid* at the snapshot, or raise POSKeyError."""
        data, serial = super().load(oid)
        for layer in self._layers:
            data = layer.decode_for(data, Oid(oid), serial)
        return data, serial

    # Committing: the layers are told everything, and tell the storage.

    def _begin(self, transaction: Any) -> None:
        self._storage.tpc_begin(transaction)
        if any(layer.ties for layer in self._layers[:1]):
            self.expect_draft()
        else:
            self._attach_draft(transaction)

    def _attach_draft(self, transaction: Any) -> None:
        running = self.engine._running_for(transaction)
        running.judge = self.judge
        self.attach(running.draft)

    def _require(self, transaction: Any) -> Any:
        if transaction is None or transaction is not self._transaction:
            raise StorageTransactionError(self._storage, transaction)
        return transaction

    def _own_draft(self) -> _native.Draft:
        return self.engine._running_for(self._require(self._transaction)).draft

    def store(
        self,
        oid: bytes,
        serial: bytes | None,
        data: bytes,
        version: str = "",
        transaction: Any = None,
    ) -> None:
        """Store a record."""
        self._storage.store(oid, serial or NO_TID, data, version, self._require(transaction))

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
        self._require(transaction)
        self._storage.storeBlob(oid, oldserial or NO_TID, data, blobfilename, version, transaction)

    def deleteObject(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist."""
        self._storage.deleteObject(oid, serial, self._require(transaction))

    def checkCurrentSerialInTransaction(
        self, oid: bytes, serial: bytes, transaction: Any = None
    ) -> None:
        """Have the commit fail unless *serial* is current."""
        self._storage.checkCurrentSerialInTransaction(oid, serial, self._require(transaction))

    def undo(self, transaction_id: bytes, transaction: Any, *args: Any) -> Any:
        """Undo a transaction, or raise UndoError; return (None, changed oids)."""
        return self._storage.undo(transaction_id, self._require(transaction), *args)

    def tpc_vote(self, transaction: Any, *, alone: bool = False) -> Iterable[Oid]:
        """Get ready to finish; return the oids whose conflicts were resolved.

        *alone* changes nothing: the layers are told of both steps.
        """
        draft = self.whole_draft(transaction)
        if self._joint is not None and self._joint.is_of_one() and len(draft):
            # Nothing but a transaction of one database, as most are.
            self._joint = None
        if self._joint is not None:
            self._joint.vote(self)
        resolved: Iterable[Oid] = self._storage.tpc_vote(transaction) or ()
        return resolved

    def new_data(self, number: int) -> bytes | None:
        """Return a record of the transaction that is being stored, by its number."""
        data = super().new_data(number)
        if data is None:
            return None
        for layer in self._layers:
            data = layer.decode_new(data)
        return data

    def whole_draft(self, transaction: Any) -> _native.Draft:
        """Return the draft with all that was stored in it; nothing more can be stored then."""
        self._require(transaction)
        if self.draft is None:
            hand_down(self._storage, transaction)
            self._attach_draft(transaction)
        return self._own_draft()

    def drafted(self) -> _native.Draft:
        """Return the draft with all that was stored in it; nothing more can be stored then."""
        return self.whole_draft(self._transaction)

    def is_indifferent(self) -> bool:
        """Tell whether any tid will do, and the vote where nothing is in the way."""
        running = self.engine._running_for(self._transaction)
        return running.tie is None and super().is_indifferent()

    def tie_draft(self, tid: Tid) -> None:
        """Put the records as they are kept in *tid*."""
        self.engine._running_for(self._transaction).tie_to(tid)

    def voted(self, resolved: list[Oid], tid: Tid | None, finish: Callable[[], Tid]) -> None:
        """Have the storage below know that *tid* was written, together with others."""
        running = self.engine._running_for(self._transaction)
        running.resolved, running.finish = resolved, finish
        if tid is not None:
            self.engine._voted(running, tid)
        else:
            running.voted = True

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] | None = None) -> Tid:
        """Make it permanent; return the tid."""
        self._require(transaction)
        joint, self._joint, self._transaction = self._joint, None, None
        self.detach()
        args = () if func is None else (func,)
        tid: Tid = self._storage.tpc_finish(transaction, *args)
        if joint is None:
            self.note_own(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored; ignored where it is another transaction."""
        if transaction is not None and transaction is self._transaction:
            self._transaction = self._joint = None
            self.detach()
            self._storage.tpc_abort(transaction)


class HistoricalLayeredView(LayeredView):
    """Layers over a storage of perdure's own as it was at a transaction."""

    def isReadOnly(self) -> bool:
        """Return True."""
        return True

    def supportsUndo(self) -> bool:
        """Return False."""
        return False

    new_oid = store = pack = deleteObject = tpc_begin = tpc_vote = tpc_finish = read_only
