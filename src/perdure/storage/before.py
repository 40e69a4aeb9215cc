"""An unchanging view of a storage that changes."""

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from persistent.timestamp import TimeStamp
from zope.interface import alsoProvides, implementer

from perdure.errors import POSKeyError, ReadOnlyError
from perdure.ids import NO_TID, Oid, Tid
from perdure.interfaces import (
    IBlobStorage,
    IStorage,
    IStorageCurrentRecordIteration,
    IStorageIteration,
)
from perdure.storage._overlay_records import next_record
from perdure.timestamp import tid_after, tid_at_datetime
from perdure.utils import at2before, before2at, load_current

__all__ = ["BeforeStorage", "moment_of"]


@implementer(IStorage, IStorageIteration)
class BeforeStorage:
    """The storage *base* as it was before the moment *before*, for reading alone.

    *before* is a tid, a datetime (one without time zone is UTC) or its text as in
    ``2026-11-21T10:30``; by default the moment at which the view is made. What is
    committed to *base* later isn't seen, so the view is a sound base of a
    `perdure.storage.demo.DemoStorage`. It is of no use for a base that is packed to a
    later time than *before*.

    What would write raises ReadOnlyError. ValueError where *before* is no moment.
    """

    def __init__(self, base: Any, before: Tid | dt.datetime | str | None = None) -> None:
        self.base = base
        self.before = _tid(base, before)
        if IBlobStorage.providedBy(base):
            alsoProvides(self, IBlobStorage)
        self._records: _RecordsBefore | None = None
        if IStorageCurrentRecordIteration.providedBy(base) and IStorageIteration.providedBy(base):
            alsoProvides(self, IStorageCurrentRecordIteration)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.getName()}>"

    def __len__(self) -> int:
        return len(self.base)

    def close(self) -> None:
        """Close the base."""
        self.base.close()

    def getName(self) -> str:
        """Return the base's name and the moment."""
        return f"{self.base.getName()} before {TimeStamp(self.before)}"

    def getSize(self) -> int:
        """Return the base's size in bytes."""
        return int(self.base.getSize())

    def sortKey(self) -> str:
        """Return the base's sort key."""
        return str(self.base.sortKey())

    def isReadOnly(self) -> bool:
        """Return True."""
        return True

    def registerDB(self, wrapper: Any) -> None:
        """Ignore the layer above: it has nothing to be told, since nothing changes here."""

    def lastTransaction(self) -> Tid:
        """Return the last tid that could be seen here."""
        return before2at(self.before)

    def getTid(self, oid: Oid) -> Tid:
        """Return the serial of the last record before the moment, or raise POSKeyError."""
        return self.load(oid)[1]

    def load(self, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
        """Return the last record before the moment and its serial, or raise POSKeyError."""
        return load_current(self, oid, version)

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last record before *tid*."""
        found = self.base.loadBefore(oid, min(tid, self.before))
        if found is None:
            return None
        data, serial, end = found
        return data, serial, None if end is None or end >= self.before else end

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return what the transaction *serial* wrote, or raise POSKeyError."""
        self._check_seen(oid, serial)
        data: bytes = self.base.loadSerial(oid, serial)
        return data

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        self._check_seen(oid, serial)
        return str(self.base.loadBlob(oid, serial))

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        self._check_seen(oid, serial)
        return self.base.openCommittedBlobFile(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the base's directory for blobs that aren't committed."""
        return str(self.base.temporaryDirectory())

    def history(self, oid: Oid, size: int = 1) -> list[Mapping[str, Any]]:
        """Return descriptions of the *size* newest revisions before the moment."""
        asked = size
        while True:
            known = self.base.history(oid, size=asked)
            seen = [entry for entry in known if entry["tid"] < self.before]
            if len(seen) >= size or len(known) < asked:
                return seen[:size]
            asked *= 2

    def iterator(self, start: Tid | None = None, stop: Tid | None = None) -> Iterator[Any]:
        """Iterate over the transactions before the moment, from *start* to *stop*."""
        last = self.lastTransaction()
        iterator: Iterator[Any] = self.base.iterator(
            start, last if stop is None else min(stop, last)
        )
        return iterator

    def record_iternext(self, next: Any = None) -> tuple[Oid, Tid, bytes, Any]:  # noqa: A002
        """Return a record that was current at the moment, and what to pass for the next one.

        The records come in the order of their oids; what is next is None after the last.
        ValueError where there is none.
        """
        if self._records is None:
            self._records = _RecordsBefore(self)
        return next_record(self._records, next)

    def new_oid(self) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def pack(self, pack_time: float, referencesf: Callable[..., Any]) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def deleteObject(self, oid: Oid, oldserial: Tid, transaction: Any) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def tpc_begin(self, transaction: Any, tid: Tid | None = None, status: str = " ") -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def tpc_vote(self, transaction: Any) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def tpc_finish(
        self, transaction: Any, func: Callable[[Tid], object] = lambda tid: None
    ) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse()

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: there is no transaction."""

    def tpc_transaction(self) -> None:
        """Return None: there is no transaction."""

    def _check_seen(self, oid: Oid, serial: Tid) -> None:
        if serial >= self.before:
            raise POSKeyError(oid, tid=serial)

    def _refuse(self) -> NoReturn:
        raise ReadOnlyError(f"{self.getName()} is a view of the past: it can't be changed")


class _RecordsBefore:
    """The records of a view, as those of two layers: the base's, and those deleted there since."""

    def __init__(self, view: BeforeStorage) -> None:
        self.base = view.base
        self.changes = _DeletedSince(view.base, view.before)
        self.load = view.load


class _DeletedSince:
    """The oids of what was deleted in *base* from the transaction *since* on."""

    def __init__(self, base: Any, since: Tid) -> None:
        self._base = base
        self._next = since
        self._oids: list[Oid] = []

    def record_iternext(self, next: Oid | None = None) -> tuple[Oid, Tid, bytes, Oid | None]:  # noqa: A002
        """Return the first oid from *next* on and the one after it, as a storage does."""
        self._look()
        at = 0 if next is None else bisect_left(self._oids, next)
        found = self._oids[at : at + 2]
        if not found:
            raise ValueError("nothing was deleted there")
        return found[0], NO_TID, b"", found[1] if len(found) > 1 else None

    def _look(self) -> None:
        last: Tid = self._base.lastTransaction()
        if last < self._next:
            return
        deleted = set(self._oids)
        for transaction in self._base.iterator(self._next, last):
            deleted.update(record.oid for record in transaction if record.data is None)
        self._oids, self._next = sorted(deleted), at2before(last)


def _tid(base: Any, before: Tid | dt.datetime | str | None) -> Tid:
    if before is None:
        # A clock that was set back must not hide what is already there.
        last = base.lastTransaction()
        return tid_after(None if last == NO_TID else at2before(last))
    if isinstance(before, str):
        before = moment_of(before)
    if isinstance(before, dt.datetime):
        return tid_at_datetime(before)
    if len(before) != len(NO_TID):
        raise ValueError(f"a tid has 8 bytes: {before!r}")
    return before


def moment_of(text: str) -> dt.datetime:
    """Return the moment that a text such as ``2026-11-21T10:30`` names, or raise ValueError."""
    day, _, time = text.strip().replace(" ", "T").partition("T")
    # What `fromisoformat` leaves out before Python 3.11: an hour alone.
    time = f"{time}:00" if time.isdigit() else time
    try:
        return dt.datetime.fromisoformat(f"{day}T{time}" if time else day)
    except ValueError as error:
        raise ValueError(f"no moment, as in 2026-11-21T10:30: {text!r}") from error
