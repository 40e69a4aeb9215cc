"""The object path of a connection, in Python."""

from typing import Any

from perdure.errors import ConnectionStateError, InvalidObjectReference
from perdure.ids import Oid, Tid, oid_repr
from perdure.serialize.reader import ObjectReader


class ConnectionBase:
    """Loads a connection's objects; base of `perdure.Connection`.

    The connection's constructor sets `_cache` (a `persistent.PickleCache`), `_storage` (the view
    that it reads through), `_db` and, where objects can be added before they are stored, `_added`
    (from oid to object). `opened` is None while the connection is closed.
    """

    _cache: Any
    _storage: Any
    _db: Any
    _added: dict[Oid, Any]
    opened: float | None
    _load_count: int = 0

    def setstate(self, obj: Any) -> None:
        """Load the state of the ghost *obj* (called by `persistent` when it is needed).

        Raises ConnectionStateError when the connection is closed, POSKeyError when the object's
        record is gone, StateLoadError when it can't be read.
        """
        oid = obj._p_oid
        if self.opened is None:
            name = f"{type(obj).__module__}.{type(obj).__qualname__}"
            raise ConnectionStateError(
                f"can't load the state of {name} {oid_repr(oid)}: the connection is closed"
            )
        data, serial = self._storage.load(oid)
        self._load_count += 1
        self._reader.setGhostState(obj, data)
        obj._p_serial = serial
        self._cache.update_object_size_estimation(oid, len(data))
        obj._p_estimated_size = len(data)
        if hasattr(type(obj), "_p_blob_committed"):
            self._blob_loaded(obj, oid, serial)

    def get(self, oid: Oid) -> Any:
        """Return the object at *oid*: from the cache, just added, or as a new ghost.

        Raises ConnectionStateError when the connection is closed, POSKeyError when there is no
        such object.
        """
        if self.opened is None:
            raise ConnectionStateError("The database connection is closed")
        for known in (self._cache, self._added, self._being_made):
            found = known.get(oid)
            if found is not None:
                return found
        data, _ = self._storage.load(oid)
        ghost = self._reader.getGhost(data)
        # A persistent class loads its state at once, and that may refer back to it.
        self._being_made[oid] = ghost
        try:
            self._cache.new_ghost(oid, ghost)
        finally:
            del self._being_made[oid]
        return ghost

    @property
    def _reader(self) -> ObjectReader:
        """The reader that belongs to this connection's cache."""
        return ObjectReader(self, self._cache, type(self)._find_class)

    @property
    def _being_made(self) -> dict[Oid, Any]:
        found: dict[Oid, Any] = self.__dict__.setdefault("_ghosts_being_made", {})
        return found

    def _find_class(self, module: str, name: str) -> Any:
        """Return the class that records call *module*.*name*."""
        return self._db.classFactory(self, module, name)

    def get_connection(self, database_name: str) -> Any:
        """Return the connection to another member of the collection."""
        raise NotImplementedError

    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        oid: Oid = self._storage.new_oid()
        return oid

    def _foreign(self, database_name: str, oid: Oid, cls: Any) -> Any:
        """Return an object of another member; *cls* is None where the reference has none."""
        other = self.get_connection(database_name)
        if cls is None:
            return other._reader.load_oid(oid)
        return other._reader.load_persistent(oid, cls)

    def _adopt(self, obj: Any) -> None:
        """Give the new object *obj* its place in this database."""
        obj._p_oid = self.new_oid()
        obj._p_jar = self

    def _foreign_reference(self, obj: Any) -> Any:
        """Return the reference to write for an object of another connection, or raise."""
        raise InvalidObjectReference(
            "Attempt to store an object from a foreign database connection", obj
        )

    def _weak_database(self, jar: Any) -> str:
        """Return the name of the member that *jar* is a connection to."""
        name: str = jar.db().database_name
        return name

    def _blob_loaded(self, obj: Any, oid: Oid, serial: Tid) -> None:
        """Tell a blob where its committed data is (called after its state is loaded)."""
        obj._p_blob_uncommitted = None
        obj._p_blob_committed = self._storage.loadBlob(oid, serial)
