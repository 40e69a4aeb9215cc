"""The blobs of a file storage: files beside the records, committed with them.

A blob's file waits in the temporary directory until its transaction has a tid, which
is at the vote. Then it goes where it belongs and is synced there, before the
transaction is finished: no record is ever without its file. What a crash leaves
behind is a file without a record, which a pack removes.
"""

import contextlib
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.blob import (
    BlobDirectory,
    BlobFile,
    copyTransactionsFromTo,
    link_or_copy,
    remove_committed,
    rename_or_copy_blob,
)
from perdure.errors import POSKeyError, Unsupported
from perdure.ids import Oid, Tid
from perdure.utils import mktemp

__all__ = ["EngineBlobs", "KeepsBlobs"]


class _Staged(NamedTuple):
    """A file that becomes a blob's revision when the transaction has a tid."""

    oid: Oid
    path: str


class EngineBlobs:
    """The blob files of one storage, in the directory *path*."""

    def __init__(self, path: str) -> None:
        self.directory = BlobDirectory(path)
        self.directory.create()
        # Guards the two below, whose keys are the ids of drafts.
        self._lock = threading.Lock()
        self._staged: dict[int, list[_Staged]] = {}
        self._placed: dict[int, list[str]] = {}

    def path_of(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        path = self.directory.getBlobFilename(oid, serial)
        if not os.path.exists(path):
            raise POSKeyError(oid, f"No blob file at {path}", tid=serial)
        return path

    def stage(self, draft: object, oid: Oid, path: str) -> None:
        """Take over a file, to become what the transaction *draft* stores of a blob."""
        taken = mktemp(dir=self.directory.temp_dir, prefix="BST")
        rename_or_copy_blob(path, taken, chmod=False)
        with self._lock:
            self._staged.setdefault(id(draft), []).append(_Staged(oid, taken))

    def stage_again(self, draft: object, oid: Oid, serial: Tid) -> None:
        """Have the transaction *draft* store an earlier revision again, if it has a file."""
        path = self.directory.getBlobFilename(oid, serial)
        if not os.path.exists(path):
            return
        taken = mktemp(dir=self.directory.temp_dir, prefix="BUN")
        os.remove(taken)
        try:
            link_or_copy(path, taken)
        except OSError:
            shutil.copyfile(path, taken)
        with self._lock:
            self._staged.setdefault(id(draft), []).append(_Staged(oid, taken))

    def place(self, draft: object, tid: Tid) -> None:
        """Put the files of a transaction that has voted where they belong, and sync them."""
        staged = self._staged.get(id(draft))
        if not staged:
            return
        placed = self._placed.setdefault(id(draft), [])
        for oid, path in staged:
            placed.append(self.directory.getBlobFilename(oid, tid))
            self.directory.place(path, oid, tid)

    def finished(self, draft: object) -> None:
        """Take note that a transaction is finished."""
        with self._lock:
            self._staged.pop(id(draft), None)
            self._placed.pop(id(draft), None)

    def aborted(self, draft: object) -> None:
        """Remove the files of a transaction that is aborted."""
        with self._lock:
            staged = self._staged.pop(id(draft), [])
            placed = self._placed.pop(id(draft), [])
        for path in [*placed, *(path for _oid, path in staged)]:
            with contextlib.suppress(FileNotFoundError):
                remove_committed(path)

    def remove_dropped(self, storage: Any, last: Tid, *, keep_old: bool) -> None:
        """Remove the files of revisions up to *last* that the storage doesn't have.

        With *keep_old* they are in a directory with the suffix ``.old`` afterwards, as
        the data file before the pack is, in place of those of an earlier pack.
        """
        old = self.directory.base_dir.rstrip(os.path.sep) + ".old"
        shutil.rmtree(old, ignore_errors=True)
        kept = BlobDirectory(old, self.directory.layout_name) if keep_old else None
        for oid, directory in self.directory.listOIDs():
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                _oid, serial = self.directory.splitBlobFilename(path)
                # What is newer may be about to be committed.
                if serial is None or serial > last or _has(storage, oid, serial):
                    continue
                if kept is not None:
                    _move(path, kept, oid, serial)
                else:
                    remove_committed(path)
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _has(storage: Any, oid: Oid, serial: Tid) -> bool:
    try:
        storage.loadSerial(oid, serial)
    except POSKeyError:
        return False
    return True


def _move(path: str, kept: BlobDirectory, oid: Oid, serial: Tid) -> None:
    kept.getPathForOID(oid, create=True)
    rename_or_copy_blob(path, kept.getBlobFilename(oid, serial), chmod=False)


class KeepsBlobs:
    """The part of a storage that keeps blobs, where it was given a directory for them."""

    blobs: EngineBlobs | None = None
    """The files of blobs; None where the storage keeps none."""

    if TYPE_CHECKING:

        def getName(self) -> str: ...

        def store(
            self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any
        ) -> None: ...

        def restore(
            self,
            oid: Oid,
            serial: Tid,
            data: bytes | None,
            version: str,
            prev_txn: Tid | None,
            transaction: Any,
        ) -> None: ...

        def _running_for(self, transaction: Any) -> Any: ...

    def require_blobs(self) -> EngineBlobs:
        """Return the files of blobs, or raise Unsupported where there can be none."""
        if self.blobs is None:
            raise Unsupported(f"{self.getName()} keeps no blobs: open it with blob_dir=...")
        return self.blobs

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
        blobs = self.require_blobs()
        self.store(oid, oldserial, data, version, transaction)
        blobs.stage(self._running_for(transaction).draft, oid, blobfilename)

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
        blobs = self.require_blobs()
        self.restore(oid, serial, data, "", prev_txn, transaction)
        blobs.stage(self._running_for(transaction).draft, oid, blobfilename)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        return self.require_blobs().path_of(oid, serial)

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        return self.require_blobs().directory.temp_dir

    def _copy_with_blobs(self, other: Any) -> None:
        copyTransactionsFromTo(other, self)
