"""The storage in a file: ZODB's data file format, opened in place."""

import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from zope.interface import alsoProvides

from perdure import _native
from perdure._targets import require_folder
from perdure.ids import Tid
from perdure.interfaces import IBlobStorageRestoreable
from perdure.storage.engine import EngineStorage

if TYPE_CHECKING:
    from perdure.storage._index import ObjectIndex
    from perdure.storage.packing import PackResult, SearchedMember

__all__ = ["FileStorage"]

_log = logging.getLogger("perdure.FileStorage")

_FILE_BYTES_MAX: Final = (1 << 63) - 1
_SIDE_FILES: Final = (
    "",
    ".old",
    ".tmp",
    ".lock",
    ".index",
    ".pindex",
    ".psums",
    ".psums_pack",
    ".pack",
    ".refs",
)


_open: "weakref.WeakSet[FileStorage]" = weakref.WeakSet()


def _let_go_of_locks() -> None:
    """Leave them to the process that this one was forked from, and that may end before it."""
    for storage in _open:
        storage._native.forked()


os.register_at_fork(after_in_child=_let_go_of_locks)


class _OpenFile:
    """What code written for ZODB asks of a file storage's `_file`: its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class FileStorage(EngineStorage):
    """A storage that keeps its records in one file, which only grows until it is packed.

    Beside `file_name` there are, each with a suffix: `.lock` (one writer at a time,
    perdure's or stock ZODB's), `.pindex` (the index, which can be lost),
    `.psums` (checksums, which can be lost too, but protect what was committed),
    `.tr0`, `.tr1`, … (what was cut off a damaged end), `.old` (the file
    before the last pack).

    Args:
        file_name: the path of the data file.
        create: begin with an empty file, even where there is one.
        read_only: open for reading only; nothing is written and no lock taken.
        stop: see only transactions before this one (8 bytes); needs `read_only`.
        quota: the greatest size in bytes that the file may grow to.
        pack_gc: remove unreachable objects when packing.
        pack_keep_old: keep the file as it was before a pack as `.old`.
        packer: packs instead of the built-in packer.
        blob_dir: a directory for blobs.
        verify_reads: compare each transaction with its checksums when something is first
            read from it, so that a byte that changed on the disk is a CorruptedError.
        record_bytes_max: the greatest size in bytes of a record's data; a larger one is
            neither read nor written: UnreadableRecord.

    Raises:
        StorageLocked: another process, or storage, has the file open for writing.
        NotADatabase: the file is something else.
        CorruptedError: the file is damaged before its end.
        StorageError: the blob directory's marker names no layout.
        OSError: the file cannot be opened, or its folder isn't there, which is named then.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - ZODB's signature
        self,
        file_name: str | os.PathLike[str],
        create: bool = False,
        read_only: bool = False,
        stop: Tid | None = None,
        quota: int | None = None,
        pack_gc: bool = True,
        pack_keep_old: bool = True,
        packer: Callable[..., Any] | None = None,
        blob_dir: str | None = None,
        *,
        verify_reads: bool = False,
        record_bytes_max: int | None = None,
    ) -> None:
        if read_only and create:
            raise ValueError("can't create a read-only file")
        if stop is not None and not read_only:
            raise ValueError("time-travel only supported in read-only mode")
        name = os.fspath(file_name)
        # Not resolved: side files belong beside the name that was given.
        self._file_name = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118 - pathlib takes memory
        if blob_dir:
            from perdure.blob._layouts import marked_layout  # late: most storages keep no blobs

            # Before a data file is made: of an unknown layout, there can be no storage.
            marked_layout(blob_dir)
        try:
            native = _native.Storage.open(
                self._file_name,
                create=bool(create),
                read_only=bool(read_only),
                stop=stop,
                quota_bytes=None if quota is None else min(quota, _FILE_BYTES_MAX),
                verify_reads=bool(verify_reads),
                record_bytes_max=record_bytes_max,
            )
        except FileNotFoundError:
            if not read_only:
                require_folder(self._file_name)
            raise
        super().__init__(native, name)
        _open.add(self)
        self._pack_gc = pack_gc
        self.pack_keep_old = pack_keep_old
        self.packer = packer
        self.blob_dir = os.path.abspath(blob_dir) if blob_dir else None  # noqa: PTH100 - as named
        if self.blob_dir is not None:
            from perdure.blob import BlobFiles  # late: most storages keep no blobs

            self.blobs = BlobFiles(self.blob_dir)
            self.fshelper = self.blobs.directory
            alsoProvides(self, IBlobStorageRestoreable)
        self._warn_of_cut()
        self._warn_of_clock()

    def _warn_of_cut(self) -> None:
        cut = self._native.cut
        if cut is not None:
            position, length, kept_in, reason = cut
            _log.warning(
                "%s: the last %d bytes (from position %d) are no whole transaction and were "
                "moved to %s: %s",
                self._file_name,
                length,
                position,
                kept_in,
                reason,
            )

    def _warn_of_clock(self) -> None:
        ahead = _native.time_of_tid(self.lastTransaction()) - time.time()
        if ahead > 60:
            level = logging.CRITICAL if ahead > 30 * 60 else logging.WARNING
            _log.log(
                level,
                "%s: the last transaction lies %.0f seconds in the future; until the clock has "
                "caught up, transactions get ids just after it, and times are wrong by as much",
                self._file_name,
                ahead,
            )

    @property
    def _file(self) -> _OpenFile:
        return _OpenFile(self._file_name)

    @property
    def _index(self) -> "ObjectIndex":
        from perdure.storage._index import ObjectIndex  # late: only others' code asks for it

        return ObjectIndex(self._native)

    @property
    def _pos(self) -> int:
        """The end of the last transaction, in bytes."""
        return self.getSize()

    def packs_itself(self) -> bool:
        """Tell whether `pack` is perdure's own, not a subclass's or a plugged-in packer's."""
        replaced = "pack" in vars(self) or type(self).pack is not FileStorage.pack
        return self.packer is None and not replaced

    def pack(
        self,
        t: float,
        referencesf: Any = None,
        gc: bool | None = None,
        progress: Callable[[str, int, int], object] | None = None,
        members: "Mapping[str, EngineStorage | SearchedMember] | None" = None,
    ) -> "PackResult | None":
        """Drop what is not needed any more; see `EngineStorage.pack`.

        A plugged-in packer is called as `packer(storage, referencesf, stop, gc)`. It
        writes the packed file, named as the data file with `.pack` behind, and returns
        its size and index, or None where there is nothing to do. What it tells of blobs in
        the file `.removed` isn't needed: those of revisions that are gone are found.
        """
        if self.packer is None or self.isReadOnly():
            return super().pack(t, referencesf, gc, progress, members)
        stop, last = _native.tid_of_time(t), self.lastTransaction()
        packed = self.packer(self, referencesf, stop, self._pack_gc if gc is None else gc)
        if packed is None:
            return None
        from perdure.storage.packing import PackResult  # late: few programs pack so

        result = PackResult(*self._native.adopt_packed(self.pack_keep_old))
        if self.blobs is not None:
            with suppress(FileNotFoundError):
                os.remove(self.blobs.directory.base_dir + ".removed")  # noqa: PTH107
            self.blobs.remove_dropped(self, last, keep_old=self.pack_keep_old, alone=True)
        return result

    def cleanup(self) -> None:
        """Remove the data file and the files beside it. Close the storage before."""
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                os.remove(self._file_name + suffix)  # noqa: PTH107
