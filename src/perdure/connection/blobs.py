"""Blobs on their way from a connection to its storage."""

import os
from typing import Any, NamedTuple

from perdure.blob import SAVEPOINT_SUFFIX, Blob, rename_or_copy_blob, with_length
from perdure.errors import Unsupported
from perdure.ids import Oid, Tid, oid_repr
from perdure.interfaces import IBlobStorage

__all__ = ["SavedBlob", "SavepointBlobs", "is_unchanged_blob", "store_blob"]


class SavedBlob(NamedTuple):
    """Stands for a blob in a record that a savepoint kept."""

    path: str
    """The file with its data."""


def is_unchanged_blob(obj: Any) -> bool:
    """Tell whether *obj* is a blob that was marked as changed and has no new data."""
    return (
        type(obj) is Blob
        and obj._p_blob_uncommitted is None
        and obj._p_serial is not None
        and any(obj._p_serial)
    )


def store_blob(
    storage: Any, record: tuple[Oid, Tid, bytes, "Blob | SavedBlob"], transaction: Any
) -> None:
    """Give *storage* a blob's record and its file, which it takes over.

    Raises Unsupported for a storage without blobs, ValueError where the blob is open.
    """
    oid, serial, data, blob = record
    if not IBlobStorage.providedBy(storage):
        raise Unsupported(
            f"the storage {storage.getName()} keeps no blobs (blob {oid_repr(oid)}): give "
            "FileStorage a blob_dir, or wrap the storage in a BlobStorage"
        )
    if isinstance(blob, SavedBlob):
        kept = with_length(data, os.path.getsize(blob.path))
        storage.storeBlob(oid, serial, kept, blob.path, "", transaction)
        return
    if blob.opened():
        raise ValueError(f"Can't commit with opened blobs ({oid_repr(oid)}): close the file first")
    path = blob._uncommitted()
    assert path is not None
    storage.storeBlob(oid, serial, with_length(data, os.path.getsize(path)), path, "", transaction)
    # Its next use loads it, and so finds the data where the storage keeps it.
    blob._p_invalidate()


class SavepointBlobs:
    """The files of blobs that savepoints of one transaction keep."""

    def __init__(self) -> None:
        self._directory: str | None = None
        # By object, the file of each time it was kept: where it is, and after how many writes.
        self._kept: dict[Oid, list[tuple[int, str]]] = {}

    def keep(self, oid: Oid, path: str, beside: str, write: int) -> None:
        """Take over the file *path* as the data of *oid*; *beside* is a directory near it."""
        if self._directory is None:
            # Late, here and below: most programs have no savepoints with blobs.
            import tempfile

            self._directory = tempfile.mkdtemp(prefix="savepoints", dir=beside)
        kept = os.path.join(self._directory, f"{oid.hex()}-{write}{SAVEPOINT_SUFFIX}")
        rename_or_copy_blob(path, kept, chmod=False)
        self._kept.setdefault(oid, []).append((write, kept))

    def get(self, oid: Oid) -> str | None:
        """Return the newest file of an object, None for none."""
        kept = self._kept.get(oid)
        return kept[-1][1] if kept else None

    def oids(self) -> list[Oid]:
        """Return the objects whose files were kept."""
        return list(self._kept)

    def reset(self, writes: int) -> None:
        """Forget what was kept after so many writes."""
        for oid, kept in list(self._kept.items()):
            while kept and kept[-1][0] >= writes:
                os.remove(kept.pop()[1])
            if not kept:
                del self._kept[oid]

    def close(self) -> None:
        """Remove all files that nobody took over."""
        if self._directory is not None:
            import shutil

            shutil.rmtree(self._directory, ignore_errors=True)
