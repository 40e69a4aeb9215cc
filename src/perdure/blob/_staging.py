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
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from perdure.blob._blob import BlobFile
from perdure.blob._directory import BlobDirectory
from perdure.blob._files import (
    link_or_copy,
    no_file,
    remove_committed,
    rename_or_copy_blob,
    require_regular,
)
from perdure.ids import Oid, Tid
from perdure.utils import mktemp

__all__ = ["BlobFiles"]


_FORGOTTEN_SECONDS: Final = 7 * 86_400
"""So old, what isn't committed belongs to nobody any more."""


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
        # Guards those below; keys are the ids of drafts.
        self._lock = threading.Lock()
        self._staged: dict[int, list[_Staged]] = {}
        self._placed: dict[int, list[str]] = {}
        # What transactions have placed that may be permanent, and that nobody sees.
        self._in_doubt: set[str] = set()

    def path_of(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        path = self.directory.getBlobFilename(oid, serial)
        if not os.path.exists(path):
            raise no_file(oid, serial, path)
        return path

    def open(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        path = self.directory.getBlobFilename(oid, serial)
        try:
            return open(path, "rb") if blob is None else BlobFile(path, "r", blob)
        except FileNotFoundError as error:
            raise no_file(oid, serial, path) from error

    def stage(self, draft: object, oid: Oid, path: str) -> None:
        """Take over a file, to become what the transaction *draft* stores of a blob."""
        require_regular(path)
        taken = f"{self.directory.temp_dir}{os.sep}BST{os.urandom(8).hex()}"
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
        name = self.directory.getBlobFilename
        moves = [(path, name(oid, tid)) for oid, path in staged]
        placed = [target for _path, target in moves]
        with self._lock:
            self._placed[id(draft)] = placed
        self.directory.move(moves)
        self.directory.make_safe(placed)

    def finished(self, draft: object) -> None:
        """Take note that a transaction is permanent, and that the storage has its records."""
        with self._lock:
            self._staged.pop(id(draft), None)
            self._placed.pop(id(draft), None)

    def given_up(self, draft: object, may_be_committed: bool) -> None:
        """Remove the files of a transaction that has failed, unless it may be permanent."""
        with self._lock:
            staged = self._staged.pop(id(draft), [])
            placed = self._placed.pop(id(draft), [])
            if may_be_committed:
                # Opening the storage anew tells; should it not be, a pack removes them then.
                self._in_doubt.update(placed)
                return
        for path in [*placed, *(path for _oid, path in staged)]:
            with contextlib.suppress(FileNotFoundError):
                remove_committed(path)

    def remove_dropped(
        self, storage: Any, last: Tid, *, keep_old: bool | None = None, alone: bool = False
    ) -> None:
        """Remove the files of revisions up to *last* that the storage doesn't have.

        *alone* says that all who commit to the storage do it here: then those of later
        revisions go too, unless they are just being committed or may be permanent. With *keep_old* what is
        removed is in a directory with the suffix ``.old`` afterwards, as the data file
        before the pack is, in place of that of an earlier pack, which goes unless it is None.
        """
        old = self.directory.base_dir.rstrip(os.path.sep) + ".old"
        if keep_old is not None:
            shutil.rmtree(old, ignore_errors=True)
        kept = BlobDirectory(old, self.directory.layout_name) if keep_old else None
        for oid, directory in self.directory.listOIDs():
            dropped = list(self._dropped(storage, oid, directory, None if alone else last))
            for path, serial in dropped:
                if kept is not None:
                    _move(path, kept, oid, serial)
                else:
                    remove_committed(path)
            if dropped:
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        if alone:
            self._remove_forgotten()

    def _dropped(
        self, storage: Any, oid: Oid, directory: str, last: Tid | None
    ) -> Iterator[tuple[str, Tid]]:
        """Give the files of an object's revisions (up to *last*) that the storage doesn't have."""
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            _oid, serial = self.directory.splitBlobFilename(path)
            if serial is None or (last is not None and serial > last):
                continue
            # In this order: one that is committed in between is in the storage.
            if (
                not self._is_coming(oid, serial)
                and not _has(storage, oid, serial)
                and not os.path.isdir(path)  # somebody's: nothing of a blob
            ):
                yield path, serial

    def _is_coming(self, oid: Oid, serial: Tid) -> bool:
        """Tell whether a file is that of a transaction that isn't finished, or may not be."""
        path = self.directory.getBlobFilename(oid, serial)
        with self._lock:
            return path in self._in_doubt or any(path in one for one in self._placed.values())

    def _remove_forgotten(self) -> None:
        """Remove what processes that were killed left in the temporary directory."""
        before = time.time() - _FORGOTTEN_SECONDS
        for entry in os.scandir(self.directory.temp_dir):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime > before:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.remove(entry.path)


def _has(storage: Any, oid: Oid, serial: Tid) -> bool:
    try:
        storage.loadSerial(oid, serial)
    except KeyError:  # of whichever package
        return False
    return True


def _move(path: str, kept: BlobDirectory, oid: Oid, serial: Tid) -> None:
    kept.getPathForOID(oid, create=True)
    rename_or_copy_blob(path, kept.getBlobFilename(oid, serial), chmod=False)
