"""Blobs for storages that keep none themselves."""

import base64
import contextlib
import os
import threading
from collections.abc import Callable, Container
from typing import Any

from zope.interface import alsoProvides, directlyProvides, providedBy

from perdure.blob._blob import BlobFile
from perdure.blob._copying import copyTransactionsFromTo
from perdure.blob._directory import BlobDirectory
from perdure.blob._files import no_file, remove_committed, require_regular
from perdure.blob._records import is_blob_record
from perdure.blob._staging import BlobFiles
from perdure.errors import Unsupported
from perdure.ids import Oid, Tid
from perdure.interfaces import (
    IBlobStorage,
    IBlobStorageRestoreable,
    IMVCCStorage,
    IStorageRestoreable,
)

__all__ = ["BlobStorage", "BlobStorageError", "BlobStorageMixin"]


class BlobStorageError(Exception):
    """The blob storage can't do this now."""


class BlobStorageMixin:
    """Adds blobs to a storage that knows its transaction's tid when it stores.

    The storage calls `_blob_init` with its blob directory, `_blob_tpc_abort` and
    `_blob_tpc_finish` when a transaction ends, and has ``_tid`` and ``_lock``.
    """

    fshelper: BlobDirectory
    dirty_oids: list[tuple[Oid, Tid]]
    _lock: Any
    _tid: Tid
    store: Callable[..., Any]
    restore: Callable[..., Any]
    _untransform: Callable[[bytes], bytes] | None = None

    def copyTransactionsFrom(self, other: Any) -> None:
        """Copy all transactions of another storage, blobs included, into this one."""
        copyTransactionsFromTo(other, self)

    def _blob_init(self, blob_dir: str, layout: str = "automatic") -> None:
        self.fshelper = BlobDirectory(blob_dir, layout)
        self.fshelper.create()
        self.dirty_oids = []

    def _blob_tpc_abort(self) -> None:
        while self.dirty_oids:
            path = self.fshelper.getBlobFilename(*self.dirty_oids.pop())
            with contextlib.suppress(FileNotFoundError):
                remove_committed(path)

    def _blob_tpc_finish(self) -> None:
        self.dirty_oids = []

    def registerDB(self, db: Any) -> None:
        """Accept the layer above."""
        self._untransform = db.untransform_record_data
        further = getattr(super(), "registerDB", None)
        if further is not None:
            further(db)

    def is_blob_record(self, record: bytes | None) -> bool:
        """Tell whether a record, as this storage keeps it, is that of a blob."""
        if record and self._untransform is not None:
            record = self._untransform(record)
        return is_blob_record(record)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        path = self.fshelper.getBlobFilename(oid, serial)
        if not os.path.exists(path):
            raise no_file(oid, serial, path)
        return path

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def _blob_storeblob(self, oid: Oid, serial: Tid, blobfilename: str) -> None:
        require_regular(blobfilename)
        with self._lock:
            self.fshelper.place(blobfilename, oid, serial)
            self.dirty_oids.append((oid, serial))

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
        self.store(oid, oldserial, data, version, transaction)
        self._blob_storeblob(oid, self._tid, blobfilename)

    def restoreBlob(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a blob that was committed elsewhere."""
        self.restore(oid, serial, data, "", prev_txn, transaction)
        self._blob_storeblob(oid, serial, blobfilename)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        return self.fshelper.temp_dir


class BlobStorage:
    """The storage *storage*, with blobs in the directory *base_directory*.

    *layout* names the directory's layout (``bushy``, ``lawn``); by default it is the
    one that the directory has. A blob's file is on the disk, under its name, before
    the transaction is committed.
    """

    def __init__(self, base_directory: str, storage: Any, layout: str = "automatic") -> None:
        if IBlobStorage.providedBy(storage):
            raise ValueError(f"{storage.getName()} keeps blobs itself")
        self.base = storage
        self._files = BlobFiles(os.fspath(base_directory), layout)
        self.fshelper = self._files.directory
        # Held while packing.
        self._packing = threading.Lock()
        restoreable = IStorageRestoreable.providedBy(storage)
        directlyProvides(self, providedBy(storage))
        alsoProvides(self, IBlobStorageRestoreable if restoreable else IBlobStorage)

    @property
    def __storage(self) -> Any:
        # Tools take the storage out of its wrapper by its private name.
        return self.base

    def __getattr__(self, name: str) -> Any:
        if name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    def __len__(self) -> int:
        return len(self.base)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.base!r} at {self.fshelper.base_dir}>"

    def new_instance(self) -> "BlobStorage":
        """Return this layer over another instance of the storage."""
        if not IMVCCStorage.providedBy(self.base):
            raise Unsupported(f"{self.base.getName()} has no instances")
        return type(self)(self.fshelper.base_dir, self.base.new_instance())

    # Reading

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        return self._files.path_of(oid, serial)

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        return self._files.open(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        return self.fshelper.temp_dir

    # Writing

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
        self.base.store(oid, oldserial, data, version, transaction)
        self._files.stage(transaction, oid, blobfilename)

    def restoreBlob(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a blob that was committed elsewhere."""
        self.base.restore(oid, serial, data, "", prev_txn, transaction)
        self._files.stage(transaction, oid, blobfilename)

    def tpc_vote(self, transaction: Any) -> Any:
        """Last chance to fail; the blobs' files go to where they belong."""
        resolved = self.base.tpc_vote(transaction)
        if self._files.has_staged(transaction):
            self._files.place(transaction, voted_tid(self.base, transaction))
        return resolved

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = lambda tid: None) -> Any:
        """Make the transaction permanent and return its tid."""
        try:
            finished = self.base.tpc_finish(transaction, func)
        except BaseException:
            # Whatever went wrong: it may be permanent.
            self._files.given_up(transaction, True)
            raise
        self._files.finished(transaction)
        return finished

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored, blobs included."""
        is_decided = may_be_committed(self.base, transaction)
        self.base.tpc_abort(transaction)
        self._files.given_up(transaction, is_decided)

    def undo(self, transaction_id: bytes, transaction: Any, *chosen: Container[Oid]) -> Any:
        """Undo a transaction, its blobs included; of *chosen* objects alone where the base can."""
        undone = self.base.undo(transaction_id, transaction, *chosen)
        tid = Tid(base64.b64decode(transaction_id))
        for oid in undone[1]:
            with contextlib.suppress(KeyError):  # gone before
                before = self.base.loadBefore(oid, tid)
                if before is not None:
                    self._files.stage_again(transaction, oid, before[1])
        return undone

    def copyTransactionsFrom(self, other: Any) -> None:
        """Copy all transactions of another storage, blobs included, into this one."""
        copyTransactionsFromTo(other, self)

    def pack(self, packtime: float, referencesf: Any, *args: Any, **options: Any) -> Any:
        """Pack the storage, and remove the files of blobs' revisions that it dropped."""
        if not self._packing.acquire(blocking=False):
            raise BlobStorageError("Already packing")
        try:
            last = self.base.lastTransaction()
            result = self.base.pack(packtime, referencesf, *args, **options)
            self._files.remove_dropped(self.base, last)
        finally:
            self._packing.release()
        return result


def may_be_committed(storage: Any, transaction: Any) -> bool:
    """Tell whether a running transaction of *storage* may be permanent, though its finish failed."""
    ask = getattr(storage, "may_be_committed", None)
    return ask is not None and bool(ask(transaction))


def voted_tid(storage: Any, transaction: Any) -> Tid:
    """Return the tid that *storage* has chosen for a transaction that has voted."""
    choose = getattr(storage, "voted_tid", None)
    if choose is not None:
        tid: Tid = choose(transaction)
        return tid
    return Tid(storage._tid)
