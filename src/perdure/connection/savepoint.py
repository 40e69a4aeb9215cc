"""Savepoints: records that were written inside a transaction that still runs.

They are kept in memory up to `MEMORY_BYTES_MAX` and then in a temporary file,
so that the objects themselves may leave memory.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from transaction.interfaces import IDataManagerSavepoint
from zope.interface import alsoProvides, implementer

from perdure.blob import BlobFile
from perdure.connection.blobs import SavedBlob, SavepointBlobs
from perdure.errors import ConnectionStateError
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage

__all__ = ["Savepoint", "SavepointStorage"]

MEMORY_BYTES_MAX: Final = 4 * 1024 * 1024
"""How much of uncommitted records is kept in memory."""


class _Place(NamedTuple):
    start: int
    length: int
    serial: Tid


class Mark(NamedTuple):
    """How far a savepoint storage had got."""

    end: int
    """Bytes of records written."""
    writes: int
    """Records written."""
    created: int
    """New objects among them."""


class SavepointStorage:
    """What a connection reads through once its transaction has savepoints.

    Records written since the transaction began come from here, all others from
    the connection's own view.
    """

    def __init__(self, view: Any) -> None:
        import tempfile  # late: it takes memory, and few programs make savepoints

        self._view = view
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES_MAX, prefix="perdure-")  # noqa: SIM115 - closed by close()
        self._end = 0
        self._places: dict[Oid, _Place] = {}
        # One item per write: what it replaced.
        self._replaced: list[tuple[Oid, _Place | None]] = []
        # New objects, in order; the value tells whether they were reached (True)
        # or added explicitly (False).
        self.created: dict[Oid, bool] = {}
        self._blobs = SavepointBlobs()
        if IBlobStorage.providedBy(view):
            alsoProvides(self, IBlobStorage)

    def __getattr__(self, name: str) -> Any:
        """Everything that isn't about records is the view's business."""
        return getattr(self._view, name)

    def __contains__(self, oid: Oid) -> bool:
        return oid in self._places

    def __iter__(self) -> Iterator[Oid]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def getSize(self) -> int:
        """Return the number of bytes written."""
        return self._end

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid*, the uncommitted ones if there are any."""
        place = self._places.get(oid)
        if place is None:
            data, serial = self._view.load(oid)
            return data, serial
        self._file.seek(place.start)
        return self._file.read(place.length), place.serial

    def record(self, oid: Oid) -> tuple[Oid, Tid, bytes, Any]:
        """Return the uncommitted record of *oid*."""
        data, serial = self.load(oid)
        path = self._blobs.get(oid)
        return oid, serial, data, None if path is None else SavedBlob(path)

    def store(
        self, oid: Oid, serial: Tid, data: bytes, version: str = "", transaction: Any = None
    ) -> None:
        """Keep a record; *serial* is the revision that it was made from."""
        try:
            self._file.seek(self._end)
            self._file.write(data)
        except ValueError as error:
            raise ConnectionStateError(
                "the savepoint is gone: the database was closed while it was in use"
            ) from error
        self._replaced.append((oid, self._places.get(oid)))
        self._places[oid] = _Place(self._end, len(data), serial)
        self._end += len(data)

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> None:
        """Keep a blob's record, and its file."""
        self._blobs.keep(oid, blobfilename, self._view.temporaryDirectory(), len(self._replaced))
        self.store(oid, oldserial, data, version, transaction)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's data, the uncommitted if there are any."""
        path = self._blobs.get(oid)
        return str(self._view.loadBlob(oid, serial)) if path is None else path

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as an open file."""
        path = self._blobs.get(oid)
        if path is None:
            return self._view.openCommittedBlobFile(oid, serial, blob)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)  # noqa: PTH123

    def oids_of_blobs(self) -> list[Oid]:
        """Return the oids of the blobs that were kept."""
        return self._blobs.oids()

    def mark(self) -> Mark:
        """Return the present state, for `reset`."""
        return Mark(self._end, len(self._replaced), len(self.created))

    def reset(self, mark: Mark) -> None:
        """Forget what was written since *mark*."""
        while len(self._replaced) > mark.writes:
            oid, place = self._replaced.pop()
            if place is None:
                del self._places[oid]
            else:
                self._places[oid] = place
        while len(self.created) > mark.created:
            self.created.popitem()
        self._blobs.reset(mark.writes)
        self._end = mark.end
        self._file.seek(mark.end)
        self._file.truncate()

    def close(self) -> None:
        """Free memory and files."""
        self._file.close()
        self._blobs.close()


@implementer(IDataManagerSavepoint)
class Savepoint:
    """A state within a transaction that a connection, or several, can go back to."""

    def __init__(self, marks: list[tuple[Any, Mark]]) -> None:
        self._marks = marks

    def rollback(self) -> None:
        """Take back what was done since."""
        for connection, mark in self._marks:
            connection._rollback_savepoint(mark)
