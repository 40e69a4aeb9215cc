"""The base of layers that keep records in another form than they are given."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

from perdure.blob import copyTransactionsFromTo, may_be_committed, voted_tid
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage, IMVCCStorage, IStorageWrapper
from perdure.storage._running import Tie
from perdure.storage.base import copy as copy_transactions
from perdure.storage.undo import UndoStep, class_name_of

__all__ = ["RecordTransform", "TransformedTransactions", "TransformingStorage", "Unchanged"]

References = Callable[..., Any]


class RecordTransform:
    """How a layer keeps a record's data; no method changes empty data.

    `encode` and `decode` are for a layer to which it doesn't matter whose record it is.
    One to which it does has the two with a record's place beside its data.
    """

    def encode(self, data: bytes) -> bytes:
        """Return *data* as it is kept."""
        raise NotImplementedError

    def decode(self, data: bytes) -> bytes:
        """Return the data that is kept as *data*."""
        raise NotImplementedError

    def encode_for(self, data: bytes, oid: Oid, serial: Tid | None) -> bytes:
        """Return *data*, made from the revision *serial* of *oid*, as it is kept."""
        return self.encode(data)

    def decode_for(self, data: bytes, oid: Oid, serial: Tid) -> bytes:
        """Return the data of the revision *serial* of *oid* that is kept as *data*."""
        return self.decode(data)

    def tie(self, kept: bytes, tid: Tid, above: Tie | None) -> bytes:
        """Return *kept*, of a transaction that gets *tid*, as it is kept in that.

        *above* does the same for the layer above; None: it makes no difference there.
        """
        if above is None:
            return kept
        data = self.decode(kept)
        tied = above(data, tid)
        return kept if tied is data else self.encode(tied)


class Unchanged(RecordTransform):
    """Keeps records as they are."""

    def encode(self, data: bytes) -> bytes:
        """Return *data*."""
        return data

    def decode(self, data: bytes) -> bytes:
        """Return *data*."""
        return data


@implementer(IStorageWrapper)
class TransformingStorage:
    """A storage that keeps its records, as *transform* encodes them, in *base*.

    It provides what *base* provides. Whatever has no record's data in it goes to
    *base* unchanged; the layers above and below meet here as `IStorageWrapper`.

    With *encoded_above* the layer above encodes records itself: they pass through as
    they are, and only what looks into records (packing, conflicts) decodes them here.
    """

    def __init__(
        self, base: Any, transform: RecordTransform, *, encoded_above: bool = False
    ) -> None:
        self.base = base
        self._inside = transform
        self._transform = Unchanged() if encoded_above else transform
        self._above: Any = None
        self._ties = False
        directlyProvides(self, providedBy(base))
        alsoProvides(self, IStorageWrapper)
        if not IMVCCStorage.providedBy(base):
            base.registerDB(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.base, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.base!r}>"

    def __len__(self) -> int:
        return len(self.base)

    def __bool__(self) -> bool:
        return True

    # Loading

    def load(self, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
        """Return the newest record and its serial, or raise POSKeyError."""
        data, serial = self.base.load(oid)
        return self._transform.decode_for(data, oid, serial), serial

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last record before *tid*."""
        found = self.base.loadBefore(oid, tid)
        if found is None:
            return None
        data, serial, end = found
        return self._transform.decode_for(data, oid, serial), serial, end

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return what one transaction wrote, or raise POSKeyError."""
        return self._transform.decode_for(self.base.loadSerial(oid, serial), oid, serial)

    def iterator(
        self, start: Tid | None = None, stop: Tid | None = None
    ) -> "TransformedTransactions":
        """Iterate over the transactions from *start* to *stop*."""
        return TransformedTransactions(self.base.iterator(start, stop), self._decode_record)

    def _decode_record(self, record: Any) -> None:
        if record.data:
            record.data = self._transform.decode_for(record.data, record.oid, record.tid)

    def record_iternext(self, next: Any = None) -> tuple[Oid, Tid, bytes, Any]:  # noqa: A002
        """Return a current record and what to pass for the next one."""
        oid, tid, data, following = self.base.record_iternext(next)
        return oid, tid, self._transform.decode_for(data, oid, tid), following

    # Storing

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> Any:
        """Store a record; *serial* is the revision that it was made from."""
        kept = self._transform.encode_for(data, oid, serial)
        return self.base.store(oid, serial, kept, version, transaction)

    def restore(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes | None,
        version: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> Any:
        """Store a record that was committed elsewhere; None: the object is gone."""
        kept = None if data is None else self._transform.encode_for(data, oid, None)
        return self.base.restore(oid, serial, kept, version, prev_txn, transaction)

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> Any:
        """Store a record and take over the blob's file."""
        kept = self._transform.encode_for(data, oid, oldserial)
        return self.base.storeBlob(oid, oldserial, kept, blobfilename, version, transaction)

    def restoreBlob(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> Any:
        """Store a blob that was committed elsewhere."""
        kept = self._transform.encode_for(data, oid, None)
        return self.base.restoreBlob(oid, serial, kept, blobfilename, prev_txn, transaction)

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of another storage, blobs included, into this one."""
        # The base's own way would take the records over as they are given.
        if IBlobStorage.providedBy(self):
            copyTransactionsFromTo(other, self)
        else:
            copy_transactions(other, self)

    def pack(self, pack_time: float, referencesf: References, *args: Any, **options: Any) -> Any:
        """Pack the base, finding the references in its records for it."""
        if options.get("members"):
            # It is told there how they are to be decoded.
            return self.base.pack(pack_time, referencesf, *args, **options)

        def references(data: bytes, *oids: Any) -> Any:
            return referencesf(self._inside.decode(data), *oids)

        return self.base.pack(pack_time, references, *args, **options)

    def undo_plan(self, transaction_id: bytes, oids: Any = None) -> list[UndoStep]:
        """Say what undoing a transaction would do, where the base can tell (`IPlansUndo`)."""
        steps: list[UndoStep] = self.base.undo_plan(transaction_id, oids)
        # The base can't read the records.
        return [step._replace(class_name=class_name_of(self, step.oid)) for step in steps]

    # A storage of which each connection has an instance

    def new_instance(self) -> "TransformingStorage":
        """Return this layer over another instance of the base."""
        instance = copy.copy(self)
        instance.base = self.base.new_instance()
        return instance

    # Towards the layer below

    def invalidateCache(self) -> None:
        """Tell the layer above to forget everything that it has cached."""
        if self._above is not None:
            self._above.invalidateCache()

    def invalidate(self, transaction_id: Tid, oids: Iterable[Oid], version: str = "") -> None:
        """Tell the layer above that a transaction changed these objects."""
        if self._above is not None:
            self._above.invalidate(transaction_id, oids)

    def references(self, record: bytes, oids: list[Oid] | None = None) -> Any:
        """Return the oids that a kept record refers to."""
        return self._above.references(self._inside.decode(record), oids)

    def transform_record_data(self, data: bytes) -> bytes:
        """Return an application's record as the layer below is given it."""
        if self._above is not None:
            data = self._above.transform_record_data(data)
        return self._inside.encode(data)

    def untransform_record_data(self, data: bytes) -> bytes:
        """Return a record of the layer below as the application is given it."""
        data = self._inside.decode(data)
        return data if self._above is None else self._above.untransform_record_data(data)

    # Towards the layer above

    @property
    def ties(self) -> bool:
        """Whether records are tied to the tid, by this layer or one above."""
        above = self._above
        return self._ties or (isinstance(above, TransformingStorage) and above.ties)

    def tied(self, kept: bytes, tid: Tid) -> bytes:
        """Return *kept*, of a transaction that gets *tid*, as it is kept in that."""
        above = self._above
        is_tied = isinstance(above, TransformingStorage) and above.ties
        return self._transform.tie(kept, tid, above.tied if is_tied else None)

    def decode_for(self, kept: bytes, oid: Oid, serial: Tid) -> bytes:
        """Return the record that the base has as *kept* as `load` returns it."""
        return self._transform.decode_for(kept, oid, serial)

    def decode_new(self, kept: bytes) -> bytes:
        """Return the record that the base was given as *kept* as this layer was given it."""
        return self._transform.decode(kept)

    def voted_tid(self, transaction: Any) -> Tid:
        """Return the tid of a transaction between vote and finish."""
        return voted_tid(self.base, transaction)

    def may_be_committed(self, transaction: Any) -> bool:
        """Tell whether a running transaction may be permanent, though its finish failed."""
        return may_be_committed(self.base, transaction)

    def registerDB(self, wrapper: Any) -> None:
        """Accept the `IStorageWrapper` above, a database or another layer."""
        self._above = wrapper
        if IMVCCStorage.providedBy(self.base):
            self.base.registerDB(self)


class TransformedTransactions:
    """The transactions of a storage, whose records *transform* changes where they stand."""

    def __init__(self, transactions: Iterator[Any], transform: Callable[[Any], object]) -> None:
        self._transactions = transactions
        self._transform = transform

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> "_Transaction":
        return _Transaction(next(self._transactions), self._transform)

    def close(self) -> None:
        """Give back what the iteration holds."""
        close = getattr(self._transactions, "close", None)
        self._transactions = iter(())
        if close is not None:
            close()


class _Transaction:
    """A transaction of a storage, whose records are changed."""

    def __init__(self, transaction: Any, transform: Callable[[Any], object]) -> None:
        self._transaction = transaction
        self._transform = transform
        directlyProvides(self, providedBy(transaction))

    def __getattr__(self, name: str) -> Any:
        if name in {"_transaction", "_transform"}:
            raise AttributeError(name)
        return getattr(self._transaction, name)

    def __iter__(self) -> Iterator[Any]:
        for record in self._transaction:
            self._transform(record)
            yield record
