"""The persistent object whose data is a file."""

import contextlib
import os
import weakref
from io import FileIO
from typing import Any, Final

import persistent
from zope.interface import implementer

from perdure.blob._files import rename_or_copy_blob, require_regular
from perdure.errors import BlobError, DamagedBlobError, Unsupported
from perdure.ids import Oid, Tid, oid_repr
from perdure.interfaces import IBlob
from perdure.utils import cp, mktemp

__all__ = ["SAVEPOINT_SUFFIX", "Blob", "BlobFile", "require_length"]

SAVEPOINT_SUFFIX: Final = ".spb"
"""Files of blobs that a savepoint keeps end so."""

_UNCOMMITTED_PREFIX: Final = "BUC"

_MODES = "r", "w", "r+", "a", "c"


class BlobFile(FileIO):
    """The data of *blob* as an open file; it can't be pickled."""

    def __init__(self, name: str, mode: str, blob: "Blob", *, new: bool = False) -> None:
        super().__init__(name, mode + "b", opener=_open_new if new else None)
        self.blob = blob

    def close(self) -> None:
        """Close the file."""
        self.blob.closed(self)
        super().close()

    def __reduce__(self) -> Any:
        raise TypeError("an open blob file can't be pickled; store the blob itself")


@implementer(IBlob)
class Blob(persistent.Persistent):
    """A persistent object for large data, which is kept in a file.

    *data* (bytes) is its first content. The class can't be subclassed, because it is
    known to other processes by its name alone.
    """

    __module__ = "perdure.blob"

    _p_blob_uncommitted: str | None = None
    _p_blob_committed: str | None = None
    # Removes the uncommitted file when the blob goes without having been committed.
    _p_blob_ref: Any = None
    # How many bytes the committed file has to have; None where that isn't known.
    _p_blob_bytes: int | None = None
    # The open files, as weak references.
    _p_blob_readers: "tuple[weakref.ref[Any], ...]" = ()
    _p_blob_writers: "tuple[weakref.ref[Any], ...]" = ()

    def __init__(self, data: bytes | None = None) -> None:
        if type(self) is not Blob:
            raise TypeError("Blobs do not support subclassing.")
        if data is not None:
            with self.open("w") as file:
                file.write(data)

    def __setstate__(self, state: Any = None) -> None:
        """Do nothing: all of the state is in the file."""

    def __getstate__(self) -> Any:
        return None

    def _p_deactivate(self) -> None:
        if not self.opened():
            super()._p_deactivate()

    def _p_invalidate(self) -> None:
        if self._p_changed is None:
            return
        if self._p_blob_readers or self._p_blob_writers:
            for file in self._open_files():
                file.close()
        if self._p_blob_uncommitted:
            self._take_uncommitted(remove=True)
        super()._p_invalidate()

    def _open_files(self) -> list[Any]:
        return _open_among(self._p_blob_readers) + _open_among(self._p_blob_writers)

    def opened(self) -> bool:
        """Tell whether the data is open as a file."""
        readers, writers = self._p_blob_readers, self._p_blob_writers
        return bool((readers or writers) and self._open_files())

    def closed(self, f: Any) -> None:
        """Take note that the file *f*, which `open` returned, is closed."""
        if self._p_blob_readers:
            self._p_blob_readers = _without(self._p_blob_readers, f)
        if self._p_blob_writers:
            self._p_blob_writers = _without(self._p_blob_writers, f)

    def open(self, mode: str = "r") -> Any:
        """Return the data as an open (binary) file.

        Modes: ``r`` to read; ``w`` to write anew; ``a`` to append; ``r+`` to change;
        ``c`` to read the committed data, through a file that stays usable when the
        transaction has ended.

        Raises BlobError where the data is being written, or is to be written while
        it is being read, and for ``c`` where there is uncommitted data; DamagedBlobError
        where the committed file was cut, or has grown.
        """
        if mode not in _MODES:
            raise ValueError(f"no mode of a blob: {mode!r} (there are {', '.join(_MODES)})")
        if mode == "c":
            self._require_committed()
            storage = self._p_jar._storage
            return self._whole(storage.openCommittedBlobFile(self._p_oid, self._p_serial))
        if _open_among(self._p_blob_writers):
            raise BlobError("Already opened for writing.")
        if mode == "r":
            file = self._open_to_read()
            self._p_blob_readers += (weakref.ref(file),)
            return file
        if _open_among(self._p_blob_readers):
            raise BlobError("Already opened for reading.")
        file = self._open_to_write(mode)
        self._p_blob_writers += (weakref.ref(file),)
        self._p_changed = True
        return file

    def _open_to_read(self) -> Any:
        self._p_activate()
        if self._p_blob_uncommitted is None and self._p_blob_committed:
            if not self._p_blob_committed.endswith(SAVEPOINT_SUFFIX):
                storage = self._p_jar._storage
                file = storage.openCommittedBlobFile(self._p_oid, self._p_serial, self)
                return self._whole(file)
            return BlobFile(self._p_blob_committed, "r", self)
        return BlobFile(self._p_blob_uncommitted or self._create_uncommitted_file(), "r", self)

    def _open_to_write(self, mode: str) -> BlobFile:
        self._p_activate()
        if self._p_blob_uncommitted is not None:
            return BlobFile(self._p_blob_uncommitted, mode, self)
        if mode == "w" or not self._p_blob_committed:
            return self._open_new_file(mode)
        with self._whole(open(self._p_blob_committed, "rb")) as committed:
            file = BlobFile(self._create_uncommitted_file(), "r+", self)
            cp(committed, file)
        if mode == "r+":
            file.seek(0)
        return file

    def _require_committed(self) -> None:
        self._p_activate()
        committed = self._p_blob_committed
        if self._p_blob_uncommitted or not committed or committed.endswith(SAVEPOINT_SUFFIX):
            raise BlobError("Uncommitted changes")

    def committed(self) -> str:
        """Return the path of the file with the committed data, to read it.

        Raises BlobError where there is none, or uncommitted data; DamagedBlobError where
        the file was cut, or has grown.
        """
        self._require_committed()
        # Asked for again: a storage with a cache has to know that it is in use.
        path = str(self._p_jar._storage.loadBlob(self._p_oid, self._p_serial))
        self._require_length(os.path.getsize(path), path)
        return path

    def _whole(self, file: Any) -> Any:
        """Return *file*, opened at its beginning; raise DamagedBlobError if it was cut."""
        try:
            self._require_length(file.seek(0, os.SEEK_END), file.name)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _require_length(self, length: int, path: str) -> None:
        require_length(self._p_blob_bytes, length, self._p_oid, self._p_serial, path)

    def consumeFile(self, filename: str) -> None:
        """Make the file *filename* the data: it is moved, not copied, where that can be.

        When that fails the data is what it was. Raises BlobError where it is open, or *filename*
        a folder, a link or anything else that is no regular file.
        """
        if _open_among(self._p_blob_writers):
            raise BlobError("Already opened for writing.")
        if _open_among(self._p_blob_readers):
            raise BlobError("Already opened for reading.")
        require_regular(filename)
        previous = self._p_blob_uncommitted
        target = previous or self._create_uncommitted_file()
        aside = target + ".aside"
        os.rename(target, aside)
        try:
            rename_or_copy_blob(os.fspath(filename), target, chmod=False)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(target)
            os.rename(aside, target)
            if previous is None:
                self._take_uncommitted(remove=True)
            raise
        os.remove(aside)
        self._p_changed = True

    def _create_uncommitted_file(self) -> str:
        path = mktemp(dir=self._temporary_directory(), prefix=_UNCOMMITTED_PREFIX)
        self._own(path)
        return path

    def _open_new_file(self, mode: str) -> BlobFile:
        """Return a new file for uncommitted data, opened: it is made by being opened."""
        directory = self._temporary_directory()
        while True:
            path = f"{directory}{os.sep}{_UNCOMMITTED_PREFIX}{os.urandom(8).hex()}"
            try:
                file = BlobFile(path, "r+" if mode == "r+" else "w", self, new=True)
            except FileExistsError:
                continue
            self._own(path)
            return file

    def _own(self, path: str) -> None:
        self._p_blob_uncommitted = path
        self._p_blob_ref = weakref.finalize(self, _remove, path)

    def _temporary_directory(self) -> str:
        if self._p_jar is None:
            import tempfile  # late: blobs of a database are written beside it

            return tempfile.gettempdir()
        storage = self._p_jar.db().storage
        try:
            directory: str = storage.temporaryDirectory()
        except (AttributeError, TypeError) as error:
            raise Unsupported(
                f"the storage {storage.getName()} keeps no blobs (blob {oid_repr(self._p_oid)}): "
                "give FileStorage a blob_dir, or wrap the storage in a BlobStorage"
            ) from error
        return directory

    def _take_uncommitted(self, *, remove: bool) -> str | None:
        path = self._p_blob_uncommitted
        if self._p_blob_ref is not None:
            self._p_blob_ref.detach()
        self._p_blob_uncommitted = self._p_blob_ref = None
        if remove and path is not None:
            _remove(path)
        return path

    def _uncommitted(self) -> str | None:
        """Hand the file with uncommitted data over to who commits it; None for none."""
        if self._p_blob_uncommitted is None and self._p_blob_committed is None:
            self._create_uncommitted_file()
        return self._take_uncommitted(remove=False)


def _open_among(references: "tuple[weakref.ref[Any], ...]") -> list[Any]:
    if not references:
        return []
    found = [reference() for reference in references]
    return [file for file in found if file is not None and not file.closed]


def _without(references: "tuple[weakref.ref[Any], ...]", file: Any) -> Any:
    if len(references) == 1 and references[0]() is file:
        return ()
    return tuple([reference for reference in references if reference() is not file])


def _open_new(path: str, flags: int) -> int:
    """Open a file that isn't there yet; nobody else can read what isn't committed."""
    return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def require_length(
    expected: int | None, found: int, oid: Oid | None, tid: Tid | None, path: str
) -> None:
    """Raise DamagedBlobError unless a file has the length *expected* (None: any)."""
    if expected is not None and found != expected:
        error = DamagedBlobError(oid, path=path, expected=expected, found=found)
        error.tid = tid
        raise error
