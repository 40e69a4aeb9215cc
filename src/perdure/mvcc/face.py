"""What a view shows of its storage that is the same at every snapshot."""

from typing import Any

from zope.interface import alsoProvides

from perdure._coexist import adopting
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage

__all__ = ["StorageFace", "nothing"]


def nothing(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


class StorageFace:
    """The part of a storage's face that is the same at every snapshot."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        if IBlobStorage.providedBy(storage):
            alsoProvides(self, IBlobStorage)

    def __len__(self) -> int:
        return len(self._storage)

    def __bool__(self) -> bool:
        return True

    def getName(self) -> str:
        """Return the storage's name."""
        name: str = self._storage.getName()
        return name

    def getSize(self) -> int:
        """Return the storage's approximate size in bytes."""
        size: int = self._storage.getSize()
        return size

    def sortKey(self) -> str:
        """Return the storage's place among the resources of a transaction."""
        key: str = self._storage.sortKey()
        return key

    def isReadOnly(self) -> bool:
        """Tell whether nothing can be committed."""
        return bool(self._storage.isReadOnly())

    def lastTransaction(self) -> Tid:
        """Return the newest tid in the storage."""
        tid: Tid = self._storage.lastTransaction()
        return tid

    @adopting
    def history(self, oid: Oid, size: int = 1) -> Any:
        """Return descriptions of the newest revisions of an object."""
        # By keyword: there are storages with a version in between.
        return self._storage.history(oid, size=size)

    @adopting
    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last record before *tid*."""
        found: tuple[bytes, Tid, Tid | None] | None = self._storage.loadBefore(oid, tid)
        return found

    @adopting
    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return the data that one transaction wrote."""
        data: bytes = self._storage.loadSerial(oid, serial)
        return data

    def supportsUndo(self) -> bool:
        """Tell whether the storage can undo."""
        supports = getattr(self._storage, "supportsUndo", None)
        return bool(supports and supports())

    @adopting
    def undoLog(self, *args: Any, **kwargs: Any) -> Any:
        """Return descriptions of what can be undone."""
        return self._storage.undoLog(*args, **kwargs)

    @adopting
    def undoInfo(self, *args: Any, **kwargs: Any) -> Any:
        """Return descriptions of what can be undone."""
        return self._storage.undoInfo(*args, **kwargs)

    @adopting
    def undo_plan(self, transaction_id: bytes, oids: Any = None) -> Any:
        """Say what undoing a transaction would do."""
        return self._storage.undo_plan(transaction_id, oids)

    @adopting
    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's data."""
        path: str = self._storage.loadBlob(oid, serial)
        return path

    @adopting
    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as an open file."""
        return self._storage.openCommittedBlobFile(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for blobs that aren't committed yet."""
        path: str = self._storage.temporaryDirectory()
        return path

    def afterCompletion(self) -> None:
        """Take note that a transaction has ended."""
