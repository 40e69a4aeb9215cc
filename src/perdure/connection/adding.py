"""Where objects belong: adding new ones, and referring to those of other members."""

from typing import Any

from perdure.connection.integrity import note_foreign_target
from perdure.connection.state import ConnectionState
from perdure.errors import InvalidObjectReference
from perdure.ids import Oid, oid_repr

__all__ = ["Adding"]


def _described(obj: Any) -> str:
    cls = type(obj)
    return f"{cls.__module__}.{cls.__qualname__} {oid_repr(obj._p_oid)}"


class Adding(ConnectionState):
    """The part of a connection that gives objects their place."""

    def add(self, obj: Any) -> None:
        """Add the new object *obj* to this database; it gets its oid at once.

        Nothing happens if it is here already.  Raises TypeError if it isn't a
        persistent object, InvalidObjectReference if it belongs to another
        connection, ConnectionStateError if this one is closed.
        """
        self._require_open()
        unknown = object()
        if getattr(obj, "_p_oid", unknown) is unknown:
            raise TypeError(
                "Only first-class persistent objects may be added to a connection; "
                f"{type(obj).__qualname__} isn't derived from persistent.Persistent",
                obj,
            )
        if obj._p_jar is None:
            self._add(obj, self.new_oid())
        elif obj._p_jar is not self:
            raise self._belongs_elsewhere(obj)

    def _add(self, obj: Any, oid: Oid) -> None:
        obj._p_oid = oid
        obj._p_jar = self
        if self._added_during_commit is not None:
            self._added_during_commit.append(obj)
        self._register(obj)
        # Only now: while it isn't here, `register` takes the object for an old one.
        self._added[oid] = obj

    def _implicitlyAdding(self, oid: Oid) -> bool:
        """Tell whether this transaction creates an object because it was reached."""
        if self._creating.get(oid):
            return True
        savepoint = self._savepoint_storage
        return savepoint is not None and savepoint.created.get(oid, False)

    def _belongs_elsewhere(self, obj: Any) -> InvalidObjectReference:
        names = [self._db.database_name, self._database_name(obj._p_jar)]
        return InvalidObjectReference(
            f"{_described(obj)} belongs to another connection (to database {names[1]!r}); "
            f"it can't be added to {names[0]!r}",
            object=obj,
            databases=names,
        )

    def _database_name(self, jar: Any) -> str:
        database = getattr(jar, "db", lambda: None)()
        return str(getattr(database, "database_name", "unknown"))

    def _foreign_reference(self, obj: Any) -> Any:
        """Return the reference to write for an object of another connection.

        Raises InvalidObjectReference, naming object and members, if this
        database may not refer to it.
        """
        name = self._database_name(obj._p_jar)
        reason = self._why_not_foreign(obj, name)
        if reason is not None:
            raise InvalidObjectReference(
                reason, object=obj, databases=(self._db.database_name, name)
            )
        if obj._p_jar._implicitlyAdding(obj._p_oid):
            raise self._reached_from_several(obj, name)
        if self._db.check_references:
            note_foreign_target(self, name, obj)
        cls = type(obj)
        # A class with __getnewargs__ can't be instantiated from the reference alone.
        if hasattr(cls, "__getnewargs__"):
            return ["n", (name, obj._p_oid)]
        return ["m", (name, obj._p_oid, cls)]

    def _why_not_foreign(self, obj: Any, name: str) -> str | None:
        jar = obj._p_jar
        reason = self._why_not_of_database(jar, name, _described(obj))
        if reason is None and self._set.get(name) is not jar:
            return (
                "Attempt to store a reference to an object from a separate connection to the "
                f"same database or multidatabase: {_described(obj)} was loaded by {jar!r}; "
                f"load it through get_connection({name!r}) of {self!r}"
            )
        return reason

    def _why_not_of_database(self, jar: Any, name: str, described: str) -> str | None:
        """Return why nothing here may refer to objects that *jar* loads, if that is so."""
        own = self._db.database_name
        if not self._db.xrefs:
            return (
                f"Database {own!r} doesn't allow implicit cross-database references "
                f"(xrefs=False): {described} is in {name!r}"
            )
        if self._db.databases.get(name) is None or self._db.databases[name] is not jar.db():
            return (
                f"Attempt to store an object from a foreign database connection: "
                f"{described} is in {name!r}, which isn't in one collection with {own!r}"
            )
        return None

    def _weak_database(self, weak: Any) -> str:
        """Return the name of the member that a weak reference leads to.

        Raises InvalidObjectReference, naming object and members, if this
        database may not refer to it.
        """
        jar = weak.dm
        name = self._database_name(jar)
        if getattr(jar, "db", lambda: None)() is not self._db:
            target = getattr(weak, "_v_ob", None)
            described = f"object {oid_repr(weak.oid)}" if target is None else _described(target)
            reason = self._why_not_of_database(jar, name, described)
            if reason is not None:
                raise InvalidObjectReference(
                    reason, object=target, databases=(self._db.database_name, name)
                )
        return name

    def _reached_from_several(self, obj: Any, name: str) -> InvalidObjectReference:
        from perdure.connection.reaching import members_that_reach  # late: for this error only

        found = members_that_reach(self.connections, obj)
        names = list(dict.fromkeys([self._db.database_name, name, *found]))
        listed = f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r}"
        return InvalidObjectReference(
            "A new object is reachable from multiple databases. Won't try to guess which "
            f"one was correct! {_described(obj)} is reachable from {listed}: "
            "add() it to the connection of one of them, or give its class a route",
            object=obj,
            databases=names,
        )
