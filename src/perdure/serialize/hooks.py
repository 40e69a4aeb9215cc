"""What a connection's object path leaves to Python."""

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from perdure._blobtail import length_in
from perdure.errors import ForbiddenClassError, InvalidObjectReference
from perdure.ids import Oid, Tid

if TYPE_CHECKING:
    from perdure.serialize.classes import AllowedClasses
    from perdure.serialize.reader import ObjectReader, ReadingConnection


@cache
def _reader_class() -> "type[ObjectReader]":
    # Late: nearly all records are read natively. Once: references to other members come by.
    from perdure.serialize.reader import ObjectReader

    return ObjectReader


class ConnectionHooks:
    """The decisions that reading and writing objects asks a connection for.

    The connection's constructor sets `_cache` (a `persistent.PickleCache`), `_storage` (the view
    that it reads through), `_db` and, where objects can be added before they are stored, `_added`
    (a dict from oid to object). `opened` is None while the connection is closed.
    """

    _cache: Any
    _storage: Any
    _db: Any
    _allowed: "AllowedClasses | None" = None
    """The database's class policy."""

    _placing: Any = None
    """While a commit or savepoint is told where new objects go: what knows it."""

    @property
    def _reader(self) -> "ObjectReader":
        """The reader that belongs to this connection's cache."""
        return _reader_class()(
            cast("ReadingConnection", self), self._cache, self._db.classFactory, self._allowed
        )

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

    def _describe_failure(self, error: BaseException, obj: Any) -> None:
        """Tell an error that loading *obj* raised what is known of the object."""

    def _describe_refusal(self, error: BaseException, oid: Oid) -> None:
        """Tell an error that looking at the record *oid* raised which one that was."""
        if isinstance(error, ForbiddenClassError) and error.oid is None:
            error.oid = oid

    def _adopt(self, obj: Any) -> None:
        """Give the new object *obj* its place: in this database, if nothing says otherwise."""
        placing = self._placing
        if placing is not None and placing.place(self, obj):
            return
        obj._p_oid = self.new_oid()
        obj._p_jar = self

    def _foreign_reference(self, obj: Any) -> Any:
        """Return the reference to write for an object of another connection, or raise."""
        raise InvalidObjectReference(
            "Attempt to store an object from a foreign database connection", obj
        )

    def _weak_database(self, weak: Any) -> str:
        """Return the name of the member that a weak reference leads to, or raise."""
        name: str = weak.dm.db().database_name
        return name

    def _blob_loaded(self, obj: Any, oid: Oid, serial: Tid, record: bytes) -> None:
        """Tell a blob where its committed data is (called after its state is loaded)."""
        obj._p_blob_uncommitted = None
        obj._p_blob_bytes = length_in(record)
        obj._p_blob_committed = self._storage.loadBlob(oid, serial)
