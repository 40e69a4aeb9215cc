"""The object path of a connection by the standard `pickle`: what the native one is held to."""

from typing import Any

from perdure.errors import ConnectionStateError, ForbiddenClassError
from perdure.ids import Oid, Tid, oid_repr
from perdure.serialize.hooks import ConnectionHooks


class StandardConnectionBase(ConnectionHooks):
    """Loads a connection's objects, in Python."""

    _added: dict[Oid, Any]
    _needs_to_join: bool
    _registered_objects: list[Any]
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
            self._blob_loaded(obj, oid, serial, data)

    def _register(self, obj: Any = None) -> None:
        raise NotImplementedError

    def register(self, obj: Any) -> None:
        """Note that *obj* is about to change (called by `persistent`).

        Raises ValueError where it has no oid.
        """
        oid = obj._p_oid
        if oid is None:
            raise ValueError("assigning to _p_jar is not supported; use connection.add()")
        if oid in self._added:
            return
        if self._needs_to_join:
            self._register(obj)
        else:
            self._registered_objects.append(obj)

    def _mark_stored(self, objects: list[Any], tid: Tid) -> None:
        """Note that the states of *objects* are what the transaction *tid* wrote."""
        for obj in objects:
            # A ghost (its conflict was resolved) will load what was stored.
            if obj is not None and obj._p_changed is not None:
                obj._p_changed = False
                obj._p_serial = tid

    def _advance(self, view: Any, at: Tid | None = None) -> list[Oid]:
        """Move *view* to the newest snapshot, or to *at*; return what others changed since."""
        changed: list[Oid] = view.advance(at)
        return changed

    def _loaded_among(self, oids: list[Oid]) -> list[Oid]:
        """Return those of *oids* whose objects may have a state in the cache: all."""
        return oids

    def _tidy_up(self) -> None:
        """Do nothing: nothing is kept beside the cache."""

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
        try:
            ghost = self._reader.getGhost(data)
        except ForbiddenClassError as error:
            self._describe_refusal(error, oid)
            raise
        # A persistent class loads its state at once, and that may refer back to it.
        self._being_made[oid] = ghost
        try:
            self._cache.new_ghost(oid, ghost)
        finally:
            del self._being_made[oid]
        return ghost

    def __getitem__(self, oid: Oid) -> Any:
        """Return the object at *oid*, as `get` does (what weak references call)."""
        return self.get(oid)

    @property
    def _being_made(self) -> dict[Oid, Any]:
        found: dict[Oid, Any] = self.__dict__.setdefault("_ghosts_being_made", {})
        return found
