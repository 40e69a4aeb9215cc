"""Looking at objects, their past states and their records."""

from collections.abc import Iterable, Iterator
from typing import Any

from perdure.connection.rootobject import RootConvenience
from perdure.connection.state import ConnectionState
from perdure.ids import NO_TID, ROOT_OID, Oid, Tid
from perdure.interfaces import IMVCCPrefetchStorage

__all__ = ["Reading"]


class Reading(ConnectionState):
    """The part of a connection that gives access to objects."""

    @property
    def root(self) -> Any:
        """The root object: its items are attributes, calling it gives the mapping."""
        return RootConvenience(self.get(ROOT_OID))

    def get_connection(self, database_name: str) -> Any:
        """Return the connection of this set to another member of the collection.

        Raises KeyError if there is no database of that name.
        """
        return self._set.get(database_name)

    def __getitem__(self, key: str | bytes) -> Any:
        """Return the connection to the member of that name, or the object of that oid.

        Raises KeyError if there is none.
        """
        return self._set.get(key) if isinstance(key, str) else self.get(key)

    def isReadOnly(self) -> bool:
        """Tell whether changes can't be committed.

        Raises ConnectionStateError if the connection is closed.
        """
        self._require_open()
        return bool(self._storage.isReadOnly())

    def oldstate(self, obj: Any, tid: Tid) -> Any:
        """Return the state of *obj* that the transaction *tid* wrote.

        Raises POSKeyError if it wrote none.
        """
        self._require_own(obj)
        return self._reader.getState(self._storage.loadSerial(obj._p_oid, tid))

    def readCurrent(self, obj: Any) -> None:
        """Have the commit fail with ReadConflictError if others change *obj* before it.

        For information that is read from one object to decide what is written
        to another.
        """
        self._require_own(obj)
        obj._p_activate()
        if obj._p_serial != NO_TID:
            self._readCurrent[obj._p_oid] = obj._p_serial
            if len(self._db.databases) > 1 and not self._normal_storage.isReadOnly():
                # What depends on it may be written to another member.
                self._register()

    def _require_own(self, obj: Any) -> None:
        if obj._p_jar is not self:
            raise ValueError(f"{obj!r} doesn't belong to {self!r}")

    def prefetch(self, *args: Any) -> None:
        """Have the storage begin to fetch objects that will be needed.

        Each argument is an oid, an object of this connection or an iterable of these, to any
        depth. Objects whose state is loaded, new ones and those of others are passed over. Where each load is
        a journey (ZEO, RelStorage) this saves most of them; a file of perdure's own is read as
        fast without. Raises TypeError for anything else, ConnectionStateError if the connection
        is closed.
        """
        self._require_open()
        oids = list(dict.fromkeys(self._missing_oids(args)))
        if oids and IMVCCPrefetchStorage.providedBy(self._normal_storage):
            self._normal_storage.prefetch(oids)

    def _missing_oids(self, items: Iterable[Any]) -> Iterator[Oid]:
        """The oids of what isn't loaded yet, of *items* and what is in them."""
        for item in items:
            if isinstance(item, bytes):
                yield Oid(item)
            elif hasattr(item, "_p_oid"):
                if item._p_jar is self and item._p_changed is None:
                    yield item._p_oid
            elif isinstance(item, Iterable) and not isinstance(item, str):
                yield from self._missing_oids(item)
            else:
                raise TypeError(
                    f"can't prefetch {item!r}: give oids (8 bytes), objects or iterables of these"
                )

    def getTransferCounts(self, clear: bool = False) -> tuple[int, int]:
        """Return how many objects were loaded and stored; *clear* begins anew."""
        counts = self._load_count, self._store_count
        if clear:
            self._load_count = 0
            self._store_count = 0
        return counts
