"""What storages, databases and connections provide, as `zope.interface` interfaces.

Interfaces are equal when module and name are, and each of these bears the name
under which stock ZODB has it.  So they *are* stock's interfaces wherever one is
looked for: `ZODB.interfaces.IStorage.providedBy(perdure_storage)` holds, and so
does `perdure.interfaces.IStorage.providedBy(stock_storage)`, whichever of the
two packages is loaded.  Declare with `zope.interface.implementer` as usual.
"""
# The methods of an interface have no `self`, which mypy and ruff can't know.
# mypy: disable-error-code="misc,empty-body,override,assignment"
# ruff: noqa: N805, A002

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from zope.interface import Attribute, Interface

from perdure.errors import BlobError, StorageStopIteration
from perdure.ids import Oid, Tid

__all__ = [
    "BlobError",
    "IBlob",
    "IBlobStorage",
    "IBlobStorageRestoreable",
    "IBroken",
    "IConnection",
    "IDatabase",
    "IExternalGC",
    "IMVCCAfterCompletionStorage",
    "IMVCCPrefetchStorage",
    "IMVCCStorage",
    "IMultiCommitStorage",
    "IPrefetchStorage",
    "IStorage",
    "IStorageCurrentRecordIteration",
    "IStorageDB",
    "IStorageIteration",
    "IStorageRecordInformation",
    "IStorageRestoreable",
    "IStorageTransactionInformation",
    "IStorageTransactionMetaData",
    "IStorageUndoable",
    "IStorageWrapper",
    "ReadVerifyingStorage",
    "StorageStopIteration",
]


class IConnection(Interface):
    """One consistent view of a database, with the objects loaded through it."""

    __module__ = "ZODB.interfaces"

    connections = Attribute("The connections of this set, by database name.")

    def add(ob: Any) -> None:
        """Give the new object *ob* an oid; it is stored at the next commit."""

    def get(oid: Oid) -> Any:
        """Return the object with the given oid, or raise POSKeyError."""

    def cacheMinimize() -> None:
        """Make every unchanged object in the cache a ghost."""

    def cacheGC() -> None:
        """Shrink the cache to its target size."""

    def onCloseCallback(f: Callable[[], object]) -> None:
        """Have *f* called by the next `close`."""

    def close() -> None:
        """Give the connection back to its database's pool."""

    def db() -> Any:
        """Return the database."""

    def isReadOnly() -> bool:
        """Tell whether changes can't be committed through this connection."""

    def root() -> Any:
        """Return the object that all others are reached from."""

    def get_connection(database_name: str) -> Any:
        """Return this set's connection to another member, or raise KeyError."""

    def sync() -> None:
        """Abort the transaction and look at the newest state."""

    def getDebugInfo() -> tuple[Any, ...]:
        """Return what `setDebugInfo` was given."""

    def setDebugInfo(*items: Any) -> None:
        """Add items to the debug information."""

    def getTransferCounts(clear: bool = False) -> tuple[int, int]:
        """Return how many objects were loaded and stored."""

    def readCurrent(obj: Any) -> None:
        """Make the commit fail if *obj* is changed by others before it."""


class IStorageWrapper(Interface):
    """What a storage calls in the layer above it (a database or another storage)."""

    __module__ = "ZODB.interfaces"

    def invalidateCache() -> None:
        """Forget everything that was cached."""

    def invalidate(transaction_id: Tid, oids: Iterable[Oid]) -> None:
        """Take note that a transaction changed these objects."""

    def references(record: bytes, oids: list[Oid] | None = None) -> list[Oid]:
        """Return the oids that a record refers to, added to *oids* if given."""

    def transform_record_data(data: bytes) -> bytes:
        """Return a record's data as this layer's storage is given it."""

    def untransform_record_data(data: bytes) -> bytes:
        """Undo `transform_record_data`."""


IStorageDB = IStorageWrapper


class IDatabase(IStorageDB):
    """A storage and a pool of connections to it."""

    __module__ = "ZODB.interfaces"

    databases = Attribute("The members of the collection, by name.")
    storage = Attribute("The storage.")

    def open(
        transaction_manager: Any = None,
        at: Tid | datetime | None = None,
        before: Tid | datetime | None = None,
    ) -> Any:
        """Return a connection to the newest or to a past state."""

    def history(oid: Oid, size: int = 1) -> Sequence[Mapping[str, Any]]:
        """Return descriptions of the newest *size* revisions, newest first."""

    def pack(t: float | None = None, days: int = 0) -> None:
        """Drop revisions that were no longer current *days* before the time *t*."""

    def undoLog(
        first: int, last: int, filter: Callable[[Mapping[str, Any]], object] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first."""

    def undoInfo(
        first: int = 0, last: int = -20, specification: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return those descriptions of `undoLog` that have all of *specification*."""

    def undo(id: bytes, txn: Any = None) -> None:
        """Undo a transaction as part of the transaction *txn* (default: the current)."""

    def close() -> None:
        """Close the database and its storage."""


class IStorageTransactionMetaData(Interface):
    """What a storage is told about a transaction."""

    __module__ = "ZODB.interfaces"

    user = Attribute("Who did it, as bytes.")
    description = Attribute("What was done, as bytes.")
    extension = Attribute("Whatever else was noted, as a dictionary.")
    extension_bytes = Attribute("The extension as it is stored.")

    def set_data(ob: Any, data: Any) -> None:
        """Keep *data* for *ob* (a storage) as long as the transaction runs."""

    def data(ob: Any) -> Any:
        """Return what was kept for *ob*, or raise KeyError."""


class IStorage(Interface):
    """A keeper of records.

    Tids that it gives out only ever increase, for each object and overall.
    """

    __module__ = "ZODB.interfaces"

    def close() -> None:
        """Release everything; the storage isn't used any more."""

    def getName() -> str:
        """Return a name to show."""

    def getSize() -> int:
        """Return the approximate size in bytes."""

    def history(oid: Oid, size: int = 1) -> Sequence[Mapping[str, Any]]:
        """Return descriptions of the newest *size* revisions, newest first."""

    def isReadOnly() -> bool:
        """Tell whether nothing can be committed."""

    def lastTransaction() -> Tid:
        """Return the newest tid whose changes were announced; 8 zero bytes if none."""

    def __len__() -> int:
        """Return the approximate number of objects."""

    def loadBefore(oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return the data, serial and next serial of the last record before *tid*.

        None if the object did not exist yet; POSKeyError if it was gone by then, or if
        there is no such object.
        """

    def loadSerial(oid: Oid, serial: Tid) -> bytes:
        """Return the data that one transaction wrote, or raise POSKeyError."""

    def new_oid() -> Oid:
        """Return an oid that isn't used yet."""

    def pack(pack_time: float, referencesf: Callable[..., Any]) -> None:
        """Drop revisions and objects that weren't needed at *pack_time* (seconds)."""

    def registerDB(wrapper: Any) -> None:
        """Accept the `IStorageWrapper` above this storage."""

    def sortKey() -> str:
        """Return the key by which resources of one transaction are ordered."""

    def store(oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Store a record; *serial* is the revision that it was made from.

        Raises ConflictError (or leaves that to `tpc_vote`) if there is a newer.
        """

    def tpc_abort(transaction: Any) -> None:
        """Drop what was stored; ignored if it isn't this storage's transaction."""

    def tpc_begin(transaction: Any) -> None:
        """Begin to commit."""

    def tpc_finish(
        transaction: Any, func: Callable[[Tid], object] = lambda _tid: None
    ) -> Tid | None:
        """Make it permanent, calling *func* with the tid before others see it."""

    def tpc_vote(transaction: Any) -> Iterable[Oid] | None:
        """Last chance to fail; returns the oids whose conflicts were resolved."""


class IPrefetchStorage(IStorage):
    """A storage that can be told what will be loaded."""

    __module__ = "ZODB.interfaces"

    def prefetch(oids: Iterable[Oid], tid: Tid) -> None:
        """Begin to fetch the records of *oids* before *tid*."""


class IMultiCommitStorage(IStorage):
    """A storage whose `tpc_vote` and `tpc_finish` return what they did."""

    __module__ = "ZODB.interfaces"

    def store(oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Store a record; nothing is returned."""

    def tpc_finish(transaction: Any, func: Callable[[Tid], object] = lambda _tid: None) -> Tid:
        """Make it permanent and return its tid."""

    def tpc_vote(transaction: Any) -> Iterable[Oid] | None:
        """Last chance to fail; returns the oids whose conflicts were resolved."""


class IStorageRestoreable(IStorage):
    """A storage that can take over the transactions of another one."""

    __module__ = "ZODB.interfaces"

    def tpc_begin(transaction: Any, tid: Tid | None = None) -> None:
        """Begin to commit, with a given tid."""

    def restore(
        oid: Oid,
        serial: Tid,
        data: bytes | None,
        version: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a record that was already committed elsewhere, without checks."""


class IStorageRecordInformation(Interface):
    """One record met in an iteration."""

    __module__ = "ZODB.interfaces"

    oid = Attribute("The object.")
    tid = Attribute("The transaction.")
    data = Attribute("The data; None if the object was undone out of existence.")
    data_txn = Attribute("The transaction that the data was taken from by undo, or None.")


class IStorageTransactionInformation(IStorageTransactionMetaData):
    """One transaction met in an iteration."""

    __module__ = "ZODB.interfaces"

    tid = Attribute("The transaction's id.")

    def __iter__() -> Iterator[Any]:
        """Iterate over its records."""


class IStorageIteration(Interface):
    """A storage whose transactions can be gone through."""

    __module__ = "ZODB.interfaces"

    def iterator(start: Tid | None = None, stop: Tid | None = None) -> Iterator[Any]:
        """Iterate over the transactions from *start* to *stop*, both included."""


class IStorageUndoable(IStorage):
    """A storage that can undo."""

    __module__ = "ZODB.interfaces"

    def supportsUndo() -> bool:
        """Return True."""

    def undo(transaction_id: bytes, transaction: Any) -> Any:
        """Undo a transaction, or raise UndoError."""

    def undoLog(
        first: int, last: int, filter: Callable[[Mapping[str, Any]], object] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first."""

    def undoInfo(
        first: int = 0, last: int = -20, specification: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return those descriptions of `undoLog` that have all of *specification*."""


class IMVCCStorage(IStorage):
    """A storage of which every connection gets an instance with its own snapshot."""

    __module__ = "ZODB.interfaces"

    def new_instance() -> Any:
        """Return another instance over the same records."""

    def release() -> None:
        """Give back what the instance holds; it isn't used any more."""

    def poll_invalidations() -> Sequence[Oid] | None:
        """Move the snapshot on; return what changed, None if that isn't known."""

    def sync(force: bool = True) -> None:
        """Find out what the newest state is."""

    def load(oid: Oid) -> tuple[bytes, Tid]:
        """Return the data and serial at the snapshot, or raise POSKeyError."""


class IMVCCPrefetchStorage(IMVCCStorage):
    """An instance that can be told what will be loaded."""

    __module__ = "ZODB.interfaces"

    def prefetch(oids: Iterable[Oid]) -> None:
        """Begin to fetch the records of *oids*."""


class IMVCCAfterCompletionStorage(IMVCCStorage):
    """An instance that wants to know when a transaction has ended."""

    __module__ = "ZODB.interfaces"

    def afterCompletion() -> None:
        """Take note that the transaction has ended."""


class IStorageCurrentRecordIteration(IStorage):
    """A storage whose current records can be gone through."""

    __module__ = "ZODB.interfaces"

    def record_iternext(next: Any = None) -> tuple[Oid, Tid, bytes, Any]:
        """Return a record and what to pass for the next one (None after the last)."""


class IExternalGC(IStorage):
    """A storage that lets others collect its garbage."""

    __module__ = "ZODB.interfaces"

    def deleteObject(oid: Oid, serial: Tid, transaction: Any) -> None:
        """Write a revision in which the object doesn't exist."""


class ReadVerifyingStorage(IStorage):
    """A storage that can guarantee that what was read is current."""

    __module__ = "ZODB.interfaces"

    def checkCurrentSerialInTransaction(oid: Oid, serial: Tid, transaction: Any) -> None:
        """Raise ReadConflictError, now or at vote, unless *serial* is current."""


class IBlob(Interface):
    """Data too large for a record, kept in a file."""

    __module__ = "ZODB.interfaces"

    def open(mode: str) -> Any:
        """Return a file; modes: `r`, `w`, `r+`, `a`, and `c` (committed, for reading)."""

    def committed() -> str:
        """Return the path of the committed data; BlobError if there is none."""

    def consumeFile(filename: str) -> None:
        """Take over a file as the new data."""


class IBlobStorage(Interface):
    """A storage that keeps blobs."""

    __module__ = "ZODB.interfaces"

    def storeBlob(
        oid: Oid, oldserial: Tid, data: bytes, blobfilename: str, version: str, transaction: Any
    ) -> None:
        """Store a record and take over the file that belongs to it."""

    def loadBlob(oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's data, or raise POSKeyError."""

    def openCommittedBlobFile(oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading."""

    def temporaryDirectory() -> str:
        """Return the directory for data that isn't committed yet."""


class IBlobStorageRestoreable(IBlobStorage, IStorageRestoreable):
    """A storage that can take over transactions with blobs."""

    __module__ = "ZODB.interfaces"

    def restoreBlob(
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a blob that was already committed elsewhere, without checks."""


class IBroken(Interface):
    """Stands for an object whose class can't be imported; it can't be changed."""

    __module__ = "ZODB.interfaces"

    __Broken_newargs__ = Attribute("What `__new__` would be called with.")
    __Broken_initargs__ = Attribute("What `__init__` would be called with.")
    __Broken_state__ = Attribute("What `__setstate__` would be called with.")

    def __setattr__(name: str, value: Any) -> None:
        """Raise BrokenModified."""
