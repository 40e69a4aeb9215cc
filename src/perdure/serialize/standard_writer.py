"""From objects to records, by the standard `pickle`."""

from collections.abc import Iterator
from typing import Any, Protocol, cast

from persistent import Persistent
from persistent.wref import WeakRef, WeakRefMarker

from perdure.broken import PersistentBroken
from perdure.ids import Oid
from perdure.serialize.pickling import dump_both, dump_by_name
from perdure.serialize.unpicklable import WHAT_PICKLE_RAISES, explanation
from perdure.serialize.writer import describe, reference

__all__ = ["StandardObjectWriter", "WritingConnection"]

_REFERABLE: tuple[Any, ...] = (Persistent, type, WeakRef)


class WritingConnection(Protocol):
    """What the writer asks of a connection."""

    def _adopt(self, obj: Any) -> None:
        """Give a new object its place: sets its `_p_oid` and `_p_jar`."""

    def _foreign_reference(self, obj: Any) -> Any:
        """Return the reference to write for an object of another connection."""

    def _weak_database(self, weak: WeakRef) -> str:
        """Return the name of the member that a weak reference leads to, from here."""


class StandardObjectWriter:
    """Makes records of a connection's objects, in Python: what the native writer is held to.

    New objects that are met on the way are adopted by the connection and queued: `take_new()`
    returns them, so that they can be stored next.
    """

    def __init__(self, connection: WritingConnection) -> None:
        self._jar = connection
        self._new: list[Any] = []

    def serialize(self, obj: Any) -> bytes:
        """Return the record of *obj*.

        Raises UnpicklableError, which leads to the attribute, where something in the object's
        state can't be pickled, and InvalidObjectReference where it refers to an object that this
        database can't refer to.
        """
        return self.dump(obj, obj.__getstate__())

    def dump(self, obj: Any, state: Any) -> bytes:
        """Return the record of *obj* with this state; raises what `serialize` does."""
        try:
            if isinstance(obj, PersistentBroken):
                arguments = obj.__getnewargs__()
                return dump_by_name(type(obj), arguments, state, self.persistent_id)
            return dump_both(describe(obj), state, self.persistent_id)
        except WHAT_PICKLE_RAISES as error:
            explained = explanation(error, obj, state)
            if explained is error:
                raise
            raise explained from error

    def put(self, obj: Any) -> None:
        """Queue *obj* as if it had been met."""
        self._new.append(obj)

    def take_new(self) -> list[Any]:
        """Return the new objects met since the last call, in the order they were met."""
        taken, self._new = self._new, []
        return taken

    def require_targets(self, view: Any) -> None:
        """Do nothing: only the native writer knows what it referred to."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the new objects, the last met first, those that serialising adds too."""
        while self._new:
            yield self._new.pop()

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference to write for *obj*; None if it is to be pickled in place."""
        if not isinstance(obj, _REFERABLE):
            return None
        try:
            oid = obj._p_oid
        except AttributeError:
            return None
        if oid is WeakRefMarker:
            return self._weak_reference(obj) if isinstance(obj, WeakRef) else None
        if not (oid is None or isinstance(oid, bytes)):
            # A plain class whose instances are persistent shows their descriptor here.
            return None
        if oid is None:
            oid = self._adopted(obj)
        if obj._p_jar is not self._jar:
            return self._jar._foreign_reference(obj)
        return reference(oid, type(obj))

    def _adopted(self, obj: Any) -> Oid:
        self._jar._adopt(obj)
        if obj._p_jar is self._jar:
            self._new.append(obj)
        return cast("Oid", obj._p_oid)

    def _weak_reference(self, weak: WeakRef) -> Any:
        target = getattr(weak, "_v_ob", None)
        if target is not None:
            # It may have got its place since, or lost it when a transaction was aborted.
            weak.oid = self._adopted(target) if target._p_oid is None else target._p_oid
            weak.dm = target._p_jar
        # Without a connection, it led to a member that isn't there when it was loaded.
        jar = getattr(weak, "dm", None)
        if jar is self._jar:
            return ["w", (weak.oid,)]
        if jar is not None:
            weak.database_name = self._jar._weak_database(weak)
        return ["w", (weak.oid, weak.database_name)]
