"""Two storages read as one: changes over a base that is never written.

That an object of the base is deleted is a record of its own kind in the changes, which
a pack of the changes keeps. A record without data there is no deletion, but what undoing
the object's first change leaves: the object is as the base has it again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from zope.interface import alsoProvides, implementer

from perdure.errors import POSKeyError
from perdure.ids import MAX_TID, NO_TID, Oid, Tid
from perdure.interfaces import (
    IBlobStorage,
    IBlobStorageRestoreable,
    IExternalGC,
    IStorage,
    IStorageCurrentRecordIteration,
    IStorageIteration,
    IStorageRestoreable,
)
from perdure.storage._missing import missing_object
from perdure.storage._overlay_committing import OverlayCommitting
from perdure.storage._overlay_records import ChainedTransactions, deletion_record, next_record
from perdure.storage._tids import ITakesTids
from perdure.storage._transforming import TransformedTransactions
from perdure.utils import load_current

__all__ = ["Overlay"]

_ALL = 1 << 31
"""More revisions than any object has."""


@implementer(IStorage, IStorageIteration, IExternalGC)
class Overlay(OverlayCommitting):
    """The storage *changes* over the storage *base*.

    An object is read from the changes, if they have a revision of it at the time
    asked for; that it was deleted counts. Otherwise it is read from the base. Everything
    is written to the changes; the base must not change.
    """

    def __init__(self, base: Any, changes: Any) -> None:
        super().__init__()
        self.base = base
        self.changes = changes
        self._above: Any = None
        # Overlays that serve as changes have deletions of their own, which aren't ours.
        self.overlays_below: int = 1 + getattr(changes, "overlays_below", -1)
        self._deletion = deletion_record(self.overlays_below)
        self._declare()

    def _declare(self) -> None:
        """Say which of the interfaces of the layers this storage provides."""
        of_changes = (IBlobStorage, IStorageRestoreable, IBlobStorageRestoreable, ITakesTids)
        for interface in of_changes:
            if interface.providedBy(self.changes):
                alsoProvides(self, interface)
        layers = (self.base, self.changes)
        if all(IStorageCurrentRecordIteration.providedBy(layer) for layer in layers):
            alsoProvides(self, IStorageCurrentRecordIteration)

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return True

    # Facts

    def getName(self) -> str:
        """Return the name of the changes over that of the base."""
        return f"{self.changes.getName()} over {self.base.getName()}"

    def getSize(self) -> int:
        """Return the size of the changes in bytes."""
        return int(self.changes.getSize())

    def sortKey(self) -> str:
        """Return the sort key of the changes."""
        return str(self.changes.sortKey())

    def isReadOnly(self) -> bool:
        """Tell whether the changes can't be changed."""
        return bool(self.changes.isReadOnly())

    def lastTransaction(self) -> Tid:
        """Return the last tid of the changes, or of the base where they have none."""
        last: Tid = self.changes.lastTransaction()
        return self.base.lastTransaction() if last == NO_TID else last

    def registerDB(self, wrapper: Any) -> None:
        """Accept the layer above; the changes know it too."""
        super().registerDB(wrapper)
        self._above = wrapper
        self.changes.registerDB(wrapper)

    # Reading

    def load(self, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
        """Return the current record and its serial, or raise POSKeyError."""
        return load_current(self, oid, version)

    def getTid(self, oid: Oid) -> Tid:
        """Return the serial of the current record, or raise POSKeyError."""
        return self.load(oid)[1]

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last record before *tid*.

        None where the object did not exist yet; POSKeyError where it is unknown, or
        was deleted by then.
        """
        found = _before(self.changes, oid, tid)
        if found is not None:
            if found[0] == self._deletion:
                raise POSKeyError(oid, tid=found[1])
            return found
        changed = self._tids_of_changes(oid)
        undone = max((each for each in changed if each < tid), default=None)
        end = min((each for each in changed if each >= tid), default=None)
        return self._load_from_base(oid, tid, undone, end)

    def _load_from_base(
        self, oid: Oid, tid: Tid, undone: Tid | None, end: Tid | None
    ) -> tuple[bytes, Tid, Tid | None] | None:
        """Return the base's revision, which the revision *undone* of the changes stands for."""
        found = _before(self.base, oid, tid if undone is None else MAX_TID)
        if found is None:
            if end is None or undone is not None:
                raise POSKeyError(oid, tid=undone)
            return None
        data, serial, base_end = found
        if undone is not None:
            return data, undone, end
        return data, serial, end if base_end is None else base_end

    def _tids_of_changes(self, oid: Oid) -> list[Tid]:
        """The tids of the object's revisions in the changes, the first one first."""
        try:
            known = self.changes.history(oid, size=_ALL)
        except missing_object():
            return []
        return [Tid(entry["tid"]) for entry in reversed(known)]

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return what one transaction wrote, or raise POSKeyError."""
        try:
            data: bytes = self.changes.loadSerial(oid, serial)
        except missing_object():
            data = self.base.loadSerial(oid, self._serial_in_base(oid, serial))
        if data == self._deletion:
            raise POSKeyError(oid, tid=serial)
        return data

    def _serial_in_base(self, oid: Oid, serial: Tid) -> Tid:
        """Return the serial that a revision has in the base, be it undoing that brought it back."""
        if serial not in self._tids_of_changes(oid):
            return serial
        found = _before(self.base, oid, MAX_TID)
        if found is None:
            raise POSKeyError(oid, tid=serial)
        return found[1]

    def history(self, oid: Oid, size: int = 1) -> list[Mapping[str, Any]]:
        """Return descriptions of the newest *size* revisions, newest first."""
        try:
            known = list(self.changes.history(oid, size=size))
        except missing_object():
            return list(self.base.history(oid, size=size))
        if len(known) < size:
            try:
                known += self.base.history(oid, size=size - len(known))
            except missing_object():
                return known
        return known

    def iterator(self, start: Tid | None = None, stop: Tid | None = None) -> Iterator[Any]:
        """Iterate over the transactions of the base, then those of the changes."""
        changes = self.changes.iterator(start, stop)
        seen = TransformedTransactions(changes, self._as_seen)
        return ChainedTransactions(self.base.iterator(start, stop), seen)

    def _as_seen(self, record: Any) -> None:
        """Have a record of the changes say what became of the object in this storage."""
        if record.data == self._deletion:
            record.data = None
        elif not record.data:
            found = _before(self.base, record.oid, MAX_TID)
            record.data = None if found is None else found[0]

    def record_iternext(self, next: Any = None) -> tuple[Oid, Tid, bytes, Any]:  # noqa: A002
        """Return a current record and what to pass for the next one, None after the last.

        The records come in the order of their oids; ValueError where there is none.
        """
        return next_record(self, next)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        layer, serial = self._place_of_blob(oid, serial)
        return str(layer.loadBlob(oid, serial))

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        layer, serial = self._place_of_blob(oid, serial)
        return layer.openCommittedBlobFile(oid, serial, blob)

    def _place_of_blob(self, oid: Oid, serial: Tid) -> tuple[Any, Tid]:
        """Return the layer that has a blob's revision, and the serial that it has there."""
        changes = self._blob_changes()
        try:
            changes.loadSerial(oid, serial)
        except missing_object():
            if IBlobStorage.providedBy(self.base):
                return self.base, self._serial_in_base(oid, serial)
        return changes, serial

    def temporaryDirectory(self) -> str:
        """Return the directory of the changes for blobs that aren't committed."""
        return str(self._blob_changes().temporaryDirectory())

    def _blob_changes(self) -> Any:
        """Return the changes, able to keep blobs."""
        return self.changes

    # Giving out oids

    def _is_used(self, oid: Oid) -> bool:
        """Tell whether either layer has, or ever had, an object with this oid."""
        return bool(self._tids_of_changes(oid)) or self._is_in_base(oid)

    def _is_in_base(self, oid: Oid) -> bool:
        """Tell whether the base has the object."""
        return _before(self.base, oid, MAX_TID) is not None


def _before(layer: Any, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
    """Return the layer's last revision before *tid*; None: there is none, or it has no data."""
    try:
        found: tuple[bytes, Tid, Tid | None] | None = layer.loadBefore(oid, tid)
    except missing_object():
        return None
    return found
