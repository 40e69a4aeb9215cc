"""Blobs for storages that keep none themselves."""

import base64
import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from zope.interface import alsoProvides, directlyProvides, providedBy

from perdure.blob._blob import BlobFile
from perdure.blob._copying import copyTransactionsFromTo
from perdure.blob._directory import BlobDirectory
from perdure.blob._files import remove_committed, rename_or_copy_blob
from perdure.blob._records import is_blob_record
from perdure.errors import POSKeyError, Unsupported
from perdure.ids import Oid, Tid
from perdure.interfaces import (
    IBlobStorage,
    IBlobStorageRestoreable,
    IMVCCStorage,
    IStorageRestoreable,
)
from perdure.utils import mktemp

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
            raise POSKeyError(oid, f"No blob file at {path}", tid=serial)
        return path

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def _blob_storeblob(self, oid: Oid, serial: Tid, blobfilename: str) -> None:
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


class _Staged(NamedTuple):
    """A file that becomes a blob's revision when the transaction has a tid."""

    oid: Oid
    path: str


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
        self.fshelper = BlobDirectory(os.fspath(base_directory), layout)
        self.fshelper.create()
        # Guards the two below.
        self._lock = threading.RLock()
        self._staged: dict[int, list[_Staged]] = {}
        self._placed: dict[int, list[str]] = {}
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
        path = self.fshelper.getBlobFilename(oid, serial)
        if not os.path.exists(path):
            raise POSKeyError(oid, f"No blob file at {path}", tid=serial)
        return path

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

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
        self._stage(transaction, oid, blobfilename)

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
        self._stage(transaction, oid, blobfilename)

    def _stage(self, transaction: Any, oid: Oid, path: str) -> None:
        # From now on the file is this storage's: it moves out of the caller's reach.
        taken = mktemp(dir=self.temporaryDirectory(), prefix="BST")
        rename_or_copy_blob(path, taken, chmod=False)
        with self._lock:
            self._staged.setdefault(id(transaction), []).append(_Staged(oid, taken))

    def tpc_vote(self, transaction: Any) -> Any:
        """Last chance to fail; the blobs' files go to where they belong."""
        resolved = self.base.tpc_vote(transaction)
        staged = self._staged.get(id(transaction))
        if staged:
            tid = voted_tid(self.base, transaction)
            placed = self._placed.setdefault(id(transaction), [])
            for oid, path in staged:
                placed.append(self.fshelper.getBlobFilename(oid, tid))
                self.fshelper.place(path, oid, tid)
        return resolved

    def tpc_finish(self, transaction: Any, func: Callable[[Tid], object] = lambda tid: None) -> Any:
        """Make the transaction permanent and return its tid."""
        tid = self.base.tpc_finish(transaction, func)
        with self._lock:
            self._staged.pop(id(transaction), None)
            self._placed.pop(id(transaction), None)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what was stored, blobs included."""
        self.base.tpc_abort(transaction)
        with self._lock:
            staged = self._staged.pop(id(transaction), [])
            placed = self._placed.pop(id(transaction), [])
        for path in [*placed, *(path for _oid, path in staged)]:
            with contextlib.suppress(FileNotFoundError):
                remove_committed(path)

    def undo(self, transaction_id: bytes, transaction: Any) -> Any:
        """Undo a transaction, its blobs included."""
        undone = self.base.undo(transaction_id, transaction)
        tid = Tid(base64.b64decode(transaction_id))
        for oid in undone[1]:
            before = self.base.loadBefore(oid, tid)
            if before is not None:
                self._stage_again(oid, before[1], transaction)
        return undone

    def _stage_again(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have an earlier revision of an object stored again, if it is a blob's."""
        path = self.fshelper.getBlobFilename(oid, serial)
        if os.path.exists(path):
            copied = mktemp(dir=self.temporaryDirectory(), prefix="BUN")
            shutil.copyfile(path, copied)
            self._stage(transaction, oid, copied)

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
            for oid, directory in self.fshelper.listOIDs():
                self._remove_dropped(oid, directory, last)
        finally:
            self._packing.release()
        return result

    def _remove_dropped(self, oid: Oid, directory: str, last: Tid) -> None:
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            _oid, serial = self.fshelper.splitBlobFilename(path)
            # What is newer may be about to be committed.
            if serial is None or serial > last:
                continue
            try:
                self.base.loadSerial(oid, serial)
            except KeyError:
                remove_committed(path)
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def voted_tid(storage: Any, transaction: Any) -> Tid:
    """Return the tid that *storage* has chosen for a transaction that has voted."""
    choose = getattr(storage, "voted_tid", None)
    if choose is not None:
        tid: Tid = choose(transaction)
        return tid
    return Tid(storage._tid)
