"""The blob files of a storage: beside its records, committed with them.

A blob's file waits in the temporary directory until its transaction has a tid, which
is at the vote. Then it goes where it belongs and is synced there, before the
transaction is finished: no record is ever without its file. What a crash leaves
behind is a file without a record, which a pack removes.
"""

import contextlib
import os
import shutil
import threading
from typing import Any, NamedTuple

from perdure.blob._blob import BlobFile
from perdure.blob._directory import BlobDirectory
from perdure.blob._files import link_or_copy, remove_committed, rename_or_copy_blob
from perdure.errors import POSKeyError
from perdure.ids import Oid, Tid
from perdure.utils import mktemp

__all__ = ["BlobFiles"]


class _Staged(NamedTuple):
    """A file that becomes a blob's revision when the transaction has a tid."""

    oid: Oid
    path: str


class BlobFiles:
    """The blob files of one storage, in the directory *path* with the given *layout*.

    A *draft* is whatever stands for one transaction.
    """

    def __init__(self, path: str, layout: str = "automatic") -> None:
        self.directory = BlobDirectory(path, layout)
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

    def open(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.directory.getBlobFilename(oid, serial)
        try:
            return open(path, "rb") if blob is None else BlobFile(path, "r", blob)
        except FileNotFoundError as error:
            raise POSKeyError(oid, f"No blob file at {path}", tid=serial) from error

    def stage(self, draft: object, oid: Oid, path: str) -> None:
        """Take over a file, to become what the transaction *draft* stores of a blob."""
        taken = os.path.join(self.directory.temp_dir, "BST" + os.urandom(8).hex())
        try:
            os.rename(path, taken)
        except OSError:
            # On another device: the copy must not be readable by others before it is committed.
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

    def has_staged(self, draft: object) -> bool:
        """Tell whether the transaction *draft* has files that wait for its tid."""
        return id(draft) in self._staged

    def place(self, draft: object, tid: Tid) -> None:
        """Put the files of a transaction that has voted where they belong, and sync them."""
        staged = self._staged.get(id(draft))
        if not staged:
            return
        placed = self._placed.setdefault(id(draft), [])
        for oid, path in staged:
            placed.append(self.directory.getBlobFilename(oid, tid))
            self.directory.move(path, placed[-1])
        self.directory.make_safe(placed)

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

    def remove_dropped(self, storage: Any, last: Tid, *, keep_old: bool | None = None) -> None:
        """Remove the files of revisions up to *last* that the storage doesn't have.

        With *keep_old* they are in a directory with the suffix ``.old`` afterwards, as
        the data file before the pack is, in place of those of an earlier pack, which go
        unless it is None.
        """
        old = self.directory.base_dir.rstrip(os.path.sep) + ".old"
        if keep_old is not None:
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
    except KeyError:  # of whichever package
        return False
    return True


def _move(path: str, kept: BlobDirectory, oid: Oid, serial: Tid) -> None:
    kept.getPathForOID(oid, create=True)
    rename_or_copy_blob(path, kept.getBlobFilename(oid, serial), chmod=False)
